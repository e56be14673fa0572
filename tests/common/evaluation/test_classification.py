"""Tests of classification metrics against reference loops."""

import pytest
import torch

from common.evaluation.classification import calibration_error, classification_metrics, per_class_accuracy
from common.evaluation.features import evaluation_mode


def test_calibration_error_matches_the_loop_over_bins() -> None:
    torch.manual_seed(0)
    logits, labels = 2 * torch.randn(500, 6), torch.randint(0, 6, (500,))
    confidence, predicted = logits.softmax(1).max(1)
    expected = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            accuracy = (predicted == labels)[inside].double().mean()
            expected += float(inside.double().mean() * (accuracy - confidence[inside].double().mean()).abs())
    assert calibration_error(logits, labels) == pytest.approx(100 * expected, abs=1e-4)


def test_top1_and_top5_by_hand() -> None:
    logits = torch.tensor([[9.0, 8, 7, 6, 5, 4, 3], [3.0, 4, 5, 6, 7, 8, 9], [9.0, 8, 7, 6, 5, 4, 3]])
    metrics = classification_metrics(logits, torch.tensor([0, 2, 6]))
    assert metrics["top1"] == pytest.approx(100 / 3) and metrics["top5"] == pytest.approx(200 / 3)


def test_top5_is_omitted_for_five_classes() -> None:
    assert "top5" not in classification_metrics(torch.randn(4, 5), torch.tensor([0, 1, 2, 3]))


def test_per_class_accuracy_omits_absent_classes() -> None:
    logits = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]])
    assert per_class_accuracy(logits, torch.tensor([0, 1, 1]), ["a", "b", "c"]) == {"a": 100.0, "b": 50.0}


def test_evaluation_mode_restores_the_mode_of_every_module() -> None:
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.BatchNorm1d(2))
    model[1].eval()
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training and model[0].training and not model[1].training
