"""Owns how figures look: one palette, light in PNG files, CSS variables in the page so that it follows the theme."""

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.reports.statistics import Interval

WIDTH = 9.6
"""Inches; every figure is as wide as the page's column."""
INK, MUTED, FAINT, PAPER = "#1c2430", "#5f6b7c", "#dde2ea", "#fefefe"
SERIES = ("#b85c00", "#1559c7", "#7a3fb0", "#0b7d6b", "#b3224c", "#5b6b1a", "#444c5a", "#9a7a00")
"""Colours of levels, told apart by colour-blind readers in pairs; the axes take them one after the other."""
VARIABLES = {INK: "--ink", MUTED: "--muted", FAINT: "--faint", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
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
    """Yield a figure of `panels` axes side by side (inches), in the house's style for the length of a `with` block."""
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(1, panels, sharey=share_y, squeeze=False)[0]
        yield drawing, list(axes)


@contextmanager
def grid(width: float, height: float, lines: int, columns: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Yield a figure of axes in lines and columns that share both scales (inches), in the house's style."""
    with matplotlib.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        axes = drawing.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        yield drawing, list(axes.flat)


def legend_above(drawing: Figure, axes: Axes) -> None:
    """Put the legend of `axes` in one line at the top left of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    drawing.legend(handles, labels, loc="outside upper left", ncols=max(1, len(labels)), handlelength=1.8)


def draw_interval(
    axes: Axes, at: float, interval: Interval, colour: str, *, horizontal: bool = False, marker_size: float = 6.0
) -> None:
    """Draw a mean as a dot and its interval as a bar; a hollow dot where the interval holds no verdict."""
    if math.isnan(interval.mean):
        return
    low, high = (interval.low, interval.high) if interval.is_known else (interval.mean, interval.mean)
    ends, here = [low, high], [at, at]
    axes.plot(*((ends, here) if horizontal else (here, ends)), color=colour, alpha=0.55, linewidth=2.2, zorder=3)
    spot = (interval.mean, at) if horizontal else (at, interval.mean)
    axes.plot(*spot, "o", color=colour, markersize=marker_size, zorder=4)


def to_png(drawing: Figure) -> bytes:
    """Return a figure as a PNG on white."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        drawing.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def to_svg(drawing: Figure, name: str, description: str) -> str:
    """Return a figure as an inline SVG element: colours by CSS variables, text as text, ids led by `name`."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = text.replace("'DejaVu Sans'", "inherit").replace("sans-serif", "inherit")
    text = re.sub(r'id="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(r"<svg [^>]*>", lambda found: _open_tag(found.group(0), label), text, count=1)


def _open_tag(tag: str, label: str) -> str:
    """Return the opening tag of a figure that takes the page's width and is read out as `label`."""
    sizeless = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", tag)
    return sizeless.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
