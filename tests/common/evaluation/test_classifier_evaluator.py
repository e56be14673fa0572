"""Tests of the classifier's evaluation: metrics of the share of the validation images whose labels a choice may use."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from common.data.config import DataConfig
from common.data.splits.subset import draw_subset
from common.evaluation import classifier_evaluator
from common.evaluation.classification import classification_metrics
from common.evaluation.classifier_evaluator import ClassifierEvaluator

LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(7), 20))
LOGITS = torch.randn(140, 7, generator=torch.Generator().manual_seed(0))


def validate(monkeypatch: pytest.MonkeyPatch, labels: np.ndarray = LABELS, **keys: Any) -> dict[str, float]:
    """Return the validation metrics of prepared logits."""
    monkeypatch.setattr(classifier_evaluator, "predict", lambda *_, **__: (LOGITS[: len(labels)], torch.tensor(labels)))
    splits: Any = SimpleNamespace(validation=SimpleNamespace(labels=labels))
    run: Any = None
    evaluator = ClassifierEvaluator(run, splits, DataConfig(**keys), batch_size=8, crop_pct=1.0)
    evaluation = evaluator.evaluate(nn.Identity(), "validation")
    assert evaluation is not None and evaluation.predictions is None
    return evaluation.metrics


def test_subset_metrics_are_those_of_the_nested_share(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = validate(monkeypatch, fraction=0.3, subset_seed=4)
    rows = torch.as_tensor(draw_subset(LABELS, fraction=0.3, seed=4).indices)
    expected = classification_metrics(LOGITS[rows], torch.tensor(LABELS)[rows])
    chosen_by = ("top1", "loss", "balanced_accuracy", "macro_f1", "auroc")
    assert {name: metrics[f"subset_{name}"] for name in chosen_by} == {name: expected[name] for name in chosen_by}
    assert metrics["subset_images"] == 42
    everything = classification_metrics(LOGITS, torch.tensor(LABELS))
    assert {name: metrics[name] for name in everything} == everything


def test_all_labels_give_the_metrics_of_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = validate(monkeypatch)
    assert (metrics["subset_top1"], metrics["subset_loss"]) == (metrics["top1"], metrics["loss"])
    assert metrics["subset_images"] == 140


def test_a_share_that_would_leave_a_class_empty_keeps_one_image_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert validate(monkeypatch, fraction=0.01)["subset_images"] == 7


@pytest.mark.parametrize("keys", [{"images_per_class": 3}, {"subset_file": "some.json"}])
def test_other_subsets_than_a_fraction_have_no_share(monkeypatch: pytest.MonkeyPatch, keys: dict[str, Any]) -> None:
    assert not any(name.startswith("subset_") for name in validate(monkeypatch, **keys))
