"""Labels that one arm saves compared with another: a monotone curve of accuracy over labels, inverted with an interval."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import optimize

from recipes.reports.crossed_effects import CellValues, Term, estimate
from recipes.reports.statistics import Interval

POINTS_PER_SEGMENT = 8
"""Grid points between two measured amounts of labels at which the interval is tested, before its ends are refined."""


Difference = Callable[[float], Interval]
"""log(labels) -> difference between the other arm and the base arm's curve there."""


@dataclass(frozen=True)
class Saving:
    """The number of labels that the base arm needs to match the other arm at `labels`.

    `equal`, `low` and `high` are numbers of labels. -inf: below the smallest amount measured; +inf: above the largest one; NaN
    bounds: too few seeds for an interval. A number is only stated if both bounds are finite (`is_bounded`).
    """

    labels: float
    equal: float
    low: float
    high: float
    measured: tuple[float, float]
    """The smallest and the largest amount at which the base arm was measured."""

    @property
    def is_bounded(self) -> bool:
        """Return whether the interval is within the measured range."""
        return all(map(math.isfinite, (self.equal, self.low, self.high)))

    @property
    def sign(self) -> int:
        """Return +1 or -1 if the other arm needs significantly fewer or more labels than the base arm, otherwise 0."""
        if math.isnan(self.low):
            return 0
        return int(self.low > self.labels) - int(self.high < self.labels)


@dataclass(frozen=True)
class MonotoneFit:
    """The base arm's fitted curve: amounts of labels, and for each the cells whose mean it is (pooled where it would fall)."""

    labels: Sequence[float]
    means: Sequence[float]
    pools: Sequence[Sequence[int]]


def label_saving(
    base: Mapping[float, CellValues],
    other: CellValues,
    labels: float,
    *,
    higher_is_better: bool = True,
    span: float = 0.0,
) -> Saving:
    """Return the number of labels with which `base` (by number of labels) equals `other`, which was trained with `labels`.

    The fit is the base arm's mean curve made monotone (isotonic least squares: neighbors that would fall are pooled), linear in
    log(labels) in between. The interval has all amounts in the measured range at which the 95% interval of the difference
    other - base, in the model of `crossed_effects`, contains zero.
    """
    amounts = sorted(base)
    direction = 1.0 if higher_is_better else -1.0
    fit = monotone_fit([direction * float(base[amount].values.mean()) for amount in amounts], amounts)
    equal = invert(fit, direction * float(other.values.mean()))
    measured = (amounts[0], amounts[-1])
    cells = [base[amount] for amount in amounts]

    def difference(position: float) -> Interval:
        terms = [Term(-direction * weight, cells[number], "base") for number, weight in _weights(fit, position).items()]
        return estimate([Term(direction, other, "other"), *terms], span=span)

    if len(amounts) < 2 or any(not difference(position).is_known for position in np.log(amounts)):
        return Saving(labels, equal, math.nan, math.nan, measured)
    low, high = _accepted(difference, np.log(amounts).tolist(), equal)
    return Saving(labels, equal, min(low, equal), max(high, equal), measured)


def monotone_fit(means: Sequence[float], amounts: Sequence[float]) -> MonotoneFit:
    """Return the monotone fit of a curve."""
    found = optimize.isotonic_regression(means)
    pools = [range(start, end) for start, end in pairwise(found.blocks.tolist()) for _ in range(start, end)]
    return MonotoneFit(amounts, found.x.tolist(), pools)


def _weights(fit: MonotoneFit, position: float) -> dict[int, float]:
    """Return the weights of the base arm's cells in the fitted curve at log(labels) = `position`."""
    positions = np.log(fit.labels)
    after = int(np.clip(np.searchsorted(positions, position, side="left"), 1, len(positions) - 1))
    share = float(np.clip((position - positions[after - 1]) / (positions[after] - positions[after - 1]), 0.0, 1.0))
    weights: dict[int, float] = {}
    for end, weight in ((after - 1, 1 - share), (after, share)):
        for number in fit.pools[end]:
            weights[number] = weights.get(number, 0.0) + weight / len(fit.pools[end])
    return weights


def invert(fit: MonotoneFit, target: float) -> float:
    """Return the smallest amount at which the fitted curve reaches `target`."""
    if target < fit.means[0]:
        return -math.inf
    if target > fit.means[-1]:
        return math.inf
    after = int(np.searchsorted(fit.means, target))
    if after == 0:
        return fit.labels[0]
    share = (target - fit.means[after - 1]) / (fit.means[after] - fit.means[after - 1])
    left, right = math.log(fit.labels[after - 1]), math.log(fit.labels[after])
    return math.exp(left + share * (right - left))


def _accepted(difference: Difference, positions: Sequence[float], equal: float) -> tuple[float, float]:
    """Return the outer bounds of the amounts at which the difference is not significant; infinite at the ends of the range.

    One of them is `equal`, where the difference is 0: the others may lie between two points of a grid. If the difference is
    significant everywhere, the interval is empty: both bounds are beyond the end that it points to.
    """
    grid = np.unique(np.concatenate([np.linspace(*pair, POINTS_PER_SEGMENT + 1) for pair in pairwise(positions)]))
    excess = [_excess(difference(position)) for position in grid]
    if math.isfinite(equal):
        number = int(np.searchsorted(grid, math.log(equal)))
        grid = np.insert(grid, number, math.log(equal))
        excess.insert(number, min(0.0, _excess(difference(math.log(equal)))))
    inside = [number for number, value in enumerate(excess) if value <= 0]
    if not inside:
        side = math.inf if difference(grid[-1]).mean > 0 else -math.inf
        return side, side
    first, last = inside[0], inside[-1]
    low = -math.inf if first == 0 else math.exp(_root(difference, grid[first - 1], grid[first]))
    high = math.inf if last == len(grid) - 1 else math.exp(_root(difference, grid[last], grid[last + 1]))
    return low, high


def _excess(found: Interval) -> float:
    """Return by how much an interval misses zero; at most 0 if it contains it. One of unknown width is its mean alone."""
    return abs(found.mean) - (found.half_width if found.is_known else 0.0)


def _root(difference: Difference, left: float, right: float) -> float:
    """Return the position between two at which the interval's end crosses zero; the inner one if that is no interval."""
    ends = [(_excess(difference(position)), position) for position in (left, right)]
    if (inner := min(ends))[0] >= 0:
        return inner[1]
    return float(optimize.brentq(lambda position: _excess(difference(position)), left, right, xtol=1e-3))
