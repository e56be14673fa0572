"""Random search over hyperparameters: the same points on every machine and with every version of every library.

A sample is a pure function of (seed, number of the point, key): the first 64 bits of a SHA-256 are a uniform number in [0, 1),
which is mapped to a log-uniform value in the interval and rounded to 4 digits. The points of a search of n are the first n points
of a larger search, so a study can start with few points.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

DIGITS = 4
"""Significant digits: much finer than a learning rate matters, much coarser than the last bits, which differ between machines."""


@dataclass(frozen=True)
class Interval:
    """Interval of a key's values; both ends are above 0."""

    low: float
    high: float


def draw_log_uniform(interval: Interval, *, seed: int, number: int, key: str) -> float:
    """Return the value of `key` in point `number`, log-uniform in the interval: low * (high / low)**u."""
    digest = hashlib.sha256(f"{seed}/{number}/{key}".encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    return float(f"{interval.low * math.exp(uniform * math.log(interval.high / interval.low)):.{DIGITS}g}")


def draw_points(intervals: Mapping[str, Interval], *, count: int, seed: int) -> list[dict[str, float]]:
    """Return `count` points, each a mapping of keys to values."""
    return [
        {key: draw_log_uniform(interval, seed=seed, number=number, key=key) for key, interval in intervals.items()}
        for number in range(count)
    ]
