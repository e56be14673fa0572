"""Tests of the k-NN and token similarity evaluations as stages: metrics, files, stop by signal, error messages."""

import csv
import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import RECIPES, read_result

from common.config import load
from common.data.augment.supervised import EvaluationTransform
from common.data.loading.loader import build_evaluation_loader
from common.data.open_splits import open_splits
from common.errors import UserError
from common.evaluation.__main__ import main
from common.evaluation.config import KnnEvaluationConfig, TokensConfig
from common.evaluation.features import feature_rank, network_outputs
from common.evaluation.frozen import PooledFeatures, build_frozen
from common.evaluation.knn import classify_by_neighbors, neighbor_metrics
from common.evaluation.knn_run import held_out
from common.evaluation.token_similarity import LayerSimilarities
from common.models.networks import build_network
from common.training.progress import Progress
from common.training.run import INTERRUPTED

Stage = Callable[..., int]


def test_knn_metrics_are_those_of_the_networks_features(stage: Stage, tmp_path: Path) -> None:
    assert stage("knn", tmp_path / "run", "knn.ks=[5,20,2]") == 0
    config = load(KnnEvaluationConfig, tmp_path / "run" / "config.yaml")
    data, splits = config.data, open_splits(config.data, labeled=True)
    torch.manual_seed(0)
    network = build_network(config.model, image_size=data.image_size, num_classes=0)
    features = {}
    for name in ("train", "validation", "test"):
        loader = build_evaluation_loader(
            getattr(splits, name), EvaluationTransform(data.image_size, 1.0), 50, workers=0
        )
        features[name], _ = network_outputs(network, loader, mean=data.mean, std=data.std, device=torch.device("cpu"))
    metrics = read_result(tmp_path / "run")["metrics"]
    for name, prefix in (("validation", ""), ("test", "test_")):
        labels = [torch.as_tensor(getattr(splits, part).labels) for part in (name, "train")]
        found = classify_by_neighbors(
            features[name], labels[0], features["train"], labels[1], num_classes=10, ks=(5, 20, 2), temperature=0.07
        )
        wanted = neighbor_metrics(found, labels[0])
        wanted["feature_rank"] = feature_rank(features[name])
        assert {key: metrics[f"{prefix}{key}"] for key in wanted} == pytest.approx(wanted, rel=1e-3)
    assert len(metrics) == 14


def test_knn_after_pre_training_reproduces_the_accuracy_of_pre_training(stage: Stage, tmp_path: Path) -> None:
    words = ("knn.ks=[5]", "knn.bank_images=50", "train.seed=3")
    assert stage("pretrain", tmp_path / "dino", *words, "train.epochs=1") == 0
    assert stage("knn", tmp_path / "knn", *words, f"init={tmp_path / 'dino'}") == 0
    assert stage("knn", tmp_path / "untrained", *words) == 0
    pretrained = read_result(tmp_path / "dino")["metrics"]
    assert read_result(tmp_path / "knn")["metrics"]["knn_top1"] == pretrained["knn_top1"]
    assert read_result(tmp_path / "untrained")["metrics"]["knn_top1"] == pretrained["knn_top1_untrained"]


def test_bank_images_limits_the_bank(stage: Stage, tmp_path: Path) -> None:
    assert stage("knn", tmp_path / "run", "knn.bank_images=30") == 0
    result = read_result(tmp_path / "run")
    assert result["splits"]["bank"] == 30 and result["images"] == 30 + 287 + 359 and result["train_images"] == 80


def test_token_similarity_is_averaged_over_images_and_written_as_table_and_figure(stage: Stage, tmp_path: Path) -> None:
    assert stage("tokens", tmp_path / "run", "split=validation", "images=1000", "model.stem=conv") == 0
    config = load(TokensConfig, tmp_path / "run" / "config.yaml")
    data, split = config.data, open_splits(config.data, labeled=False).validation
    network = build_frozen(config.model, None, image_size=data.image_size, seed=0)
    loader = build_evaluation_loader(split, EvaluationTransform(data.image_size, 1.0), 50, workers=0)
    by_image, _ = network_outputs(
        LayerSimilarities(network), loader, mean=data.mean, std=data.std, device=torch.device("cpu")
    )
    wanted = {f"similarity_{layer:02d}": value for layer, value in enumerate(by_image.mean(0).tolist())}
    result = read_result(tmp_path / "run")
    assert result["metrics"] == pytest.approx(wanted, abs=1e-5) and result["images"] == 287
    with (tmp_path / "run" / "tokens.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert (
        [row["name"] for row in rows]
        == result["layers"]
        == ["stem", "position embedding"] + [f"block {number}" for number in range(1, 5)]
    )
    assert [float(row["similarity"]) for row in rows] == pytest.approx(list(wanted.values()), abs=1e-5)
    assert (tmp_path / "run" / "tokens.png").read_bytes().startswith(b"\x89PNG")


def test_a_sample_of_images_depends_on_the_seed(stage: Stage, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert stage("tokens", tmp_path / name, "images=20", f"train.seed={seed}") == 0
    results = {name: read_result(tmp_path / name) for name in "abc"}
    assert results["a"]["images"] == 20
    assert results["a"]["metrics"] == results["b"]["metrics"] != results["c"]["metrics"]


@pytest.mark.parametrize("name", ["knn", "probe", "tokens"])
def test_a_signal_stops_the_run_and_the_same_command_starts_over(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert stage(name, tmp_path / "uninterrupted") == 0
    advance = Progress.advance

    def advance_and_signal(self: Progress, step: int) -> None:
        advance(self, step)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", advance_and_signal)
        assert stage(name, tmp_path / "interrupted") == INTERRUPTED
    result = read_result(tmp_path / "interrupted")
    assert result["status"] == "interrupted" and "SIGTERM" in result["reason"] and result["metrics"] == {}
    assert stage(name, tmp_path / "interrupted") == 0
    assert read_result(tmp_path / "interrupted")["metrics"] == read_result(tmp_path / "uninterrupted")["metrics"]
    before = (tmp_path / "interrupted" / "result.json").read_text()
    assert stage(name, tmp_path / "interrupted") == 0
    assert (tmp_path / "interrupted" / "result.json").read_text() == before


@pytest.mark.parametrize(
    ("name", "module"), [("knn", PooledFeatures), ("probe", PooledFeatures), ("tokens", LayerSimilarities)]
)
def test_non_finite_outputs_are_a_divergence(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: type[torch.nn.Module]
) -> None:
    monkeypatch.setattr(module, "forward", lambda _, images: torch.full((len(images), 3), torch.nan))
    assert stage(name, tmp_path / "run") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged" and "not finite" in result["reason"] and result["metrics"] == {}


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("tokens", ["split=validation", "data.validation_fraction=0"], ["split = validation", "data.validation_fraction"]),
        ("tokens", ["split=train"], ["split = 'train'", "validation"]),
        ("tokens", ["data.image_size=4"], ["data.image_size = 4", "single patch"]),
        ("tokens", ["images=0"], ["images", "at least 1"]),
        ("knn", ["knn.ks=[]"], ["knn.ks"]),
        ("knn", ["knn.every_epochs=1"], ["knn.every_epochs: unknown key"]),
        ("knn", ["train.epochs=3"], ["train.epochs: unknown key"]),
        ("knn", ["train.precision=fp16"], ["train.precision", "fp16"]),
        ("knn", ["model.drop_path=0.3"], ["model.drop_path: 0.3", "nothing is trained"]),
        ("tokens", ["model.drop_path=0.3"], ["model.drop_path: 0.3", "nothing is trained"]),
    ],
)  # fmt: skip
def test_an_invalid_key_or_value_is_reported(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    overrides: list[str],
    words: list[str],
) -> None:
    assert stage(name, tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and all(word in error for word in words)


def test_missing_labeled_held_out_images_are_reported() -> None:
    unlabeled = SimpleNamespace(validation=None, test=SimpleNamespace(labels=None))
    with pytest.raises(UserError, match=r"data\.validation_fraction"):
        list(held_out(unlabeled))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("linear", ["classifier    256 features", "8 of 20 images"]),
        ("knn", ["80 neighbors"]),
        ("probe", ["regression    64 features to 10 classes, 2 strengths compared on 80 validation images"]),
        ("tokens", ["layers        6"]),
    ],
)
def test_a_dry_run_prints_the_cost_and_writes_nothing(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str]
) -> None:
    assert stage(name, tmp_path / "run", "--dry-run") == 0
    output = capsys.readouterr().out
    assert all(word in output for word in [*words, "vit_mini, frozen: 0.20 M parameters"])
    assert not (tmp_path / "run").exists()


def test_help_documents_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["knn", "--help"])
    output = capsys.readouterr().out
    assert exit_info.value.code == 0 and "-m common.evaluation knn" in output and "knn.bank_images" in output
    assert "init  (a string or none; required)" in output


def test_an_unknown_evaluation_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["liner", str(RECIPES / "digits" / "linear.yaml")])
    assert exit_info.value.code == 2 and "linear" in capsys.readouterr().err
