"""Style of the figures: one palette, on a light background in PNG files, as CSS variables in the page to follow its theme."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

from common.figures import Axes, Figure, figure_settings, png_bytes, svg_text
from recipes.reports.statistics import Interval

WIDTH = 9.6
"""Width of every figure in inches: that of the page's text column."""
INK, MUTED, FAINT, PAPER = "#1c2430", "#5f6b7c", "#dde2ea", "#fefefe"
SERIES = ("#b85c00", "#1559c7", "#7a3fb0", "#0b7d6b", "#b3224c", "#5b6b1a", "#444c5a", "#9a7a00")
"""Colors of levels, chosen so that color-blind readers can distinguish them in pairs; assigned to the axes in order."""
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
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
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


@contextmanager
def figure(width: float, height: float, panels: int, *, share_y: bool = True) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of `panels` axes side by side; sizes in inches. The style applies inside the `with` block."""
    with figure_settings(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(1, panels, sharey=share_y, squeeze=False)[0]
        yield fig, list(axes)


@contextmanager
def grid(width: float, height: float, num_rows: int, num_columns: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure with a grid of axes that share both scales; sizes in inches. The style applies inside the `with` block."""
    with figure_settings(STYLE):
        fig = Figure(figsize=(width, height), layout="constrained")
        axes = fig.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        yield fig, list(axes.flat)


def legend_above(fig: Figure, axes: Axes) -> None:
    """Draw the legend of `axes` in one line at the top left of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper left", ncols=max(1, len(labels)), handlelength=1.8)


def draw_interval(
    axes: Axes, position: float, interval: Interval, color: str, *, horizontal: bool = False, marker_size: float = 6.0
) -> None:
    """Draw a mean as a dot and its interval as a bar; nothing where the mean is NaN."""
    if math.isnan(interval.mean):
        return
    low, high = (interval.low, interval.high) if interval.is_known else (interval.mean, interval.mean)
    ends, positions = [low, high], [position, position]
    axes.plot(
        *((ends, positions) if horizontal else (positions, ends)), color=color, alpha=0.55, linewidth=2.2, zorder=3
    )
    point = (interval.mean, position) if horizontal else (position, interval.mean)
    axes.plot(*point, "o", color=color, markersize=marker_size, zorder=4)


def to_png(fig: Figure) -> bytes:
    """Return a figure as a PNG on a light background."""
    return png_bytes(fig, STYLE)


def to_svg(fig: Figure, name: str, description: str) -> str:
    """Return a figure as an inline SVG element: colors as CSS variables, text as text, ids prefixed with `name`."""
    text = svg_text(fig, STYLE)
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = text.replace("'DejaVu Sans'", "inherit").replace("sans-serif", "inherit")
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"<svg [^>]*>", lambda match: _open_tag(match.group(0), label), text, count=1)


def _open_tag(tag: str, label: str) -> str:
    """Return the opening tag of an SVG without a fixed size, with `label` for screen readers."""
    without_size = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", tag)
    return without_size.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
