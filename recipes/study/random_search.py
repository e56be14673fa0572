"""Owns random draws of hyper-parameters: the same points on every machine, for every version of every library.

A draw is a pure function of (seed, number of the point, key): the first 64 bits of a SHA-256 are a uniform number in
[0, 1), spread evenly over the logarithms of the interval and rounded to 4 digits. The first n points of 64 are the n
points of n, so that a study can be begun with few.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

DIGITS = 4
"""Digits that are kept: far finer than any learning rate matters, far coarser than the last bits that machines disagree on."""


@dataclass(frozen=True)
class Interval:
    """The interval of a key, both ends above 0."""

    low: float
    high: float


def draw_log_uniform(interval: Interval, *, seed: int, number: int, key: str) -> float:
    """Return point `number` of `key`, log-uniform in the interval: low * (high / low)**u."""
    digest = hashlib.sha256(f"{seed}/{number}/{key}".encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    return float(f"{interval.low * math.exp(uniform * math.log(interval.high / interval.low)):.{DIGITS}g}")


def draw_points(intervals: Mapping[str, Interval], *, count: int, seed: int) -> list[dict[str, float]]:
    """Return `count` points, each a value by key."""
    return [
        {key: draw_log_uniform(interval, seed=seed, number=number, key=key) for key, interval in intervals.items()}
        for number in range(count)
    ]
