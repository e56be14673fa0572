"""Looks of series: a color, a marker, a line style and a hatch each, so that none is identified by its color alone.

Any two of the first ten differ in marker and line style, and in color by at least 12 (CIEDE2000) for normal color vision and for
complete protanopia, deuteranopia and tritanopia (Machado et al. 2009), in the light and in the dark theme of the page.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SERIES = ("#c96f00", "#0f3f9c", "#368f80", "#7970f3", "#542a50", "#6e5a06", "#0c4221", "#a282b3", "#1f684e", "#849460")
"""Colors of series on a light background; in the page they are the variables --series-0 to --series-9 of report.css."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
LINES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.1, 1.3)),
    (0, (7, 1.6, 1.1, 1.6)),
    (0, (2.6, 1.3)),
    (0, (9, 2.2)),
    (0, (5, 1.3, 1.1, 1.3, 1.1, 1.3)),
    (0, (1.1, 3)),
    (0, (8, 1.3, 2.6, 1.3)),
    (0, (3, 1.3, 1.1, 1.3, 1.1, 1.3, 1.1, 1.3)),
)
"""Line styles as matplotlib takes them: solid, then patterns of dashes in units of the line's width."""
HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++++", "oooo", "||||", "OO")
"""Patterns of bars."""


@dataclass(frozen=True)
class Series:
    """How a series is drawn in every figure of a page."""

    color: str
    marker: str
    line: Any
    """Line style as matplotlib takes it."""
    hatch: str


def series_number(number: int) -> Series:
    """Return the look of series `number`; from ten on, a combination of line style and color that no earlier one has."""
    turn, place = divmod(number, len(SERIES))
    return Series(
        SERIES[place], MARKERS[place], LINES[(place + turn) % len(LINES)], HATCHES[(place + turn) % len(HATCHES)]
    )


def assign_series(names: Iterable[str]) -> dict[str, Series]:
    """Return the look of each level by its name, in the order in which the names appear first."""
    return {name: series_number(number) for number, name in enumerate(dict.fromkeys(names))}
