"""Estimates over seeds and test images: means of cells, and weighted sums of them, for future images of the same kind.

Model: the value of a run with seed s on image i is mean + seed effect + image effect + residual, all random (crossed random
effects). Both the seeds and the test images are samples, so the variance of a mean over S seeds and N images has both parts,

    SE^2 = MS(seeds) / (S N) + MS(images) / (S N) - MS(residual) / (S N),

each mean square the unbiased one. More seeds do not remove the part of the images. In a difference of cells that share the test
images, the effect of an image is that on the difference. The seeds of different arms are independent (the correlation over the
seeds of two arms, which share the labeled subset, is close to zero), so their variances add up, which gives more degrees of
freedom than differences paired by seed. Within an arm, a seed's runs on several amounts of labels are averaged first: they share
the pre-training.

Degrees of freedom: Satterthwaite's, at least those of one arm's seeds; half of them for a single arm. With two degrees for the
seeds, Satterthwaite's own cover only 92.1 to 95% of the means where 95% is meant (`python -m benchmarks coverage`).

Shapes: S seeds, N test images.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recipes.reports.statistics import Interval, Variance, interval

Values = NDArray[np.float64]

UNSEEN = 0.25
"""Part of an image per cell that is counted as wrong, in the variance alone. Where cells are right on all but one or two images,
those carry all of the variance, and another test set may have others: without it such differences covered 88.8 to 92.8%
(`python -m benchmarks coverage`, scenario "real"). Agresti and Min (2005) add half an observation for the same reason. Where all
runs are equal on all images it is one image in all."""


@dataclass(frozen=True)
class CellValues:
    """A metric of the runs of a cell: (S, N) by seed and test image, or (S, 1) if the metric is no mean over images."""

    seeds: tuple[str, ...]
    values: Values

    @property
    def points(self) -> dict[str, float]:
        """Return the mean over the images by seed."""
        return dict(zip(self.seeds, self.values.mean(axis=1).tolist(), strict=True))

    def select(self, seeds: Sequence[str]) -> Values:
        """Return the values of these seeds, in this order."""
        if tuple(seeds) == self.seeds:
            return self.values
        return self.values[[self.seeds.index(seed) for seed in seeds]]


@dataclass(frozen=True)
class Term:
    """A cell of an estimate with its weight; terms of the same `arm` share their seeds' effects."""

    weight: float
    cell: CellValues
    arm: str


def estimate(terms: Sequence[Term], *, span: float = 0.0) -> Interval:
    """Return the weighted sum of the cells' means with its interval.

    In an arm of several cells only the seeds that all of them have are used, if there are two or more. The interval covers the
    sampling of test images if every cell has the values of the same images. It is unknown if an arm has fewer than two seeds, and
    the mean is NaN without any. `span` is the largest difference that an image can make, for those that are not in the test set
    (`UNSEEN`). Without images it is unknown if the seeds do not differ: they say nothing about others.
    """
    arms = _combine(terms)
    if not arms or any(not len(arm) for arm in arms):
        return Interval(math.nan, math.nan, math.nan, 0)
    count = min(len(arm) for arm in arms)
    mean = float(sum(arm.mean() for arm in arms))
    if count < 2:
        return Interval(mean, math.nan, math.nan, count)
    images = arms[0].shape[1]
    if images < 2 or any(arm.shape[1] != images for arm in arms):
        images = 0
    variance, degrees = _variance(arms, images, span, sum(term.weight**2 for term in terms))
    if variance.total == 0:
        return Interval(mean, math.nan, math.nan, count)
    return interval(mean, variance, count=count, degrees=max(count - 1, degrees), images=images)


def _combine(terms: Sequence[Term]) -> list[Values]:
    """Return the weighted sum over the cells of each arm, (S, N)."""
    by_arm: dict[str, list[Term]] = {}
    for term in terms:
        by_arm.setdefault(term.arm, []).append(term)
    combined: list[Values] = []
    for members in by_arm.values():
        seeds = [seed for seed in members[0].cell.seeds if all(seed in term.cell.seeds for term in members)]
        if len(seeds) < 2:  # their seeds differ: each cell has effects of its own
            combined += [term.weight * term.cell.values for term in members]
        else:
            combined.append(np.sum([term.weight * term.cell.select(seeds) for term in members], axis=0))
    return combined


def _variance(arms: Sequence[Values], images: int, span: float, squared_weights: float) -> tuple[Variance, float]:
    """Return the variance of the sum of the arms' means, and its degrees of freedom; 0 `images`: only seeds vary."""
    by_seed = [float(arm.mean(axis=1).var(ddof=1)) / len(arm) for arm in arms]
    seeds = sum(by_seed)
    squares = sum(own**2 / (len(arm) - 1) for own, arm in zip(by_seed, arms, strict=True))
    residual = of_images = 0.0
    if images:
        profiles = [arm.mean(axis=0) for arm in arms]
        of_images = float(np.sum(profiles, axis=0).var(ddof=1)) / images
        is_constant = seeds + of_images == 0
        of_images += (1.0 if is_constant else UNSEEN * squared_weights) * (span / images) ** 2
        residual = sum(map(_residual, arms, profiles))
        squares += of_images**2 / (images - 1)
    total = Variance(seeds, of_images, residual)
    degrees = total.total**2 / squares if squares else math.inf
    return total, degrees / 2 if len(arms) == 1 else degrees


def _residual(arm: Values, profile: Values) -> float:
    """Return the residual mean square of an arm, whose means by image are `profile`, divided by its number of values."""
    centered = arm - profile
    centered -= centered.mean(axis=1, keepdims=True)
    degrees = (len(arm) - 1) * (len(profile) - 1)
    return float(np.vdot(centered, centered)) / (degrees * len(arm) * len(profile))
