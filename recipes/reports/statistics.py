"""Statistics of a report: Student's intervals over repeats, and the labels that one curve saves compared with another.

Every interval is a two-sided 95% confidence interval of the mean over the repeats (seeds). Nothing is pooled over tests.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its bounds; with fewer than two values the bounds are NaN, and nothing is significant."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def is_known(self) -> bool:
        """Return whether there are bounds."""
        return not math.isnan(self.low)

    @property
    def sign(self) -> int:
        """Return +1 or -1 if the interval is entirely above or below zero, otherwise 0 (not significantly different from zero)."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def half_width(self) -> float:
        """Return half the width, in the unit of the values."""
        return (self.high - self.low) / 2


def student_interval(values: Sequence[float]) -> Interval:
    """Return mean +- t(0.975, n - 1) * s / sqrt(n), with s the sample standard deviation (ddof = 1)."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * np.std(values, ddof=1) / math.sqrt(count))
    return Interval(mean, mean - half, mean + half, count)


def paired_differences(base: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return other - base for every repeat that both have, by repeat."""
    return {repeat: other[repeat] - value for repeat, value in base.items() if repeat in other}


@dataclass(frozen=True)
class Saving:
    """The fraction of the labels that the base curve needs to match the other curve at `fraction`.

    `equal`, `low` and `high` are fractions. -inf: below the smallest one measured; +inf: above the largest one measured;
    NaN bounds: too few repeats for an interval.
    """

    fraction: float
    equal: float
    low: float
    high: float


def label_saving(
    base: Mapping[float, Mapping[str, float]], other: Mapping[float, Mapping[str, float]], fraction: float
) -> Saving:
    """Return the fraction at which `base` equals `other` at `fraction`; both are {fraction: {repeat: accuracy}}.

    Point estimate: the mean curve of `base`, made non-decreasing (isotonic least squares), inverted by linear interpolation in
    log(fraction). Interval, by inversion of the paired test: all fractions g in the measured range at which Student's 95%
    interval of other(fraction) - base(g), paired by repeat, includes zero; the curve of each repeat is interpolated likewise.
    """
    fractions = sorted(base)
    target = float(np.mean(list(other[fraction].values())))
    equal = _invert(fractions, [float(np.mean(list(base[f].values()))) for f in fractions], target)
    repeats = [name for name in other[fraction] if all(name in base[f] for f in fractions)]
    if len(repeats) < 2 or len(fractions) < 2:
        return Saving(fraction, equal, math.nan, math.nan)
    positions = np.log(fractions)
    grid = np.linspace(positions[0], positions[-1], 2001)
    curves = np.stack([np.interp(grid, positions, [base[f][name] for f in fractions]) for name in repeats])
    differences = np.array([[other[fraction][name]] for name in repeats]) - curves
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(repeats) - 1) * differences.std(0, ddof=1) / math.sqrt(len(repeats))
    low, high = _bounds(grid, np.abs(differences.mean(0)) <= half)
    return Saving(fraction, equal, min(low, equal), max(high, equal))


def _invert(fractions: Sequence[float], accuracies: Sequence[float], target: float) -> float:
    """Return the smallest fraction at which the curve, made non-decreasing, reaches `target`."""
    rising = optimize.isotonic_regression(accuracies).x
    if target < rising[0]:
        return -math.inf
    if target > rising[-1]:
        return math.inf
    after = int(np.searchsorted(rising, target))
    if after == 0:
        return fractions[0]
    weight = (target - rising[after - 1]) / (rising[after] - rising[after - 1])
    left, right = math.log(fractions[after - 1]), math.log(fractions[after])
    return math.exp(left + weight * (right - left))


def _bounds(grid: NDArray[np.float64], accepted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the outer bounds of the accepted part of `grid`, infinite where it reaches the end of the measured range."""
    if not accepted.any():
        return math.inf, -math.inf  # empty: the interval is the point estimate alone
    first, last = int(np.argmax(accepted)), len(accepted) - 1 - int(np.argmax(accepted[::-1]))
    low = -math.inf if first == 0 else math.exp(grid[first])
    return low, math.inf if last == len(accepted) - 1 else math.exp(grid[last])
