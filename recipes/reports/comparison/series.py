"""Marker and line style of the levels of the main axis, so that no two of them differ by color alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.2, 1.2)), (0, (6, 1.4, 1.2, 1.4)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Series:
    """How a series is drawn."""

    color: str
    marker: str
    line: Any
    """Line style as matplotlib takes it."""


def series_of(names: Iterable[str], colors: dict[str, str]) -> dict[str, Series]:
    """Return how each level is drawn, by name, in the order of `names`."""
    return {
        name: Series(colors[name], _MARKERS[number % len(_MARKERS)], _LINES[number % len(_LINES)])
        for number, name in enumerate(names)
    }
