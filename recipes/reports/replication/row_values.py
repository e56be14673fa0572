"""Values of a metric column of a table in every run: by test image where there are predictions, otherwise one value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.crossed_effects import CellValues, Values
from recipes.reports.image_values import values_by_image
from recipes.reports.metrics import Metric, find_metric
from recipes.reports.results import RunRecord
from recipes.reports.run_files import read_at_fraction

NEAR_BEST = 2.0
"""Distance from a row's best draw, in points, within which a draw of a distribution counts as good."""
NEAR_BEST_METRIC = Metric("percent_near_best", higher_is_better=True, range=(0.0, 100.0))


@dataclass(frozen=True)
class ColumnValues:
    """The values of a column in all runs that have any."""

    metric: Metric
    runs: Mapping[str, Values]
    """By run: (N,) by test image, or one value."""
    problems: tuple[str, ...] = ()
    """Why the intervals do not cover the sampling of test images."""
    image_weight: float = 1.0
    """How much more a test image counts than in a mean over images."""
    epochs_read: tuple[tuple[int, int], ...] = ()
    """For a metric after a fraction of the epochs, every (epoch read, epochs of the run)."""

    def cell(self, runs: Mapping[str, RunRecord]) -> CellValues | None:
        """Return the values of a row from its runs by repeat; None if none has a value."""
        found = {name: self.runs[run.planned.id] for name, run in runs.items() if run.planned.id in self.runs}
        return CellValues(tuple(found), np.stack(list(found.values()))) if found else None


def read_column(runs: Sequence[RunRecord], metric: str) -> ColumnValues:
    """Return a metric of every run that has it; `name@fraction` is read during training, and of layers it is their mean."""
    name, _, fraction = metric.partition("@")
    if fraction:
        read = {run.planned.id: read_at_fraction(run, name, float(fraction)) for run in runs}
        known = {run: value for run, value in read.items() if value is not None}
        epochs = tuple(sorted({(value.epoch, value.epochs) for value in known.values()}))
        values = {run: np.array([value.value]) for run, value in known.items()}
        return ColumnValues(find_metric(name), values, (f"{name} is read during training",), epochs_read=epochs)
    measured = {run.planned.id: run for run in runs if run.result and name in run.result.metrics}
    if measured:
        rows, problems, weight = values_by_image(measured, find_metric(name))
        return ColumnValues(find_metric(name), rows, problems, weight)
    by_layer = {run.planned.id: layers for run in runs if (layers := layer_values(run, name))}
    means = {run: np.array([np.mean(layers)]) for run, layers in by_layer.items()}
    return ColumnValues(find_metric(name), means, (f"{name} is not a mean over test images",))


def layer_values(run: RunRecord, metric: str) -> list[float]:
    """Return `<metric>_00`, `<metric>_01`, ... of a run, up to the first one missing."""
    metrics: Mapping[str, float] = run.result.metrics if run.result else {}
    values: list[float] = []
    while f"{metric}_{len(values):02d}" in metrics:
        values.append(metrics[f"{metric}_{len(values):02d}"])
    return values


def mean_by_draw(points: Mapping[str, float], draw_of: Mapping[str, str]) -> dict[str, float]:
    """Return the mean over the runs of each draw: its repeats share the draw, so that they are no draws of their own."""
    by_draw: dict[str, list[float]] = {}
    for name, value in points.items():
        by_draw.setdefault(draw_of[name], []).append(value)
    return {draw: float(np.mean(values)) for draw, values in by_draw.items()}


def near_best_cell(draws: Mapping[str, float]) -> CellValues | None:
    """Return, for each draw, 100 if it is within NEAR_BEST points of the best, otherwise 0; their mean is a percentage."""
    if not draws:
        return None
    values = np.array(list(draws.values()))
    return CellValues(tuple(draws), 100.0 * (values >= values.max() - NEAR_BEST)[:, None])
