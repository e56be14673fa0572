"""Re-identification runs: metrics, bit-exact resume, two processes, export, invalid input, learning."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from conftest import RECIPES, Killed, assert_same_run, read_losses, read_result
from forked_runs import fork_run, read_log
from safetensors.torch import load_file

from common.config import load
from common.training.progress import Progress
from finetune.config import FinetuneConfig
from finetune.reid.objective import ReidNetwork

pytestmark = pytest.mark.long

Stage = Callable[..., int]
RECIPE = RECIPES / "reid" / "digits.yaml"
# 16 identities x 2 images, 5 steps per epoch.
TINY = (
    "data.images_per_class=3", "train.batch_size=32", "reid.images_per_identity=2", "model.drop_path=0.1",
    "augment.random_erasing_prob=0.5", "augment.hflip_prob=0.5", "augment.padding=2", "train.evaluate_every=1", "optim.lr=0.01",
)  # fmt: skip


@pytest.fixture
def reid(stage: Stage) -> Stage:
    """Run a tiny re-identification: reid(out, "key=value", ...) -> exit code."""

    def run(out: Path, *overrides: str) -> int:
        return stage("finetune", out, *TINY, *overrides, recipe=RECIPE)

    return run


def test_run_reports_map_and_cmc(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "data.validation_fraction=0.1", "train.epochs=1") == 0
    result = read_result(tmp_path / "run")
    expected = {"map", "rank1", "rank5", "rank10"}
    assert {f"{part}_{name}" for part in ("test", "validation") for name in expected} <= result["metrics"].keys()
    assert {"best_validation_map", "best_validation_epoch"} <= result["metrics"].keys()
    assert len(result["cmc"]) == 50 and result["cmc"] == sorted(result["cmc"]) and result["queries"] == 89
    assert result["cmc"][4] == result["metrics"]["test_rank5"]


def test_killed_run_matches_the_uninterrupted_run(reid: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = ("data.workers=2", "optim.name=sam", "optim.base=sgd", "ema_decay=0.9")
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert reid(uninterrupted, *extra) == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 7:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        reid(resumed, *extra, "train.checkpoint_minutes=1e-9")
    assert reid(resumed, *extra) == 0
    assert_same_run(uninterrupted, resumed)


def test_two_processes_match_the_losses_of_one(reid: Stage, tmp_path: Path) -> None:
    overrides = ("model.drop_path=0.0", "optim.name=sgd")
    assert reid(tmp_path / "one", *overrides) == 0
    two = tmp_path / "two"
    assert fork_run("finetune", two, *TINY, *overrides, processes=2, recipe=RECIPE) == 0, read_log(two)
    one, two = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert len(one) == 10 and two == pytest.approx(one, rel=1e-4)
    map_one, map_two = (read_result(tmp_path / name)["metrics"]["test_map"] for name in ("one", "two"))
    assert map_two == pytest.approx(map_one, abs=0.2)


def test_export_is_the_backbone_without_the_neck(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "train.epochs=1", "model.stem=patchify") == 0
    network = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True).eval()
    state = load_file(sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1] / "state.safetensors")
    assert all(torch.equal(t, state[f"network.backbone.{name}"]) for name, t in network.state_dict().items())
    assert network(torch.zeros(1, 3, 24, 12)).shape == (1, 64)
    description = json.loads((tmp_path / "run" / "export" / "config.json").read_text())
    assert description["pretrained_cfg"]["input_size"] == [3, 24, 12]


def test_reid_resizes_the_position_embedding_of_a_square_pretraining(
    reid: Stage, stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("pretrain", tmp_path / "dino", "train.epochs=1", "model.stem=conv") == 0
    assert reid(tmp_path / "run", f"init={tmp_path / 'dino'}", "optim.lr=1e-12", "train.epochs=1") == 0
    assert "position embedding resized from 3x3 to 6x3 patches" in capsys.readouterr().out
    before = load_file(tmp_path / "dino" / "export" / "model.safetensors")
    after = load_file(tmp_path / "run" / "export" / "model.safetensors")
    assert torch.allclose(before["blocks.0.attn.qkv.weight"], after["blocks.0.attn.qkv.weight"], atol=1e-6)
    assert before["pos_embed"].shape[1] == 10 and after["pos_embed"].shape[1] == 19


def test_neck_normalizes_and_its_bias_stays_zero(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "train.epochs=1") == 0
    state = load_file(sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1] / "state.safetensors")
    assert not state["network.neck.bias"].any() and state["network.neck.running_mean"].any()
    assert state["network.classifier.weight"].shape == (90, 64) and "network.classifier.bias" not in state


def test_layer_decay_covers_backbone_neck_and_classifier() -> None:
    from common.models.networks import ModelConfig, build_network
    from common.training.optimizers import parameter_groups

    backbone = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=(24, 12), num_classes=0)
    model = ReidNetwork(backbone, 5, classifier_std=0.001)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {
        names[id(parameter)]: (group["lr_scale"], group["decayed"])
        for group in parameter_groups(model, layer_decay=0.5, decay_embeddings=False)
        for parameter in group["params"]  # type: ignore[attr-defined]
    }
    assert scales["backbone.pos_embed"] == (0.5**5, False) and scales["classifier.weight"] == (1.0, True)
    assert scales["backbone.blocks.3.mlp.fc1.weight"][0] > scales["backbone.blocks.0.mlp.fc1.weight"][0] == 0.5**4
    assert "neck.bias" not in scales and scales["neck.weight"] == (1.0, False)


@pytest.mark.parametrize(
    ("overrides", "messages"),
    [
        (("data.source=digits",), ["objective: reid", "data.source 'digits'"]),
        (("objective=classification",), ["objective: classification", "objective=reid"]),
        (
            ("objective=classification", "reid.margin=0.3"),
            ["reid: set, but objective is classification"],
        ),
        (("objective=recognition",), ["objective", "recognition", "reid"]),
        (("train.batch_size=17",), ["train.batch_size", "17", "reid.images_per_identity"]),
        (("train.batch_size=256",), ["train.batch_size", "256", "90"]),
        (("augment.mixup=0.8", "augment.aug_repeats=3"), ["augment.mixup", "augment.aug_repeats"]),
        (("reid.images_per_identity=0",), ["reid.images_per_identity", "0"]),
        (("data.image_size=[24,13]",), ["data.image_size", "13", "4"]),
        (("data.image_size=[24,12,3]",), ["data.image_size", "2 values"]),
        (("data.image_size=[24,0]",), ["data.image_size", "at least 1"]),
        (("optim.min_lr=2",), ["optim.min_lr", "fraction of the peak"]),
    ],
)
def test_invalid_key_or_value_is_reported(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], messages: list[str]
) -> None:
    tiny = [word for word in TINY if not overrides[0].startswith("objective=c") or "reid" not in word]
    assert stage("finetune", tmp_path / "run", *tiny, *overrides, recipe=RECIPE) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for message in messages:
        assert message in error


def test_dry_run_counts_the_steps_of_pk_batches(
    reid: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reid(tmp_path / "run", "--dry-run") == 0
    output = capsys.readouterr().out
    assert "270 for training, 89 for test queries" in output and "steps         10 of 32 images" in output


def test_dry_run_refuses_micro_batches_as_the_run_does(
    reid: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reid(tmp_path / "run", "--dry-run", "train.micro_batch_size=8") == 2
    assert "train.micro_batch_size = 8: this loss compares the images of a batch" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "erasing"), [("market1501", 0.5), ("msmt17", 0.8)])
def test_reid_recipes_have_the_papers_hyperparameters(name: str, erasing: float) -> None:
    config = load(FinetuneConfig, RECIPES / "reid" / f"{name}.yaml")
    assert config.data.image_size == (256, 128) and config.data.layout == name
    assert (config.train.batch_size, config.reid.images_per_identity, config.train.epochs) == (64, 4, 120)
    assert config.reid.margin is None and config.augment.label_smoothing == 0
    assert config.augment.random_erasing_prob == erasing
    assert (config.optim.name, config.optim.weight_decay, config.optim.warmup_lr) == ("sgd", 1e-4, 0.01)


def test_reid_learns_on_digits(stage: Stage, tmp_path: Path) -> None:
    """A fraction of the recipe's length; mAP is 2.8 for a random ranking, 5.5 for raw pixels."""
    overrides = ("data.images_per_class=none", "train.epochs=3", "train.batch_size=64")
    assert stage("finetune", tmp_path / "run", *overrides, recipe=RECIPE) == 0
    assert read_result(tmp_path / "run")["metrics"]["test_map"] > 9
