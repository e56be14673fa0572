"""Values of a metric of runs by test image, from their predictions; the metric alone where they have none."""

from collections.abc import Mapping

import numpy as np

from common.evaluation.predictions import MIN_IMAGES, image_weight, per_image, rare_classes, read_predictions
from common.files import path_exists
from common.training.run_folder import PREDICTIONS
from recipes.reports.crossed_effects import Values
from recipes.reports.metrics import Metric
from recipes.reports.results import RunRecord

TOLERANCE = 1e-3
"""Largest difference, relative to the metric's range, between a run's metric and the mean over its predictions."""


def values_by_image(runs: Mapping[str, RunRecord], metric: Metric) -> tuple[dict[str, Values], tuple[str, ...], float]:
    """Return the values of each run by test image, in the same order, and an image's weight; or its metric alone, and why."""
    rows: dict[str, Values] = {}
    names: list[str] | None = None
    weight = 1.0
    for name, run in runs.items():
        found = _by_image(run, metric)
        if isinstance(found, str):
            return _without_images(runs, metric), (found,), 1.0
        images, values, weight = found
        if names is not None and images != names:
            return _without_images(runs, metric), ("the runs were evaluated on different test images",), 1.0
        names, rows[name] = images, values
    return rows, (), weight


def _by_image(run: RunRecord, metric: Metric) -> tuple[list[str], Values, float] | str:
    """Return the names of the test images, sorted, the metric of each, and an image's weight; or why there are none."""
    assert run.result is not None
    path = run.folder / PREDICTIONS
    if not metric.name.startswith("test_"):
        return f"{metric.name} is not a metric of the test images"
    if not path_exists(path):
        return f"{run.planned.id} has no {path.name}"
    predictions = read_predictions(path)
    try:
        values = per_image(predictions, metric.name)
    except KeyError:
        return f"{metric.name} is not a mean over test images"
    if rare := rare_classes(predictions, metric.name):
        count = len(np.unique(predictions.target))
        name = metric.name.removeprefix("test_").replace("_", " ")
        return f"{rare} of the {count} classes have fewer than {MIN_IMAGES} test images each, too few for {name}"
    counted = np.flatnonzero(~np.isnan(values))
    if len(counted) < 2:
        return "a single test image says nothing about others"
    expected = run.result.metrics[metric.name]
    if abs(float(values[counted].mean()) - expected) > TOLERANCE * (metric.span or max(abs(expected), 1.0)):
        return f"{path.name} of {run.planned.id} does not belong to its result"
    order = sorted(counted.tolist(), key=lambda row: predictions.images[row])
    return [predictions.images[row] for row in order], values[order], image_weight(predictions, metric.name)


def _without_images(runs: Mapping[str, RunRecord], metric: Metric) -> dict[str, Values]:
    """Return the metric of each run as a single value."""
    return {name: np.array([run.result.metrics[metric.name]]) for name, run in runs.items() if run.result}
