"""Values of a metric in the cells of a study: by seed and test image where the runs have predictions, otherwise by seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recipes.reports.crossed_effects import CellValues
from recipes.reports.image_values import values_by_image
from recipes.reports.metrics import Metric
from recipes.reports.results import RunRecord, StudyRecord
from recipes.result import DIVERGED

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
    same: Mapping[Key, Key] = field(default_factory=dict)
    """The first cell with the same runs, of each cell that shares all of its runs with an earlier one."""

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
    planned_runs: dict[Key, list[str]] = {}
    for cell in study.plan.cells:
        key, repeat = tuple(cell.levels[axis] for axis in axes), cell.levels[repeats]
        planned.setdefault(key, []).append(repeat)
        planned_runs.setdefault(key, []).append(study.final_run(cell).planned.id)
        if any(_is_diverged(study.runs[name]) for name in cell.runs.values()):
            diverged.setdefault(key, []).append(repeat)
        elif study.value(cell, metric.name) is not None:
            runs.setdefault(key, {})[repeat] = study.final_run(cell)
    rows, problems, weight = values_by_image(
        {run.planned.id: run for cell in runs.values() for run in cell.values()}, metric
    )
    cells = {
        key: CellValues(tuple(cell), np.stack([rows[run.planned.id] for run in cell.values()]))
        for key, cell in runs.items()
    }
    first: dict[tuple[str, ...], Key] = {}
    same = {key: found for key, names in planned_runs.items() if (found := first.setdefault(tuple(names), key)) != key}
    return StudyValues(
        axes,
        cells,
        {key: tuple(names) for key, names in diverged.items()},
        {key: tuple(names) for key, names in planned.items()},
        metric.chance(num_classes),
        problems,
        weight,
        same,
    )


def _is_diverged(run: RunRecord) -> bool:
    """Return whether a run diverged."""
    return run.result is not None and run.result.status == DIVERGED


def arm_name(levels: Mapping[str, str], excluded: Sequence[str]) -> str:
    """Return the name of the arm of a cell: its levels on all axes except `excluded`, which are those within an arm."""
    return "\0".join(level for axis, level in levels.items() if axis not in excluded)
