"""Rows of a table: our values and the published ones, and the runs that diverged or are not done."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import Metric
from recipes.reports.results import RunRecord
from recipes.reports.statistics import Interval
from recipes.study.published import PublishedValue, as_number


@dataclass(frozen=True)
class Crash:
    """A run that diverged: its stage, step and kind."""

    stage: str
    step: int
    kind: str


@dataclass(frozen=True)
class Score:
    """A metric of a row: our values by repeat with the interval of their mean, and the published value."""

    cell: CellValues | None
    """Values by repeat and test image; None if nothing is measured."""
    interval: Interval
    published: PublishedValue
    doubtful: bool
    metric: Metric
    image_weight: float = 1.0
    """How much more a test image counts than in a mean over images."""

    @property
    def points(self) -> Mapping[str, float]:
        """Return our values by repeat."""
        return self.cell.points if self.cell else {}


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table; `runs` are the usable runs of the last stage by repeat, `waiting` the repeats not done yet."""

    columns: Mapping[str, Any]
    scores: Mapping[str, Score]
    runs: Mapping[str, RunRecord]
    crashes: Mapping[str, Crash]
    """The runs that diverged, by repeat."""
    collapses: Mapping[str, str]
    waiting: tuple[str, ...]
    draws: Mapping[str, float]
    """The metric of every draw of a distribution, the mean over its repeats; a run that diverged counts as 0."""
    diverged_draws: frozenset[str] = frozenset()
    """The draws of which a run diverged."""

    @property
    def ended(self) -> int:
        """Return how many runs have ended, diverged ones included."""
        return len(self.crashes) + len(self.runs)

    @property
    def crashed(self) -> bool:
        """Return whether at least half of the runs that ended diverged; in a distribution, every draw counts by itself."""
        return not self.draws and len(self.crashes) > 0 and len(self.crashes) >= len(self.runs)

    def rank_value(self, column: str) -> float | None:
        """Return the value that ranks the row: the worst possible for one that diverged, None if nothing is measured."""
        score = self.scores[column]
        if self.crashed:
            return _worst(score.metric)
        return None if math.isnan(score.interval.mean) else score.interval.mean

    def published_rank_value(self, column: str) -> float | None:
        """Return the published value that ranks the row: the worst possible for a crash, None if missing or doubtful."""
        score = self.scores[column]
        if score.doubtful or score.published is None:
            return None
        return _worst(score.metric) if isinstance(score.published, str) else score.published


def _worst(metric: Metric) -> float:
    """Return the value that ranks below every other one."""
    return -math.inf if metric.higher_is_better else math.inf


def sorted_by(rows: Sequence[Row], column: str) -> list[Row]:
    """Return rows sorted by their value in a column if all values are numbers, otherwise in their order."""
    numbers = {id(row): as_number(row.columns.get(column)) for row in rows}
    if any(number is None for number in numbers.values()):
        return list(rows)
    return sorted(rows, key=lambda row: numbers[id(row)] or 0.0)
