"""The k-NN accuracy of a teacher that falls below its starting point is reported; noise is not."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import read_result

from common.config import build
from pretrain import monitor as module
from pretrain.config import PretrainConfig
from pretrain.monitor import Monitor

NUM_IMAGES = 100
"""At an accuracy of 80 the standard error is 4 points."""


def run_monitor(monkeypatch: pytest.MonkeyPatch, accuracies: list[float], init: str | None = "weights") -> Monitor:
    """Return a monitor that has evaluated a network with these k-NN accuracies, one per epoch, the first at the start."""
    labels = torch.zeros(NUM_IMAGES, dtype=torch.long)
    split: Any = SimpleNamespace(labels=labels, labeled=lambda: None)
    run: Any = SimpleNamespace(device=torch.device("cpu"), log=lambda *_: None)
    splits: Any = SimpleNamespace(
        train=split,
        validation=type("Part", (), {"labels": labels, "__len__": lambda _: NUM_IMAGES})(),
        class_names=("a",),
    )
    config = build(PretrainConfig, {"out": "x", "init": init}, source="a test")
    monitor = Monitor(config, run, splits)
    monkeypatch.setattr(monitor, "_features", lambda *_, **__: (torch.randn(4, 2), labels))
    monkeypatch.setattr(module, "sample_images", lambda *_, **__: None)
    values = iter(accuracies)
    monkeypatch.setattr(module, "knn_accuracy", lambda *_, **__: {"knn_top1": next(values)})
    for epoch in range(len(accuracies)):
        monitor.evaluate(torch.nn.Identity(), step=10 * epoch, epoch=epoch)
    return monitor


def test_a_fall_of_more_than_the_standard_error_is_logged_at_every_evaluation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        monitor = run_monitor(monkeypatch, [80.0, 76.1, 75.9, 90.0, 60.0])
    assert monitor.epochs_below_start == [2, 4]
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(
        "warning: epoch 2: k-NN top-1 75.9 is below the 80.0 at the start (100 validation images, standard error 4.0). Try"
    )
    assert "epoch 4: k-NN top-1 60.0" in second and "lora.rank" in second
    assert (
        monitor.fall() == "k-NN top-1 60.0 is below the 80.0 at the start (100 validation images, standard error 4.0)"
    )


def test_without_init_there_is_no_advice(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        run_monitor(monkeypatch, [80.0, 60.0], init=None)
    assert caplog.records[0].getMessage().endswith("standard error 4.0)")


@pytest.mark.parametrize("accuracies", [[80.0, 76.1], [80.0, 100.0], [100.0, 100.0], [0.0, 0.0], [80.0, 60.0, 80.0]])
def test_the_last_evaluation_decides_the_outcome(monkeypatch: pytest.MonkeyPatch, accuracies: list[float]) -> None:
    assert run_monitor(monkeypatch, accuracies).fall() is None


def test_epochs_below_the_start_are_kept_in_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = (run_monitor(monkeypatch, accuracies) for accuracies in ([80.0, 60.0], [80.0]))
    for monitor in (before, after):
        monitor.run.gather_rows = lambda values: [values.tolist()]
        monitor.run.local_shard = lambda gathered: torch.tensor(gathered[0])
    state = before.state_dict()
    after.load_state_dict(state)
    assert after.epochs_below_start == [1]
    del state["epochs_below_start"]  # a checkpoint of an earlier version
    after.load_state_dict(state)
    assert after.epochs_below_start == []


@pytest.mark.parametrize("broken", ["queries", "bank"])
def test_neighbors_of_features_that_are_not_finite_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """They were all of one class: the k-NN accuracy of a network that puts out NaN was that of a constant."""
    monitor = run_monitor(monkeypatch, [80.0])
    features = {"queries": torch.randn(4, 2), "bank": torch.randn(4, 2)}
    features[broken][0] = torch.nan
    values = iter(features.values())
    monkeypatch.setattr(monitor, "_features", lambda *_, **__: (next(values), torch.zeros(4, dtype=torch.long)))
    monitor.evaluate(torch.nn.Identity(), step=10, epoch=1)
    assert "knn_top1" not in monitor.latest
    assert math.isnan(monitor.latest["feature_rank"]) == (broken == "queries")


def test_a_run_that_ends_with_features_that_are_not_finite_has_diverged(
    stage: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Monitor._features
    nan_from = iter([1.0, 1.0, 1.0, 1.0])  # the start and the first of two epochs: validation images and neighbors

    def features(self: Monitor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        values, labels = original(self, *args, **kwargs)
        return values * next(nan_from, torch.nan), labels

    monkeypatch.setattr(Monitor, "_features", features)
    assert stage("pretrain", tmp_path / "run") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged"
    assert "feature_rank is nan" in result["reason"]


def test_a_fall_is_in_the_result(stage: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([90.0, 90.0, 20.0])
    monkeypatch.setattr(module, "knn_accuracy", lambda *_, **__: {"knn_top1": next(values)})
    assert stage("pretrain", tmp_path / "run") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "finished" and result["epochs_below_start"] == [2]
    assert "; k-NN top-1 20.0 is below the 90.0 at the start (287 validation images" in result["reason"]
