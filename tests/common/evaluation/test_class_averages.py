"""Confusion matrix, balanced accuracy and macro-F1 against values by hand, scikit-learn and the leave-one-out jackknife."""

import csv
import io
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics

from common.evaluation import class_averages
from common.evaluation.class_averages import (
    balanced_accuracy,
    balanced_accuracy_by_image,
    confusion_matrix,
    confusion_matrix_csv,
    macro_f1,
    macro_f1_by_image,
    relative_weight,
)

TARGET = np.array([0, 0, 0, 0, 1, 1, 2])
PREDICTION = np.array([0, 0, 0, 1, 1, 0, 1])
Metric = Callable[[np.ndarray, np.ndarray, int], float]
ByImage = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
BOTH: list[tuple[Metric, ByImage]] = [
    (balanced_accuracy, balanced_accuracy_by_image),
    (macro_f1, macro_f1_by_image),
]


def draw(images: int, priors: list[float], *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return classes and predictions that are right in 70%."""
    rng = np.random.default_rng(seed)
    target = rng.choice(len(priors), size=images, p=priors)
    return target, np.where(rng.random(images) < 0.7, target, rng.integers(len(priors), size=images))


def test_values_by_hand() -> None:
    assert confusion_matrix(TARGET, PREDICTION, 3).tolist() == [[3, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert balanced_accuracy(TARGET, PREDICTION, 3) == pytest.approx(100 * (3 / 4 + 1 / 2 + 0) / 3)
    assert macro_f1(TARGET, PREDICTION, 3) == pytest.approx(100 * (6 / 8 + 2 / 5 + 0) / 3)


@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_scikit_learn(seed: int) -> None:
    target, prediction = draw(200, [0.6, 0.2, 0.1, 0.1, 0.0], seed=seed)
    present = np.unique(target)
    expected = sklearn.metrics.f1_score(target, prediction, labels=present, average="macro", zero_division=0)
    assert macro_f1(target, prediction, 5) == pytest.approx(100 * expected)
    recall = sklearn.metrics.recall_score(target, prediction, labels=present, average="macro")
    assert balanced_accuracy(target, prediction, 5) == pytest.approx(100 * recall)
    matrix = sklearn.metrics.confusion_matrix(target, prediction, labels=range(5))
    assert np.array_equal(confusion_matrix(target, prediction, 5), matrix)


def test_a_class_without_images_does_not_count_and_one_never_predicted_has_f1_of_0() -> None:
    target, prediction = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 2])
    assert balanced_accuracy(target, prediction, 4) == 50.0
    assert macro_f1(target, prediction, 4) == pytest.approx(100 * (4 / 5 + 0) / 2)


@pytest.mark.parametrize(("metric", "by_image"), BOTH)
def test_values_by_image_are_those_of_the_jackknife(metric: Metric, by_image: ByImage) -> None:
    target, prediction = draw(400, [0.5, 0.3, 0.2], seed=0)
    value, count = metric(target, prediction, 3), len(target)
    leave_one_out = [metric(np.delete(target, row), np.delete(prediction, row), 3) for row in range(count)]
    values = by_image(target, prediction, 3)
    assert values.mean() == pytest.approx(value)
    assert values == pytest.approx(count * value - (count - 1) * np.array(leave_one_out), rel=0.02, abs=2)


@pytest.mark.parametrize(("metric", "by_image"), BOTH)
def test_their_variance_is_that_of_the_metric_over_test_sets(metric: Metric, by_image: ByImage) -> None:
    draws = [draw(500, [0.7, 0.2, 0.1], seed=seed) for seed in range(300)]
    actual = np.var([metric(*each, 3) for each in draws])
    estimated = np.mean([by_image(*each, 3).var() / 500 for each in draws])
    naive = np.mean([np.var(100 * (target == prediction)) / 500 for target, prediction in draws])
    assert estimated == pytest.approx(actual, rel=0.2)
    assert naive < 0.7 * actual  # an image of a rare class counts more


def test_relative_weight() -> None:
    assert relative_weight(np.repeat([0, 1, 3], 5), 4) == pytest.approx(1)
    # Weights N / (K n_c) of 8 and 2 images: 0.625 and 2.5.
    assert relative_weight(np.repeat([0, 1], [8, 2]), 2) == pytest.approx(np.sqrt(0.8 * 0.625**2 + 0.2 * 2.5**2))


def test_the_matrix_as_csv_has_the_class_names() -> None:
    names = ("a, b", "c\nd", 'e"f')
    rows = list(csv.reader(io.StringIO(confusion_matrix_csv(confusion_matrix(TARGET, PREDICTION, 3), names))))
    assert rows[0] == ["target \\ prediction", *names]
    assert rows[1:] == [["a, b", "3", "1", "0"], ["c\nd", "1", "1", "0"], ['e"f', "0", "1", "0"]]


def test_many_classes_take_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of 20,000 classes takes 3 GB, at every validation."""
    monkeypatch.setattr(class_averages, "confusion_matrix", None)
    target = np.arange(200_000) % 20_000
    assert balanced_accuracy(target, target, 20_000) == pytest.approx(100)
    assert macro_f1(target, target, 20_000) == pytest.approx(100)
