"""Style and layout of the figures: on a light background in files, as CSS variables in the page to follow its theme.

A figure is drawn twice: wide, and within `narrow_layout()` for screens of phones, with its panels stacked and the names of rows
above the rows. Functions that draw therefore take their axes from `figure`, `grid` or `row_figure`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import fill, shorten
from typing import Any

from common.figures import Axes, Figure, figure_settings
from recipes.reports.figure_text import describe, fit_legend, labeled_lines
from recipes.reports.formatting import number
from recipes.reports.series import SERIES, Series, series_number
from recipes.reports.statistics import Interval

__all__ = ["SERIES", "Series", "describe", "series_number"]

WIDTH = 9.6
"""Width of every wide figure in inches: that of the page's text column."""
NARROW_WIDTH = 4.1
"""Width of every narrow figure in inches: scaled to a screen of 400 pixels, its text has 11 to 12 pixels."""
MOST_COLUMNS = 4
"""Most panels side by side."""
MOST_STACKED = 4
"""Most panels of a narrow figure in one column; more are placed in two."""
INK, MUTED, FAINT, PAPER = "#1c2430", "#5f6b7c", "#dde2ea", "#fefefe"
VARIABLES = {INK: "--ink", MUTED: "--muted", FAINT: "--faint", PAPER: "--paper"} | {
    color: f"--series-{number}" for number, color in enumerate(SERIES)
}

STYLE = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.3,
    "pdf.fonttype": 42,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "xtick.minor.size": 0.0,
    "svg.fonttype": "none",
    "svg.hashsalt": "two-stage-vit",
}
_is_narrow: ContextVar[bool] = ContextVar("is_narrow", default=False)


@contextmanager
def narrow_layout() -> Iterator[None]:
    """Draw narrow figures within the `with` block."""
    token = _is_narrow.set(True)
    try:
        yield
    finally:
        _is_narrow.reset(token)


def is_narrow() -> bool:
    """Return whether figures are drawn for narrow screens."""
    return _is_narrow.get()


@contextmanager
def figure(width: float, height: float, panels: int, *, share_y: bool = True) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of `panels` axes, side by side as far as they fit; sizes in inches, `height` that of one row of panels.

    The style applies inside the `with` block.
    """
    most = (1 if panels <= MOST_STACKED else 2) if is_narrow() else MOST_COLUMNS
    rows = math.ceil(panels / most)
    columns = math.ceil(panels / rows)
    height = 0.6 + (0.72 if is_narrow() else 0.85) * (height - 0.4) * rows if rows > 1 or is_narrow() else height
    with _axes((width, height), rows, columns, panels, share_x=False, share_y=share_y) as drawn:
        yield drawn


@contextmanager
def grid(
    width: float, height: float, num_rows: int, num_columns: int, count: int | None = None
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with a grid of `count` axes that share both scales, in two columns if it is narrow; sizes in inches.

    The style applies inside the `with` block.
    """
    count, columns = count or num_rows * num_columns, min(2, num_columns) if is_narrow() else num_columns
    rows = math.ceil(count / columns)
    with _axes((width, height * rows / num_rows), rows, columns, count, share_x=True, share_y=True) as drawn:
        yield drawn


@contextmanager
def row_figure(num_rows: float, panels: int = 1) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of axes with so many rows; narrow ones have room for the name above each row (`name_rows`)."""
    height = 1.25 + (0.46 if is_narrow() else 0.3) * num_rows
    rows = panels if is_narrow() else 1
    with _axes((WIDTH, height * rows), rows, panels // rows, panels, share_x=False, share_y=True) as drawn:
        yield drawn


@contextmanager
def _axes(
    size: tuple[float, float], rows: int, columns: int, count: int, *, share_x: bool, share_y: bool
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with the first `count` axes of a grid."""
    with figure_settings(STYLE):
        fig = Figure(figsize=(NARROW_WIDTH if is_narrow() else size[0], size[1]), layout="constrained")
        axes = list(fig.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False).flat)
        for number, unused in enumerate(axes[count:], start=count):
            unused.remove()
            axes[max(0, number - columns)].tick_params(labelbottom=True)
        yield fig, axes[:count]


def name_rows(panels: Sequence[Axes], positions: Sequence[float], names: Sequence[str]) -> None:
    """Write the names of rows: left of the first axes, or above each row of every axes if the figure is narrow."""
    for axes in panels:
        axes.grid(visible=False, axis="y")
    if not is_narrow():
        labels = [shorten(name, 58, placeholder="…") for name in names]
        panels[0].set_yticks(positions, labels)
        panels[0].tick_params(axis="y", labelcolor=INK)
        return
    place: dict[str, Any] = {"textcoords": "offset points", "va": "bottom", "fontsize": 8.5, "annotation_clip": False}
    for axes in panels:
        axes.set_yticks(positions, [""] * len(positions))
        for position, name in zip(positions, names, strict=True):
            text = fill(shorten(name, 100, placeholder="…"), 52)
            axes.annotate(text, (0, position), (0, 5), xycoords=axes.get_yaxis_transform(), linespacing=1.0, **place)


def label_y(fig: Figure, panels: Sequence[Axes], text: str) -> None:
    """Label the y axis that panels share: at the first one, or at the figure if they stand in several rows."""
    rows = {axes.get_subplotspec().rowspan.start for axes in panels}  # type: ignore[union-attr]
    if len(rows) == 1:
        panels[0].set_ylabel(text)
    else:
        fig.supylabel(text, color=MUTED, fontsize=9.5)


def legend_above(fig: Figure, axes: Axes) -> None:
    """Draw the legend of `axes` at the top left of the figure, in as many columns as fit."""
    fit_legend(fig, dict(labeled_lines(axes)))


def draw_interval(
    axes: Axes,
    position: float,
    interval: Interval,
    series: Series | str,
    *,
    horizontal: bool = False,
    marker_size: float = 6.0,
) -> None:
    """Draw a mean as the marker of a series (a dot for a color) and its interval as a bar; nothing where the mean is NaN."""
    if math.isnan(interval.mean):
        return
    color, marker = (series, "o") if isinstance(series, str) else (series.color, series.marker)
    low, high = (interval.low, interval.high) if interval.is_known else (interval.mean, interval.mean)
    ends, positions = [low, high], [position, position]
    axes.plot(
        *((ends, positions) if horizontal else (positions, ends)), color=color, alpha=0.55, linewidth=2.2, zorder=3
    )
    point = (interval.mean, position) if horizontal else (position, interval.mean)
    axes.plot(*point, marker, color=color, markersize=marker_size, zorder=4)


def draw_repeats(axes: Axes, x: Sequence[float], y: Sequence[float], series: Series) -> None:
    """Draw individual repeats as small hollow markers of a series, in front of its intervals."""
    style: dict[str, Any] = {"linestyle": "none", "markersize": 3.6, "markeredgewidth": 0.8, "zorder": 3.5}
    axes.plot(x, y, marker=series.marker, color=series.color, markerfacecolor=PAPER, **style)


def described_values(values: Mapping[str, float], digits: int = 1) -> str:
    """Return values by name as the part of a description: `10% 80.1, 100% 91.0`."""
    return ", ".join(f"{name} {number(value, digits)}" for name, value in values.items() if not math.isnan(value))


def described_interval(name: str, interval: Interval, digits: int = 1) -> str:
    """Return a mean with its interval as a description; an empty text if nothing is measured."""
    if math.isnan(interval.mean):
        return ""
    bounds = f" ({number(interval.low, digits)} to {number(interval.high, digits)})" if interval.is_known else ""
    return f"{name}: {number(interval.mean, digits)}{bounds}"
