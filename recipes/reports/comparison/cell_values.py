"""Values of a metric in the cells of a study: by seed and test image where the runs have predictions, otherwise by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from common.evaluation.predictions import MIN_IMAGES, image_weight, per_image, rare_classes, read_predictions
from common.files import path_exists
from common.training.run_folder import PREDICTIONS
from recipes.reports.crossed_effects import CellValues, Values
from recipes.reports.metrics import Metric
from recipes.reports.results import RunRecord, StudyRecord
from recipes.result import DIVERGED

TOLERANCE = 1e-3
"""Largest difference, relative to the metric's range, between a run's metric and the mean over its predictions."""

Key = tuple[str, ...]
"""The levels of a cell on every axis but the repeats."""


@dataclass(frozen=True)
class StudyValues:
    """The values of a metric in every cell of a study, and the runs that diverged."""

    axes: tuple[str, ...]
    """The axes of the keys: all but the repeats."""
    cells: Mapping[Key, CellValues]
    """Cells with at least one value."""
    diverged: Mapping[Key, tuple[str, ...]]
    """Repeats that diverged, in any stage."""
    planned: Mapping[Key, tuple[str, ...]]
    """All repeats of a cell."""
    chance: float | None
    """The value for which a diverged run counts; None if it is unknown."""
    problems: tuple[str, ...] = field(default=())
    """Why the intervals do not cover the sampling of test images."""
    image_weight: float = 1.0
    """How much more a test image counts than in a mean over images (`common.evaluation.predictions.image_weight`)."""

    def key(self, levels: Mapping[str, str]) -> Key:
        """Return the key of a cell at `levels`."""
        return tuple(levels[axis] for axis in self.axes)

    def cell(self, levels: Mapping[str, str]) -> CellValues | None:
        """Return the values at `levels`, or None if nothing is measured there."""
        return self.cells.get(self.key(levels))

    def with_chance(self) -> "StudyValues":
        """Return the values with every diverged run counted as an uninformative prediction."""
        if self.chance is None or not any(self.diverged.values()):
            return self
        widths = [cell.values.shape[1] for cell in self.cells.values()]
        cells = dict(self.cells)
        for key, repeats in self.diverged.items():
            if repeats:
                own = cells.get(key)
                width = own.values.shape[1] if own else max(widths, default=1)
                rows = np.full((len(repeats), width), self.chance)
                seeds = (*(own.seeds if own else ()), *repeats)
                cells[key] = CellValues(seeds, np.concatenate([own.values, rows]) if own else rows)
        return replace(self, cells=cells, diverged={})


def read_values(study: StudyRecord, metric: Metric, repeats: str, num_classes: int | None) -> StudyValues:
    """Return the values of a metric in every cell of a study."""
    axes = tuple(axis.name for axis in study.plan.study.axes if axis.name != repeats)
    runs: dict[Key, dict[str, RunRecord]] = {}
    diverged: dict[Key, list[str]] = {}
    planned: dict[Key, list[str]] = {}
    for cell in study.plan.cells:
        key, repeat = tuple(cell.levels[axis] for axis in axes), cell.levels[repeats]
        planned.setdefault(key, []).append(repeat)
        if any(_is_diverged(study.runs[name]) for name in cell.runs.values()):
            diverged.setdefault(key, []).append(repeat)
        elif study.value(cell, metric.name) is not None:
            runs.setdefault(key, {})[repeat] = study.final_run(cell)
    rows, problems, weight = _rows({run.planned.id: run for cell in runs.values() for run in cell.values()}, metric)
    cells = {
        key: CellValues(tuple(cell), np.stack([rows[run.planned.id] for run in cell.values()]))
        for key, cell in runs.items()
    }
    return StudyValues(
        axes,
        cells,
        {key: tuple(names) for key, names in diverged.items()},
        {key: tuple(names) for key, names in planned.items()},
        metric.chance(num_classes),
        problems,
        weight,
    )


def _is_diverged(run: RunRecord) -> bool:
    """Return whether a run diverged."""
    return run.result is not None and run.result.status == DIVERGED


def _rows(runs: Mapping[str, RunRecord], metric: Metric) -> tuple[dict[str, Values], tuple[str, ...], float]:
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
        return f"{rare} of the classes have fewer than {MIN_IMAGES} test images each, too few for {metric.name}"
    counted = np.flatnonzero(~np.isnan(values))
    expected = run.result.metrics[metric.name]
    if abs(float(values[counted].mean()) - expected) > TOLERANCE * (metric.span or max(abs(expected), 1.0)):
        return f"{path.name} of {run.planned.id} does not belong to its result"
    order = sorted(counted.tolist(), key=lambda row: predictions.images[row])
    return [predictions.images[row] for row in order], values[order], image_weight(predictions, metric.name)


def _without_images(runs: Mapping[str, RunRecord], metric: Metric) -> dict[str, Values]:
    """Return the metric of each run as a single value."""
    return {name: np.array([run.result.metrics[metric.name]]) for name, run in runs.items() if run.result}


def arm_name(levels: Mapping[str, str], excluded: Sequence[str]) -> str:
    """Return the name of the arm of a cell: its levels on all axes except `excluded`, which are those within an arm."""
    return "\0".join(level for axis, level in levels.items() if axis not in excluded)
