"""What would settle an open claim: a number of seeds or of test images, if its estimate does not change."""

import itertools
import math
from dataclasses import dataclass

from recipes.reports.statistics import SIGNIFICANCE, Interval, t_quantile

MOST_SEEDS = 100
"""Largest number of seeds that is proposed."""
MOST_IMAGES = 100
"""Largest factor on the number of test images that is proposed."""


@dataclass(frozen=True)
class NextStep:
    """What would settle an open claim, if its estimate does not change: a number of seeds, or of test images."""

    seeds: int | None
    images: int | None


def settling_step(found: Interval, margin: float | None, *, claims: int = 1) -> NextStep | None:
    """Return what would settle an estimate: significance, or equivalence within `margin`; None if its variance is unknown.

    Both numbers assume that the estimate and the variances do not change, and the level of the first of so many declared
    `claims` (Holm). None of them: more than `MOST_SEEDS` seeds, or `MOST_IMAGES` times as many images.
    """
    if found.variance is None:
        return None
    variance = found.variance

    def settles(seeds: int, images: float) -> bool:
        error = math.sqrt(variance.projected(seeds=seeds / found.count, images=images))
        degrees = found.degrees * (seeds - 1) / (found.count - 1)
        if abs(found.mean) > t_quantile(degrees, 1 - SIGNIFICANCE / claims) * error:
            return True
        return margin is not None and abs(found.mean) + t_quantile(degrees, 0.9) * error < margin

    seeds = next((n for n in range(found.count + 1, MOST_SEEDS + 1) if settles(n, 1.0)), None)
    factors = [
        *itertools.takewhile(lambda factor: factor < MOST_IMAGES, (1.25**step for step in itertools.count(1))),
        MOST_IMAGES,
    ]
    factor = next((each for each in factors if settles(found.count, each)), None)
    return NextStep(seeds, _round_up(found.images * factor) if factor and found.images else None)


def _round_up(count: float) -> int:
    """Return a number rounded up to two significant digits."""
    unit: int = 10 ** max(0, len(str(math.ceil(count))) - 2)
    return unit * math.ceil(count / unit)
