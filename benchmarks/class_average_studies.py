"""Simulated studies of metrics that are means over classes, for `python -m benchmarks coverage`.

The logits of an image are those of its class, a prior for frequent classes, and effects of the image, the arm and the image, the
seed and class, and noise. The truth is the metric of future images and seeds. As in a report, test sets with a class of fewer than
10 images have no such interval; the scenario "rare classes" shows why.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch

from common.evaluation.auroc import auroc_by_image
from common.evaluation.class_averages import balanced_accuracy_by_image, macro_f1_by_image, relative_weight
from common.evaluation.classification import CLASS_AVERAGES
from common.evaluation.predictions import MIN_IMAGES
from recipes.reports.comparison.cell_values import StudyValues
from recipes.reports.comparison.estimator import Estimator
from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import find_metric
from recipes.reports.statistics import Interval
from recipes.study.report_specification import ReportSpec

AXES = {"training": ["OST", "TST"], "fraction": ["1.0"]}
STRENGTHS = (3.0, 3.3)
"""Logit of an image's class, by arm."""
PRIOR, IMAGE, BY_ARM, SEED, NOISE = 0.5, 1.2, 0.5, 0.3, 0.7
"""Factor of the logarithm of the classes' frequencies; standard deviations."""
TRUTH_SEEDS, TRUTH_IMAGES = 100, 20_000


class ClassSizes(NamedTuple):
    """Expected numbers of test images of the classes, and the least that one may have."""

    expected: tuple[int, ...]
    least: int


CLASS_SIZES = {
    "unequal classes": ClassSizes((120, 70, 45, 30, 25, 20, 15, 12, 12, 10), MIN_IMAGES),
    "rare classes": ClassSizes((150, 80, 45, 30, 20, 12, 10, 6, 4, 2), 0),
}


def class_average_intervals(
    title: str, seeds: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, Interval, float]]:
    """Yield the kind, the name, the interval and the truth of means and differences in `count` studies."""
    sizes, truth = CLASS_SIZES[title], _truth(title)
    num_classes = len(sizes.expected)
    for _ in range(count):
        labels = _draw_labels(sizes, sum(sizes.expected), rng)
        logits = _draw_logits(sizes, labels, seeds, rng)
        for metric in CLASS_AVERAGES:
            names = tuple(str(seed) for seed in range(seeds))
            cells: dict[tuple[str, ...], CellValues] = {
                (arm, "1.0"): CellValues(names, np.stack([_values(metric, labels, run) for run in runs]))
                for arm, runs in zip(AXES["training"], logits, strict=True)
            }
            planned = dict.fromkeys(cells, names)
            weight = relative_weight(labels, num_classes)
            values = StudyValues(tuple(AXES), cells, {}, planned, None, image_weight=weight)
            spec = ReportSpec(
                f"test_{metric}", metric, "fraction", "labels", "seed", {"training": ("OST", "TST")}, {}, ()
            )
            estimator = Estimator(AXES, spec, values, find_metric(spec.metric))
            one_stage, two_stage = truth[metric]
            levels = {"training": "OST", "fraction": "1.0"}
            yield "mean", metric, estimator.mean(levels).interval, one_stage
            effect = estimator.difference({"fraction": "1.0"}, "training", "OST", "TST").interval
            yield "difference", metric, effect, two_stage - one_stage


@cache
def _truth(title: str) -> Mapping[str, tuple[float, float]]:
    """Return each metric's mean over future seeds and images, by arm."""
    sizes, rng = CLASS_SIZES[title], np.random.default_rng(0)
    found: dict[str, list[list[float]]] = {metric: [] for metric in CLASS_AVERAGES}
    for _ in range(TRUTH_SEEDS):
        labels = _draw_labels(sizes, TRUTH_IMAGES, rng)
        both = [runs[0] for runs in _draw_logits(sizes, labels, 1, rng)]
        for metric in CLASS_AVERAGES:
            found[metric].append([float(_values(metric, labels, run).mean()) for run in both])
    return {metric: tuple(np.mean(rows, axis=0).tolist()) for metric, rows in found.items()}  # type: ignore[misc]


def _draw_labels(sizes: ClassSizes, num_images: int, rng: np.random.Generator) -> Any:
    """Return (N,) labels, drawn again until every class has the least number of images."""
    frequencies = np.array(sizes.expected) / sum(sizes.expected)
    while True:
        labels = rng.choice(len(frequencies), size=num_images, p=frequencies)
        if np.bincount(labels, minlength=len(frequencies)).min() >= sizes.least:
            return labels


def _draw_logits(sizes: ClassSizes, labels: Any, seeds: int, rng: np.random.Generator) -> Any:
    """Return (A, S, N, C) logits."""
    num_classes, num_images, num_arms = len(sizes.expected), len(labels), len(STRENGTHS)
    image = rng.normal(scale=IMAGE, size=(num_images, num_classes))
    by_arm = rng.normal(scale=BY_ARM, size=(num_arms, 1, num_images, num_classes))
    logits = rng.normal(scale=NOISE, size=(num_arms, seeds, num_images, num_classes))
    logits += image + by_arm + rng.normal(scale=SEED, size=(num_arms, seeds, 1, num_classes))
    logits += PRIOR * np.log(np.array(sizes.expected) / sum(sizes.expected))
    logits[..., np.arange(num_images), labels] += np.array(STRENGTHS)[:, None, None]
    return logits


def _values(metric: str, labels: Any, logits: Any) -> Any:
    """Return (N,) the metric's values by image."""
    num_classes = logits.shape[1]
    if metric == "auroc":
        return auroc_by_image(torch.from_numpy(logits), torch.from_numpy(labels)).numpy()
    by_image = balanced_accuracy_by_image if metric == "balanced_accuracy" else macro_f1_by_image
    return by_image(labels, logits.argmax(1), num_classes)
