"""Figures of the metric over the compute that an arm has spent in all of its stages."""

import math
from collections.abc import Mapping

import pandas as pd

from common.figures import Axes, Figure
from recipes.reports.arm_costs import MACS, CellCosts
from recipes.reports.comparison.compute import Spent, spent_by_arm, unit_of
from recipes.reports.comparison.curve_figures import draw_stage_curves, set_log_ticks
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.stage_curves import shown_panels
from recipes.reports.comparison.words import Words
from recipes.reports.figure_style import MUTED, WIDTH, described_interval, grid, legend_above
from recipes.reports.figure_text import POINT_LABEL, describe
from recipes.reports.series import Series

MOST_PER_ROW, MOST_PANELS = 3, 6


def draw_cells_over_compute(
    findings: Findings, words: Words, costs: CellCosts, series: Mapping[str, Series], column: str
) -> Figure | None:
    """Draw the mean of every cell with its interval over what one run cost, a panel each; None where no cost is known."""
    panels = shown_panels(findings, MOST_PANELS)
    by_panel = [spent_by_arm(findings, costs, panel, column, list(series)) for panel in panels]
    amounts = [each.amount for arms in by_panel for arm in arms.values() for each in arm]
    if not amounts:
        return None
    scale, unit = unit_of(max(amounts)) if column == MACS else (1.0, "device-hours")
    columns = min(MOST_PER_ROW, len(panels))
    rows = math.ceil(len(panels) / columns)
    with grid(WIDTH, 0.9 + 2.6 * rows, rows, columns, len(panels)) as (fig, drawn):
        for axes, panel, arms in zip(drawn, panels, by_panel, strict=True):
            for number, (name, arm) in enumerate(arms.items()):
                where = ", ".join(filter(None, (words.panel(panel), words.title(name))))
                for each in arm:
                    at = f"{where}, {words.format_x(float(each.estimate.levels[words.spec.x]))}"
                    spent = f"{at}, {each.amount / scale:.3g} {unit}"
                    describe(fig, described_interval(spent, each.estimate.interval, words.metric.digits))
                _draw_arm(axes, arm, series[name], -1 if number % 2 == 0 else 1, scale, words)
            axes.set_title(words.panel(panel))
        _set_scale(drawn[0], [amount / scale for amount in amounts])
        fig.supxlabel(f"{unit} of a run, all stages", color=MUTED, fontsize=9.5)
        fig.supylabel(words.axis_title, color=MUTED, fontsize=9.5)
        for name, style in series.items():
            drawn[0].plot([], [], color=style.color, marker=style.marker, linestyle=style.line, label=words.title(name))
        legend_above(fig, drawn[0])
    return fig


def draw_curves_over_compute(
    curves: pd.DataFrame, findings: Findings, words: Words, series: Mapping[str, Series], label: str
) -> Figure | None:
    """Draw validation curves (`over_macs`) over the MACs spent so far, those of the earlier stages included."""
    if not len(curves):
        return None
    scale, unit = unit_of(float(curves["macs"].max()))
    return draw_stage_curves(
        curves.assign(spent=curves["macs"] / scale),
        findings,
        words,
        series,
        position="spent",
        labels=(f"{unit} spent so far, all stages", label),
    )


def _draw_arm(axes: Axes, arm: list[Spent], style: Series, side: int, scale: float, words: Words) -> None:
    """Draw the cells of an arm, connected in the order of x: marker, interval, and the level of x on one side (-1, 1)."""
    places = [each.amount / scale for each in arm]
    means = [each.estimate.interval.mean for each in arm]
    axes.plot(places, means, color=style.color, linestyle=style.line, linewidth=1.2, alpha=0.6)
    for each, place in zip(arm, places, strict=True):
        found = each.estimate.interval
        if found.is_known:
            axes.plot([place, place], [found.low, found.high], color=style.color, linewidth=2.0, alpha=0.5)
        axes.plot(place, found.mean, style.marker, color=style.color, markersize=6.5)
        text = words.format_x(float(each.estimate.levels[words.spec.x]))
        axes.annotate(
            text,
            (place, found.mean),
            (7 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            color=MUTED,
            fontsize=8,
            gid=POINT_LABEL,
        )


def _set_scale(axes: Axes, amounts: list[float]) -> None:
    """Make the axis logarithmic, with room for the labels beside the outermost points."""
    low, high = min(amounts), max(amounts)
    room = max(1.25, (high / low) ** 0.12)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    set_log_ticks(axes)
