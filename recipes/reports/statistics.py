"""Intervals and tests of a report: Student's intervals, rates, Holm's adjustment, equivalence.

`crossed_effects` computes the intervals of means and differences over seeds and test images; here is what they have in common.
Every interval is a two-sided 95% confidence interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

SIGNIFICANCE = 0.05
"""p-value below which a difference is significant."""
CONFIDENCE = 1 - SIGNIFICANCE
MOST_DEGREES = 1e6
"""Degrees of freedom from which Student's t is normal."""
MIN_SEEDS = 3
"""Number of seeds below which no difference counts as significant: the variance of two seeds has one degree of freedom."""


@dataclass(frozen=True)
class Variance:
    """Parts of the variance of an estimate: seeds + images - residual, each of the mean over the seeds and images there are."""

    seeds: float
    images: float
    residual: float

    @property
    def total(self) -> float:
        """Return the variance of the estimate.

        It is at least that of the seeds, and that of the images less half of the residual: the estimate of a part's variance, which
        cannot be negative, often is. With all of the residual the intervals of means covered less than 93%, with none of it those
        of differences more than 98% (`python -m benchmarks coverage`).
        """
        return max(self.seeds + self.images - self.residual, self.seeds, self.images - self.residual / 2)

    def projected(self, *, seeds: float, images: float) -> float:
        """Return the variance with so many times as many seeds and test images."""
        own_seeds, own_images = max(self.seeds - self.residual, 0.0), max(self.images - self.residual, 0.0)
        return own_seeds / seeds + own_images / images + self.residual / (seeds * images)


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds; without an estimate of its variance the bounds are NaN, and nothing is significant."""

    mean: float
    low: float
    high: float
    count: int
    """Number of seeds; of the arm with the fewest."""
    error: float = math.nan
    """Standard error."""
    degrees: float = math.nan
    """Degrees of freedom of the standard error."""
    images: int = 0
    """Number of test images whose sampling the interval covers; 0: the interval is for these test images only."""
    variance: Variance | None = None

    @property
    def is_known(self) -> bool:
        """Return whether there are bounds."""
        return not math.isnan(self.low)

    @property
    def sign(self) -> int:
        """Return +1 or -1 if the interval is entirely above or below zero, otherwise 0 (not significantly different from zero).

        With fewer than `MIN_SEEDS` seeds it is 0.
        """
        return (int(self.low > 0) - int(self.high < 0)) if self.count >= MIN_SEEDS else 0

    @property
    def half_width(self) -> float:
        """Return half the width, in the unit of the values."""
        return (self.high - self.low) / 2

    @property
    def p_value(self) -> float:
        """Return the two-sided p-value of the hypothesis that the mean is zero; NaN without an interval."""
        if math.isnan(self.error):
            return math.nan
        if self.error == 0:
            return float(self.mean == 0)
        return float(2 * special.stdtr(min(self.degrees, MOST_DEGREES), -abs(self.mean) / self.error))

    def is_equivalent(self, margin: float) -> bool:
        """Return whether the mean is significantly within +-margin: two one-sided tests (TOST), each at 5%."""
        if math.isnan(self.error) or self.count < MIN_SEEDS:
            return False
        half = t_quantile(self.degrees, 2 * CONFIDENCE - 1) * self.error
        return -margin < self.mean - half and self.mean + half < margin


def student_interval(values: Sequence[float]) -> Interval:
    """Return mean +- t(0.975, n - 1) * s / sqrt(n), with s the sample standard deviation (ddof = 1)."""
    count = len(values)
    mean = float(np.mean(values)) if count else math.nan
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    variance = float(np.var(values, ddof=1)) / count
    return interval(mean, Variance(variance, 0.0, 0.0), count=count, degrees=count - 1)


def interval(mean: float, variance: Variance, *, count: int, degrees: float, images: int = 0) -> Interval:
    """Return mean +- t(0.975, degrees) * standard error."""
    error = math.sqrt(variance.total)
    half = t_quantile(degrees) * error
    return Interval(mean, mean - half, mean + half, count, error, degrees, images, variance)


def bounded_interval(estimate: Interval, low: float, high: float) -> Interval:
    """Return the interval of a mean of values in [low, high], which never leaves that range.

    Wilson's score interval with Student's t and an effective number of observations, p (1 - p) / SE^2 for the mean p as a fraction
    of the range (Korn and Graubard 1998 use it for clustered surveys); where all values are equal or at one end, the number of
    images.
    """
    if not estimate.is_known:
        return estimate
    p, error = (estimate.mean - low) / (high - low), estimate.error / (high - low)
    observations = estimate.count * estimate.images if estimate.images else math.inf
    if not 0 <= p <= 1:
        return estimate
    is_extreme = error == 0 or p in (0.0, 1.0)
    effective = max(estimate.images, 1) if is_extreme else min(p * (1 - p) / error**2, observations)
    t = t_quantile(estimate.degrees)
    center = (p + t * t / (2 * effective)) / (1 + t * t / effective)
    half = t / (1 + t * t / effective) * math.sqrt(p * (1 - p) / effective + t * t / (4 * effective**2))
    ends = [low + (high - low) * min(max(end, 0.0), 1.0) for end in (center - half, center + half)]
    return replace(estimate, low=ends[0], high=ends[1])


def rate_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a rate, as fractions."""
    found = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values adjusted for several declared claims (Holm 1979), by name; NaN stays NaN and counts as a claim.

    The k-th smallest of m is multiplied by m - k + 1, and is at least the adjusted one before it.
    """
    ordered = sorted(p_values, key=lambda name: math.inf if math.isnan(p_values[name]) else p_values[name])
    adjusted, largest = {}, 0.0
    for number, name in enumerate(ordered):
        largest = max(largest, min(1.0, p_values[name] * (len(ordered) - number)))
        adjusted[name] = math.nan if math.isnan(p_values[name]) else largest
    return {name: adjusted[name] for name in p_values}


def chance_of_false_mark(tests: int) -> float:
    """Return the probability that at least one of so many independent tests without effect is significant."""
    return float(1 - CONFIDENCE**tests)


def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return the two-sided quantile of Student's t."""
    return float(special.stdtrit(min(degrees, MOST_DEGREES), (1 + confidence) / 2))


def paired_differences(base: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return other - base for every repeat that both have, by repeat."""
    return {repeat: other[repeat] - value for repeat, value in base.items() if repeat in other}
