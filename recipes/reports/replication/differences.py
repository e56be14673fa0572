"""Differences of rows: estimates over seeds and test images, and exact tests of how many of their runs diverged.

The seeds of different rows count as independent: where they share a pre-training the interval is too wide, not too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from scipy import stats

from recipes.reports.crossed_effects import Term
from recipes.reports.estimates import weighted_sum
from recipes.reports.replication.rows import Row
from recipes.reports.statistics import MIN_SEEDS, SIGNIFICANCE, Interval, paired_differences

Weights = Sequence[tuple[float, Row]]


@dataclass(frozen=True)
class RowDifference:
    """A weighted sum of rows, such as other - base, with its test.

    Where at least half of the runs of a row diverged, the rates of divergence of two rows are compared, otherwise the values of the
    runs that did not diverge.
    """

    interval: Interval
    p_value: float
    """Two-sided; NaN where nothing can be tested: fewer than three seeds, or both rows diverged."""
    direction: int
    """+1 if the sum is above zero, -1 if below, 0 if neither is known; a row that diverged is below every value."""
    with_chance: float | None
    """The sum with diverged runs counted as chance level; None if no run diverged, or that value is unknown."""
    depends_on_diverged: bool
    """Whether the direction is not that with diverged runs counted as chance level."""

    def sign(self, p_value: float) -> int:
        """Return the direction if a p-value (its own, or an adjusted one) is significant, otherwise 0."""
        return self.direction if p_value < SIGNIFICANCE and not self.depends_on_diverged else 0


def difference(base: Row, other: Row, column: str) -> tuple[Mapping[str, float], Interval]:
    """Return other - base by repeat, and the interval of the difference of the means."""
    points = paired_differences(base.scores[column].points, other.scores[column].points)
    return points, _interval([(-1.0, base), (1.0, other)], column)


def compare(base: Row, other: Row, column: str, chance: float | None) -> RowDifference:
    """Return other - base with its test; `chance` is the value for which a run that diverged counts."""
    return compare_sum([(-1.0, base), (1.0, other)], column, chance)


def compare_sum(weights: Weights, column: str, chance: float | None) -> RowDifference:
    """Return a weighted sum of rows with its test; more than two rows with one that diverged are not tested."""
    interval = _interval(weights, column)
    crashed = [(weight, row) for weight, row in weights if row.crashed]
    if crashed:
        is_tested = len(weights) == 2 and len(crashed) == 1
        p_value = _divergence_p_value(*(row for _, row in weights)) if is_tested else math.nan
        higher_is_better = weights[0][1].scores[column].metric.higher_is_better
        direction = (-1 if (crashed[0][0] > 0) == higher_is_better else 1) if is_tested else 0
        return RowDifference(interval, p_value, direction, None, depends_on_diverged=False)
    p_value = interval.p_value if interval.count >= MIN_SEEDS else math.nan
    direction = 0 if math.isnan(interval.mean) else (interval.mean > 0) - (interval.mean < 0)
    if not any(row.crashes and not row.draws for _, row in weights):
        return RowDifference(interval, p_value, direction, None, depends_on_diverged=False)
    with_chance = None if chance is None else sum(weight * _with_chance(row, column, chance) for weight, row in weights)
    agrees = with_chance is not None and with_chance * direction > 0
    return RowDifference(interval, p_value, direction, with_chance, depends_on_diverged=not agrees)


def _interval(weights: Weights, column: str) -> Interval:
    """Return the weighted sum of the rows' means; unknown, with the mean NaN, where one has no value."""
    totals: dict[int, float] = {}
    rows = {id(row): row for _, row in weights}
    for weight, row in weights:
        totals[id(row)] = totals.get(id(row), 0.0) + weight
    terms = []
    for key, weight in totals.items():
        cell = rows[key].scores[column].cell
        if cell is None:
            return Interval(math.nan, math.nan, math.nan, 0)
        if weight:
            terms.append(Term(weight, cell, str(key)))
    score = weights[0][1].scores[column]
    return weighted_sum(terms, score.metric, score.image_weight)


def _with_chance(row: Row, column: str, chance: float) -> float:
    """Return the mean of a row with diverged runs counted as chance level."""
    values = [*row.scores[column].points.values(), *[chance] * len(row.crashes)]
    return sum(values) / len(values) if values else math.nan


def _divergence_p_value(first: Row, second: Row) -> float:
    """Return the p-value of equal rates of divergence of two rows; NaN with fewer than three runs of either."""
    if min(first.ended, second.ended) < MIN_SEEDS:
        return math.nan
    return boschloo(len(first.crashes), first.ended, len(second.crashes), second.ended)


@cache
def boschloo(first: int, first_runs: int, second: int, second_runs: int) -> float:
    """Return Boschloo's two-sided exact p-value of equal rates."""
    table = [[first, second], [first_runs - first, second_runs - second]]
    return float(min(1.0, stats.boschloo_exact(table).pvalue))
