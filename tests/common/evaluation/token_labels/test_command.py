"""Tests of the stage that writes token labels: the teacher's logits, the files, a restart, two processes."""

import numpy as np
import pytest
import timm
import torch
from conftest import RECIPES, TINY, read_result
from forked_runs import fork_run, read_log
from safetensors import safe_open
from timm.models.volo import VOLO

from common.config import load
from common.data.loading.loader import normalize
from common.data.open_splits import open_splits
from common.data.token_labels.files import shard_path
from common.data.token_labels.reader import open_token_labels
from common.errors import UserError
from common.evaluation.token_labels.command import WriteTokenLabelsConfig, main
from common.evaluation.token_labels.teacher import build_teacher, token_logits
from common.evaluation.token_labels.writer import WholeImageTransform
from common.training.run import INTERRUPTED, Run

RECIPE = RECIPES / "digits" / "token_labels.yaml"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run of fine-tuning of a few steps; the labels need not be correct."""
    from finetune.__main__ import main as finetune

    out = tmp_path_factory.mktemp("teacher") / "run"
    recipe = str(RECIPES / "digits" / "finetune.yaml")
    assert finetune([recipe, *TINY["finetune"], f"out={out}", "train.epochs=1"]) == 0
    return out


def arguments(teacher, out, *more):
    return [str(RECIPE), *TINY["token_labels"], f"init={teacher}", f"out={out}", *more]


def images(count=2, size=12):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_head_is_applied_to_each_patch_token(teacher):
    network = timm.create_model(f"local-dir:{teacher}/export", pretrained=True).eval()
    scores = token_logits(network, images())
    tokens = network.forward_features(images())[:, 1:]
    assert scores.shape == (2, 3, 3, 10)
    assert torch.allclose(scores[1, 2, 1], network.head(tokens[1, 7]), atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["test_nfnet", "test_resnet", "test_convnext"])
def test_logits_of_the_positions_average_to_the_logits_of_a_network_with_average_pooling(name):
    network = timm.create_model(name, num_classes=7).eval()
    scores = token_logits(network, images(2, 96))
    assert scores.shape[0] == 2 and scores.shape[1] == scores.shape[2] > 1 and scores.shape[3] == 7
    if name != "test_convnext":  # it normalizes after the average pooling
        assert torch.allclose(scores.mean((1, 2)), network(images(2, 96)), atol=1e-4)


@torch.no_grad()
def test_volos_own_token_classifier_is_used():
    network = VOLO(layers=(1, 1, 1, 1), embed_dims=(16, 32, 32, 32), num_heads=(1, 1, 1, 1), num_classes=7).eval()
    pictures = images(1, 224)
    scores = token_logits(network, pictures)
    logits = network.head(network.forward_features(pictures)[:, 0]) + 0.5 * scores.flatten(1, 2).max(1)[0]
    assert scores.shape == (1, 14, 14, 7) and torch.allclose(logits, network(pictures), atol=1e-5)


def test_the_files_hold_the_teachers_top_k_classes(teacher, tmp_path, capsys):
    out = tmp_path / "labels"
    assert main([*arguments(teacher, out), "--dry-run"]) == 0
    assert "3 x 3 positions, 5 of 10 classes" in capsys.readouterr().out and not out.exists()
    assert main(arguments(teacher, out)) == 0
    config = load(WriteTokenLabelsConfig, RECIPE, arguments(teacher, out)[1:])
    splits = open_splits(config.data, labeled=True)
    reader = open_token_labels(out, splits.subset, num_classes=10)
    classes, probabilities = reader.read(range(len(splits.train)))
    pictures = [splits.train.image(index) for index in range(len(splits.train))]
    network = build_teacher(str(teacher), config.data, splits.class_names)
    with torch.no_grad():
        view = WholeImageTransform(12)(pictures, [])
        wanted = token_logits(network, normalize(view.blocks[0][0], config.data.mean, config.data.std)).softmax(-1)
    assert torch.allclose(probabilities.float(), wanted.topk(5).values, atol=1e-3)
    assert torch.allclose(wanted.gather(-1, classes.long()), wanted.topk(5).values, atol=1e-6)
    right = (wanted.mean((1, 2)).argmax(1).numpy() == splits.train.labels).mean()
    result = read_result(out)
    assert result["metrics"]["token_label_top1"] == pytest.approx(100 * right, abs=1e-6)
    assert result["images"] == len(splits.train) and result["status"] == "finished"
    fewer = splits.subset.indices[::7]
    some = open_token_labels(out, type(splits.subset)(**{**splits.subset.__dict__, "indices": fewer}), num_classes=10)
    assert torch.equal(some.read([2])[0], classes[[14]])


def test_a_stopped_run_writes_only_the_missing_shards(teacher, tmp_path, monkeypatch):
    out = tmp_path / "labels"
    stop_requested = iter([False, False, True])
    with monkeypatch.context() as patched:
        patched.setattr(Run, "is_stop_requested", lambda run: next(stop_requested))
        assert main(arguments(teacher, out)) == INTERRUPTED
    # 3 batches of 32 images are done: one shard of 64 images is complete, and half of the next is lost.
    assert shard_path(out, 0).is_file() and not shard_path(out, 1).is_file() and not (out / "labels.json").exists()
    before = shard_path(out, 0).stat().st_mtime_ns
    assert main(arguments(teacher, out)) == 0
    assert shard_path(out, 0).stat().st_mtime_ns == before and (out / "labels.json").is_file()
    assert main(arguments(teacher, out)) == 0, "a finished run has nothing to do"


def test_two_processes_write_the_same_files_as_one(teacher, tmp_path):
    assert main(arguments(teacher, tmp_path / "one", "train.batch_size=16")) == 0
    two = tmp_path / "two"
    assert fork_run("token_labels", two, f"init={teacher}", processes=2) == 0, read_log(two)
    names = sorted(path.name for path in (tmp_path / "one").glob("labels-*"))
    assert len(names) == 4 and names == sorted(path.name for path in (tmp_path / "two").glob("labels-*"))
    one, two = (read_result(tmp_path / run)["metrics"] for run in ("one", "two"))
    assert one == two and read_result(tmp_path / "two")["num_processes"] == 2
    assert (tmp_path / "one" / "labels.json").read_text() == (tmp_path / "two" / "labels.json").read_text()
    for name in names:
        one, two = (safe_open(tmp_path / run / name, framework="numpy") for run in ("one", "two"))
        # The logits of a position depend on the batch size in the last digit.
        assert np.array_equal(one.get_tensor("positions"), two.get_tensor("positions")), name
        probabilities = [file.get_tensor("probabilities").astype(float) for file in (one, two)]
        assert np.allclose(*probabilities, atol=1e-3) and one.metadata().keys() == two.metadata().keys()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["init=no/such/run"], ["init", "no/such/run"]),
        (["data.mean=[0.5,0.5,0.5]"], ["data.mean", "0.5", "0.3"]),
        (["classes=11"], ["classes = 11", "10 classes"]),
        (["classes=0"], ["classes", "at least 1"]),
        (["data.on_corrupt=skip"], ["data.on_corrupt", "its own labels"]),
        (["data.image_size=18"], ["data.image_size = 18", "4 x 4"]),
    ],
)
def test_invalid_input_is_reported(teacher, tmp_path, capsys, more, words):
    assert main(arguments(teacher, tmp_path / "labels", *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for word in words:
        assert word in error


def test_a_checkpoint_is_the_same_teacher_as_the_export(teacher):
    config = load(WriteTokenLabelsConfig, RECIPE, [f"init={teacher}"])
    checkpoint = max((teacher / "checkpoints").glob("step-*"))
    names = open_splits(config.data, labeled=True).class_names
    one, other = (build_teacher(str(path), config.data, names) for path in (teacher, checkpoint))
    with torch.no_grad():
        assert torch.equal(one(images()), other(images()))
    with pytest.raises(UserError, match="has 10 classes, the data has 3"):
        build_teacher(str(checkpoint), config.data, tuple("abc"))


def test_a_teacher_of_other_classes_is_rejected(teacher):
    config = load(WriteTokenLabelsConfig, RECIPE, [f"init={teacher}"])
    with pytest.raises(UserError, match="has 10 classes, the data has 3"):
        build_teacher(str(teacher), config.data, tuple("abc"))
    with pytest.raises(UserError, match="another order"):
        build_teacher(str(teacher), config.data, tuple(np.arange(10).astype(str)[::-1]))
