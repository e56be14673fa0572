"""Accuracy by class, and which classes are taken for which: exploratory, means over the seeds of an arm."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.evaluation.predictions import MIN_IMAGES
from recipes.reports.comparison.arm_predictions import ArmPair, ArmPredictions
from recipes.reports.crossed_effects import CellValues, Term, estimate
from recipes.reports.statistics import Interval, bounded_interval

MOST_CLASSES = 30
"""Number of classes up to which all are shown, and the confusion is a heat map."""
EXTREMES = 10
"""Number of classes shown at either end beyond that."""
MOST_PAIRS = 20
"""Number of confused pairs of classes shown beyond that."""


@dataclass(frozen=True)
class ClassRow:
    """A class with the accuracy of both arms in percent, and their difference; bounds are unknown where they are not sound."""

    name: str
    images: int
    base: Interval
    other: Interval
    difference: Interval


@dataclass(frozen=True)
class Confusion:
    """Images of class `true` that are taken for class `predicted`: percent of the images of `true`, by arm."""

    true: str
    predicted: str
    base: float
    other: float


def class_rows(pair: ArmPair) -> list[ClassRow]:
    """Return the classes that have test images, the largest difference first; of many, those at either end of the differences."""
    target = pair.base.target
    counts = np.bincount(target, minlength=len(pair.base.class_names))
    present = np.flatnonzero(counts)
    gains = _by_class(pair.other, counts)[present] - _by_class(pair.base, counts)[present]
    if len(present) > MOST_CLASSES:
        order = np.argsort(-gains, kind="stable")
        shown = present[np.concatenate([order[:EXTREMES], order[-EXTREMES:]])]
    else:
        shown = present[np.argsort(-np.abs(gains), kind="stable")]
    return [_row(pair, int(number), int(counts[number])) for number in shown]


def confusion_matrix(arm: ArmPredictions) -> npt.NDArray[np.float64]:
    """Return (C, C) percentages of the images of each class (row) by predicted class, mean over the seeds."""
    num_classes = len(arm.class_names)
    pairs = (arm.target * num_classes + arm.predicted).ravel()
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return np.asarray(100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def confused_pairs(pair: ArmPair) -> list[Confusion]:
    """Return the pairs of classes that either arm confuses most, as a percentage of the images of the true class."""
    base, other = _confused(pair.base), _confused(pair.other)
    worst = sorted(base.keys() | other.keys(), key=lambda key: (-max(base.get(key, 0.0), other.get(key, 0.0)), key))
    names = pair.base.class_names
    return [
        Confusion(names[true], names[predicted], base.get((true, predicted), 0.0), other.get((true, predicted), 0.0))
        for true, predicted in worst[:MOST_PAIRS]
    ]


def _confused(arm: ArmPredictions) -> dict[tuple[int, int], float]:
    """Return the percentage of each confused pair of classes (true, predicted), mean over the seeds."""
    seeds, counts = len(arm.seeds), np.bincount(arm.target)
    targets = np.broadcast_to(arm.target, arm.predicted.shape)
    wrong = ~arm.is_correct
    keys, found = np.unique(np.stack([targets[wrong], arm.predicted[wrong]]), axis=1, return_counts=True)
    return {
        (true, predicted): 100 * count / (seeds * int(counts[true]))
        for true, predicted, count in zip(*keys.tolist(), found.tolist(), strict=True)
    }


def _by_class(arm: ArmPredictions, counts: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return (C,) accuracies in percent, mean over the seeds."""
    correct = np.bincount(arm.target, weights=arm.is_correct.mean(axis=0), minlength=len(counts))
    return np.asarray(100 * correct / np.maximum(counts, 1))


def _row(pair: ArmPair, number: int, images: int) -> ClassRow:
    """Return the row of a class: means over the seeds, with intervals over seeds and images of the class (crossed effects)."""
    cells = [
        CellValues(arm.seeds, np.where(arm.is_correct[:, arm.target == number], 100.0, 0.0))
        for arm in (pair.base, pair.other)
    ]
    base, other = (bounded_interval(_interval([Term(1.0, cell, "arm")], images), 0.0, 100.0) for cell in cells)
    difference = _interval([Term(-1.0, cells[0], "base"), Term(1.0, cells[1], "other")], images)
    return ClassRow(pair.base.class_names[number], images, base, other, difference)


def _interval(terms: Sequence[Term], images: int) -> Interval:
    """Return an estimate, without bounds for a class with too few images for a variance."""
    found = estimate(terms, span=100.0)
    return found if images >= MIN_IMAGES else Interval(found.mean, float("nan"), float("nan"), found.count)
