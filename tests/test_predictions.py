"""Runs write the predictions for every test image before their result: complete, reproducible, never stale."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import RECIPES, Killed, assert_same_run, read_result
from forked_runs import fork_run, read_log

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.evaluation.class_averages import confusion_matrix
from common.evaluation.classification import CLASS_AVERAGES
from common.evaluation.predictions import Predictions, per_image, read_predictions
from common.training.progress import Progress
from common.training.run_folder import RunFolder

Stage = Callable[..., int]
TOKENS = ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv")
REID = ("data.images_per_class=3", "train.batch_size=32", "reid.images_per_identity=2", "train.epochs=1")
BY_FRACTION = ("data.images_per_class=none", "data.fraction=0.05")
PREDICTIONS = "predictions.parquet"
KNN_AVERAGES = ("knn_balanced_accuracy", "knn_macro_f1")


def predictions_of(out: Path) -> Predictions:
    return read_predictions(out / PREDICTIONS)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("finetune", ("train.epochs=1",)),
        ("finetune", (*TOKENS, "train.epochs=1")),
        ("linear", ("train.epochs=1",)),
        ("knn", ("knn.ks=[5,20]",)),
        ("probe", ("features=pixels", "l2=[0.1]")),
    ],
    ids=["finetune", "token labels", "linear", "knn", "probe"],
)
def test_test_metrics_are_means_over_the_predictions(
    stage: Stage, tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    assert stage(name, tmp_path / "run", *overrides) == 0
    predictions, metrics = predictions_of(tmp_path / "run"), read_result(tmp_path / "run")["metrics"]
    named = {
        "knn": ["knn_top1", "knn5_top1", *KNN_AVERAGES],
        "probe": [f"probe_{key}" for key in ("top1", "top5", *CLASS_AVERAGES)],
    }
    assert list(predictions.metrics) == named.get(name, ["top1", "top5", "loss", *CLASS_AVERAGES])
    for metric in predictions.metrics:
        values = per_image(predictions, metric)
        if not metric.endswith(("top1", "top5")):
            assert values.mean() == pytest.approx(metrics[f"test_{metric}"], abs=1e-6 if metric == "loss" else 1e-4)
        else:
            assert 100 * float(torch.tensor(values / 100).float().mean()) == metrics[f"test_{metric}"]
    test = open_splits(DataConfig(), labeled=True).test
    assert test is not None and test.labels is not None
    assert predictions.target.tolist() == test.labels.tolist() and predictions.fingerprint == test.fingerprint
    assert predictions.images == tuple(test.image_ids()) and predictions.class_names == tuple("0123456789")
    rows = list(csv.reader((tmp_path / "run" / "confusion_matrix.csv").read_text().splitlines()))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == list("0123456789")
    matrix = np.array([row[1:] for row in rows[1:]], dtype=int)
    assert np.array_equal(matrix, confusion_matrix(predictions.target, predictions.prediction, 10))


def test_reidentification_has_a_row_per_query(stage: Stage, tmp_path: Path) -> None:
    recipe = RECIPES / "reid" / "digits.yaml"
    assert stage("finetune", tmp_path / "run", *REID, recipe=recipe) == 0
    predictions, metrics = predictions_of(tmp_path / "run"), read_result(tmp_path / "run")["metrics"]
    assert len(predictions.images) == 89 and list(predictions.metrics) == ["map", "rank1", "rank5", "rank10"]
    for metric in predictions.metrics:
        assert per_image(predictions, metric).mean() == pytest.approx(metrics[f"test_{metric}"], abs=1e-5)
    assert np.mean(predictions.prediction == predictions.target) == pytest.approx(metrics["test_rank1"] / 100)
    assert predictions.split == "test query"


def test_a_run_killed_before_its_result_writes_the_same_predictions(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert stage("finetune", uninterrupted) == 0
    write = RunFolder.write

    def write_or_die(self: RunFolder, name: str, text: str) -> None:
        if name == "result.json":
            raise Killed
        write(self, name, text)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write", write_or_die)
        stage("finetune", resumed)
    assert (resumed / PREDICTIONS).exists() and not (resumed / "result.json").exists()
    (resumed / PREDICTIONS).write_bytes(b"of the killed attempt")
    assert stage("finetune", resumed) == 0
    assert_same_run(uninterrupted, resumed)
    assert (resumed / PREDICTIONS).read_bytes() == (uninterrupted / PREDICTIONS).read_bytes()


@pytest.mark.parametrize("name", ["finetune", "knn"])
def test_a_run_that_starts_again_discards_the_predictions_of_an_earlier_attempt(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    (out / "result.json").unlink()
    shutil.rmtree(out / "checkpoints", ignore_errors=True)

    def die(self: Progress, step: int) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", die)
        stage(name, out)
    assert not (out / PREDICTIONS).exists() and not (out / "confusion_matrix.csv").exists()


def test_a_run_that_has_ended_keeps_its_predictions(stage: Stage, tmp_path: Path) -> None:
    assert stage("knn", tmp_path / "run") == 0
    before = (tmp_path / "run" / PREDICTIONS).read_bytes()
    assert stage("knn", tmp_path / "run") == 0
    assert (tmp_path / "run" / PREDICTIONS).read_bytes() == before


def test_a_diverged_run_has_no_predictions(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run", "optim.name=sgd", "optim.lr=1e30", "optim.warmup_epochs=0") == 0
    assert read_result(tmp_path / "run")["status"] == "diverged" and not (tmp_path / "run" / PREDICTIONS).exists()


@pytest.mark.parametrize("name", ["finetune", "knn"])
def test_two_processes_write_the_file_of_one(stage: Stage, tmp_path: Path, name: str) -> None:
    """Equal up to the rounding of matrix products, which depends on the number of rows."""
    assert stage(name, tmp_path / "one") == 0
    assert fork_run(name, tmp_path / "two", processes=2) == 0, read_log(tmp_path / "two")
    one, two = predictions_of(tmp_path / "one"), predictions_of(tmp_path / "two")
    for field in ("images", "metrics", "split", "fingerprint", "class_names"):
        assert getattr(one, field) == getattr(two, field)
    assert one.scores is not None and two.scores is not None
    assert one.target.tolist() == two.target.tolist() and two.scores == pytest.approx(one.scores, rel=1e-3, abs=1e-5)
    assert np.mean(one.prediction == two.prediction) > 0.99
    if name == "finetune":
        assert two.loss == pytest.approx(one.loss, rel=1e-3)


@pytest.mark.parametrize("name", ["finetune", "linear"])
def test_the_share_of_the_validation_labels_has_metrics(stage: Stage, tmp_path: Path, name: str) -> None:
    assert stage(name, tmp_path / "run", *BY_FRACTION, "train.epochs=1") == 0
    metrics = read_result(tmp_path / "run")["metrics"]
    found = {key: value for key, value in metrics.items() if key.startswith("validation_subset_")}
    assert found.keys() == {f"validation_subset_{key}" for key in ("top1", "loss", "images", *CLASS_AVERAGES)}
    assert found["validation_subset_images"] == 10
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert found.items() <= lines[-1].items()
