"""Owns the statistics of a report: Student's intervals over repeats, and how many labels a curve saves against another.

Every interval is a two-sided one at 95%, of the mean over the repeats (seeds). Nothing is pooled over tests.
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
    """A mean with its bounds; with fewer than two values there are no bounds (NaN), and nothing can be told apart."""

    mean: float
    low: float
    high: float
    count: int

    @property
    def is_known(self) -> bool:
        """Tell whether there are bounds."""
        return not math.isnan(self.low)

    @property
    def sign(self) -> int:
        """Return +1 or -1 where the interval lies wholly above or below zero, otherwise 0: not distinguishable."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def half_width(self) -> float:
        """Return half the width, in the unit of the values."""
        return (self.high - self.low) / 2


def student_interval(values: Sequence[float]) -> Interval:
    """Return mean +- t(0.975, n - 1) * s / sqrt(n), with s the sample's deviation (n - 1 in its denominator)."""
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
    """How much of the labels the base curve needs to be as good as the other curve is with `fraction` of them.

    `equal`, `low` and `high` are fractions. -inf: fewer than the smallest one measured; +inf: more than the largest;
    NaN bounds: too few repeats for an interval.
    """

    fraction: float
    equal: float
    low: float
    high: float

    @property
    def factor(self) -> float:
        """Return how many times fewer labels the other curve needs."""
        return self.equal / self.fraction if math.isfinite(self.equal) else self.equal


def label_saving(
    base: Mapping[float, Mapping[str, float]], other: Mapping[float, Mapping[str, float]], fraction: float
) -> Saving:
    """Return the fraction at which `base` equals `other` at `fraction`; both are {fraction: {repeat: accuracy}}.

    The point: `base`'s mean curve made non-decreasing (least squares), read backwards, straight lines in log(fraction).
    The interval, by inverting the paired test: all fractions g in the measured range where Student's 95% interval of
    other(fraction) - base(g), paired by repeat, holds zero; each repeat's own curve is interpolated the same way.
    """
    fractions = sorted(base)
    goal = float(np.mean(list(other[fraction].values())))
    equal = _read_backwards(fractions, [float(np.mean(list(base[f].values()))) for f in fractions], goal)
    repeats = [name for name in other[fraction] if all(name in base[f] for f in fractions)]
    if len(repeats) < 2 or len(fractions) < 2:
        return Saving(fraction, equal, math.nan, math.nan)
    positions = np.log(fractions)
    grid = np.linspace(positions[0], positions[-1], 2001)
    curves = np.stack([np.interp(grid, positions, [base[f][name] for f in fractions]) for name in repeats])
    differences = np.array([[other[fraction][name]] for name in repeats]) - curves
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(repeats) - 1) * differences.std(0, ddof=1) / math.sqrt(len(repeats))
    low, high = _ends(grid, np.abs(differences.mean(0)) <= half)
    return Saving(fraction, equal, min(low, equal), max(high, equal))


def _read_backwards(fractions: Sequence[float], accuracies: Sequence[float], goal: float) -> float:
    """Return the smallest fraction at which the curve, made non-decreasing, reaches `goal`."""
    rising = optimize.isotonic_regression(accuracies).x
    if goal < rising[0]:
        return -math.inf
    if goal > rising[-1]:
        return math.inf
    after = int(np.searchsorted(rising, goal))
    if after == 0:
        return fractions[0]
    share = (goal - rising[after - 1]) / (rising[after] - rising[after - 1])
    left, right = math.log(fractions[after - 1]), math.log(fractions[after])
    return math.exp(left + share * (right - left))


def _ends(grid: NDArray[np.float64], accepted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the outer ends of the accepted part of `grid`, infinite where it reaches the end of what was measured."""
    if not accepted.any():
        return math.inf, -math.inf  # empty: the interval is the point itself
    first, last = int(np.argmax(accepted)), len(accepted) - 1 - int(np.argmax(accepted[::-1]))
    low = -math.inf if first == 0 else math.exp(grid[first])
    return low, math.inf if last == len(accepted) - 1 else math.exp(grid[last])
