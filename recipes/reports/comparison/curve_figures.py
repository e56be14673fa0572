"""Figures of the curves of the last stage: a panel for each panel of the study and each x, a line per level of the main axis."""

import itertools
import math
from collections.abc import Mapping

import pandas as pd

from common.figures import Axes, Figure, MaxNLocator
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.stage_curves import over, select, shown_panels, spread
from recipes.reports.comparison.words import Words
from recipes.reports.figure_style import MUTED, WIDTH, grid, legend_above
from recipes.reports.series import Series

MOST_ROWS, MOST_COLUMNS = 4, 3
"""Number of panels of the study, and of levels of x, up to which all are drawn."""
WIDE_RANGE = 5
"""Ratio of the longest to the shortest curve above which the axis is logarithmic."""


def draw_stage_curves(
    curves: pd.DataFrame,
    findings: Findings,
    words: Words,
    series: Mapping[str, Series],
    *,
    position: str,
    labels: tuple[str, str],
) -> Figure | None:
    """Draw a metric over the column `position`: thin lines are runs, thick ones the mean where all of a group's runs have values.

    `curves` are those of `read_stage_curves` for one metric; `labels` those of the two axes. None without curves.
    """
    curves = curves[curves[position] > 0]
    if not len(curves):
        return None
    rows = shown_panels(findings, MOST_ROWS)
    columns = spread(findings.x, MOST_COLUMNS)
    cells = list(itertools.product(rows, columns))
    with grid(WIDTH, 0.9 + 1.9 * len(rows), len(rows), len(columns)) as (fig, panels):
        for axes, (panel, x) in zip(panels, cells, strict=True):
            own = select(curves, **panel, **{findings.spec.x: x})
            _draw_groups(axes, own, findings.main.axis, series, position)
            title = ", ".join(filter(None, (words.panel(panel), words.format_x(float(x)))))
            axes.set_title(title, fontsize=9)
        ends = curves.groupby("run")[position].max()
        if ends.max() > WIDE_RANGE * ends.min():
            panels[0].set_xscale("log")  # all panels share the axis
            set_log_ticks(panels[0])
        fig.supxlabel(labels[0], color=MUTED, fontsize=9.5)
        fig.supylabel(labels[1], color=MUTED, fontsize=9.5)
        _legend(fig, panels[0], series, words)
    return fig


def set_log_ticks(axes: Axes) -> None:
    """Label a logarithmic axis at powers of ten, at 2 and 5 times these where there are few, else at some round numbers."""
    low, high = axes.get_xlim()
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in ((1, 2, 5) if len(powers) < 4 else (1,))]
    shown = [tick for tick in ticks if low <= tick <= high]
    axes.set_xticks(shown if len(shown) > 1 else _round_numbers(low, high))
    axes.xaxis.set_major_formatter("{x:,.12g}")
    axes.minorticks_off()


def _round_numbers(low: float, high: float) -> list[float]:
    """Return some round numbers between two numbers, which are no powers of ten apart."""
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10], min_n_ticks=2).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def _draw_groups(axes: Axes, curves: pd.DataFrame, main: str, series: Mapping[str, Series], position: str) -> None:
    """Draw the runs of each level of the main axis and their mean."""
    for name, style in series.items():
        runs = over(select(curves, **{main: name}), position)
        for _, curve in runs.items():
            axes.plot(curve.dropna(), color=style.color, alpha=0.3, linewidth=0.8)
        mean = runs.dropna().mean(axis=1)
        axes.plot(
            mean,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=4.5,
            markevery=max(1, len(mean) // 6),
        )


def _legend(fig: Figure, axes: Axes, series: Mapping[str, Series], words: Words) -> None:
    """Draw the legend of all series, whether or not the first panel has them."""
    for name, style in series.items():
        axes.plot(
            [],
            [],
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markersize=4.5,
            label=words.title(name),
        )
    legend_above(fig, axes)
