"""AUROC against values by hand and scikit-learn, and its values by image against the jackknife."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from torch import Tensor

from common.evaluation.auroc import auroc, auroc_by_image


def draw(images: int, num_classes: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return logits (N, C) and labels (N,); the last class is rare."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10 * num_classes - 5, (images,), generator=generator) // 10
    logits = 2 * torch.randn(images, num_classes, generator=generator)
    return logits + 2 * torch.eye(num_classes)[labels], labels


def test_two_classes_by_hand() -> None:
    logits, labels = torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.0, 2.0], [0.0, 2.0]]), torch.tensor([0, 1, 1, 0])
    assert auroc(logits, labels) == pytest.approx(100 * (1 + 1 + 1 + 0.5) / 4)


@pytest.mark.parametrize("num_classes", [2, 3, 12])
def test_values_are_those_of_scikit_learn(num_classes: int) -> None:
    logits, labels = draw(300, num_classes)
    scores = (logits[:, 1] - logits[:, 0]) if num_classes == 2 else logits.double().softmax(1)
    expected = 100 * sklearn.metrics.roc_auc_score(labels.numpy(), scores.numpy(), multi_class="ovr")
    assert auroc(logits, labels) == pytest.approx(expected)
    assert float(auroc_by_image(logits, labels).mean()) == pytest.approx(expected)


def test_constant_scores_are_at_chance() -> None:
    labels = torch.tensor([0, 1, 2, 2, 2])
    assert auroc(torch.zeros(5, 3), labels) == 50
    assert auroc_by_image(torch.zeros(5, 3), labels).tolist() == pytest.approx([50.0] * 5)


def test_confident_logits_are_ranked() -> None:
    """Their probabilities all round to 1 in single precision."""
    logits = torch.tensor([[0.0, 0.0, 20.0], [0.0, 0.0, 21.0], [0.0, 0.0, 22.0], [0.0, 0.0, 23.0]])
    assert logits.softmax(1)[:, 2].unique().numel() < 4
    assert auroc(logits, torch.tensor([0, 0, 2, 2])) == pytest.approx(100)


def test_only_classes_with_images_count() -> None:
    logits, labels = draw(100, 3)
    logits = torch.cat([logits, torch.full((100, 1), -torch.inf)], dim=1)
    assert auroc(logits, labels) == pytest.approx(auroc(logits[:, :3], labels))
    assert auroc(logits, torch.zeros(100, dtype=torch.long)) is None


def test_logits_that_are_not_a_number_have_none() -> None:
    logits, labels = draw(50, 3)
    logits[7, 1] = torch.nan
    assert math.isnan(auroc(logits, labels) or 0) and auroc_by_image(logits, labels).isnan().all()


@pytest.mark.parametrize("num_classes", [2, 4])
def test_values_by_image_are_those_of_the_jackknife(num_classes: int) -> None:
    logits, labels = draw(300, num_classes)
    value, count = auroc(logits, labels), len(labels)
    assert value is not None
    keep = ~torch.eye(count, dtype=torch.bool)
    leave_one_out = np.array([auroc(logits[rows], labels[rows]) for rows in keep])
    expected = count * value - (count - 1) * leave_one_out
    assert auroc_by_image(logits, labels).numpy() == pytest.approx(expected, rel=0.02, abs=2)


def test_their_variance_is_that_of_the_metric_over_test_sets() -> None:
    draws = [draw(200, 3, seed=seed) for seed in range(300)]
    actual = np.var([auroc(*each) for each in draws])
    assert np.mean([float(auroc_by_image(*each).var()) / 200 for each in draws]) == pytest.approx(actual, rel=0.2)
