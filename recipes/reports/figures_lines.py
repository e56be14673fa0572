"""Owns the figures of a table that are lines: the metric over the numbers of a column, and over the layers."""

import math
from collections.abc import Mapping, Sequence
from textwrap import shorten

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.reports.figure_panels import PAPER_DASHES, look_of, name_lines, panels_of, title_panel
from recipes.reports.figure_style import WIDTH, draw_interval, figure
from recipes.reports.printed_tables import layer_name
from recipes.reports.statistics import Interval, student_interval
from recipes.reports.table_findings import Row, TableFindings, layer_values
from recipes.reports.table_words import TableWords
from recipes.study.published import as_number

WIDE = 5.0
"""Last value of a column over the first from which on its axis is logarithmic."""
Point = tuple[float, Interval | None, float | None]
"""(place on the axis, ours or None for a crash, printed or None)."""


def draw_curve(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the metric over the numbers of a column, a line for each setting of the others; the paper's lines are dashed."""
    over, main = findings.reading.figure.over or "", findings.main
    points = {
        id(row): (number, None if row.crashed else row.scores[main].interval, printed_number(row, main))
        for row in findings.rows
        if (number := as_number(row.columns.get(over))) is not None
    }
    return draw_panels(findings, words, points, words.metric(main))


def draw_layers(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the metric layer by layer: a line for each row, a band for the interval over the repeats."""
    metric = findings.reading.metric
    panels = panels_of(findings)
    if not any(layer_values(run, metric) for row in findings.rows for run in row.runs.values()):
        return None
    with figure(WIDTH, 4.2, len(panels)) as (drawing, axes_of):
        depth = 0
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for number, row in enumerate(rows):
                values = [layer for run in row.runs.values() if (layer := layer_values(run, metric))]
                if values:
                    depth = max(depth, len(values[0]))
                    name = words.label(row.columns, [findings.reading.figure.panels or ""])
                    _draw_layers(axes, values, *look_of(number), name)
            title_panel(axes, findings, words, entry)
        for axes in axes_of:
            names = [layer_name(number) for number in range(depth)]
            short = [name.replace("block ", "").replace("position embedding", "position\nembedding") for name in names]
            axes.set_xticks(range(depth), short)
            axes.set_xlabel("after the stem, the position embedding, and each block")
        axes_of[0].set_ylabel(words.title(findings.main))
        name_lines(drawing, axes_of, printed=False)
    return drawing


def _draw_layers(axes: Axes, values: Sequence[Sequence[float]], colour: str, mark: str, label: str) -> None:
    """Draw one row: the mean over its runs, and the interval as a band."""
    intervals = [student_interval(list(layer)) for layer in zip(*values, strict=False)]
    places = range(len(intervals))
    axes.plot(places, [one.mean for one in intervals], color=colour, marker=mark, markersize=5, label=label)
    if intervals[0].is_known:
        ends = [one.low for one in intervals], [one.high for one in intervals]
        axes.fill_between(places, *ends, color=colour, alpha=0.15, linewidth=0)


def printed_number(row: Row, column: str) -> float | None:
    """Return a printed value that is a number."""
    printed = row.scores[column].printed
    return printed if isinstance(printed, float) else None


def draw_panels(findings: TableFindings, words: TableWords, points: Mapping[int, Point], name: str) -> Figure | None:
    """Draw lines through points by row: a panel for each value of the panels' column, a line for each setting."""
    shape = findings.reading.figure
    over, panels = shape.over or "", panels_of(findings)
    if all(interval is None or math.isnan(interval.mean) for _, interval, _ in points.values()):
        return None
    places = sorted({place for place, _, _ in points.values()})
    scale = "log" if places[0] > 0 and places[-1] / places[0] >= WIDE else "linear"
    settings = list(dict.fromkeys(_setting(row, words, over, shape.panels) for row in findings.rows))
    with figure(WIDTH, 4.1, len(panels)) as (drawing, axes_of):
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for number, setting in enumerate(settings):
                line = [
                    row for row in rows if _setting(row, words, over, shape.panels) == setting and id(row) in points
                ]
                shift = number - (len(settings) - 1) / 2
                ordered = sorted((points[id(row)] for row in line), key=lambda point: point[0])
                moved = [(_beside(x, shift, scale), ours, printed) for x, ours, printed in ordered]
                _draw_line(axes, moved, look_of(number), setting)
            _label_over(axes, findings, words, points, scale)
            title_panel(axes, findings, words, entry)
        axes_of[0].set_ylabel(name)
        low, high = _framed(points, axes_of[0].get_ylim())
        axes_of[0].set_ylim(low, high)
        for axes in axes_of:
            _draw_crashes(axes, low + 0.025 * (high - low))
        name_lines(drawing, axes_of, printed=any(printed is not None for _, _, printed in points.values()))
    return drawing


def _framed(points: Mapping[int, Point], whole: tuple[float, float]) -> tuple[float, float]:
    """Return the axis's ends: around the means and the printed values; intervals far wider than their spread are cut."""
    marks = [
        interval.mean for _, interval, _ in points.values() if interval is not None and not math.isnan(interval.mean)
    ]
    marks += [printed for _, _, printed in points.values() if printed is not None]
    room = 0.6 * max(max(marks) - min(marks), 1.0)
    return max(whole[0], min(marks) - room), min(whole[1], max(marks) + room)


def _beside(x: float, steps: float, scale: str) -> float:
    """Return a place a few steps beside x, so that lines do not hide each other's points."""
    return float(x * 1.015**steps) if scale == "log" else x + 0.015 * steps * max(abs(x), 1.0)


def _setting(row: Row, words: TableWords, over: str, panels: str | None) -> str:
    """Return the name of a row's line: its columns but that of the axis and that of the panels."""
    name = words.label(row.columns, [over, panels or ""])
    return "ours" if name == "all runs" else name


def _draw_line(axes: Axes, points: Sequence[Point], look: tuple[str, str], label: str) -> None:
    """Draw one line: ours with intervals, crashes noted for the foot of the axis, the paper's dashed and hollow."""
    colour, mark = look
    ours = [(x, one) for x, one, _ in points if one is not None and not math.isnan(one.mean)]
    means = [math.nan if one is None else one.mean for _, one, _ in points]  # a crash breaks the line
    axes.plot([x for x, _, _ in points], means, color=colour, marker=mark, markersize=6, label=shorten(label, 60))
    for x, one in ours:
        draw_interval(axes, x, one, colour, marker_size=0.1)
    theirs = [(x, printed) for x, _, printed in points if printed is not None]
    if theirs:
        axes.plot(*zip(*theirs, strict=True), color=colour, linestyle=PAPER_DASHES, linewidth=1.4, marker=mark,
                  markerfacecolor="none", markersize=5)  # fmt: skip
    for x, missing, _ in points:
        if missing is None:
            axes.plot(x, np.nan, "x", color=colour, markersize=8, markeredgewidth=2.2, gid="crash")


def _draw_crashes(axes: Axes, floor: float) -> None:
    """Put the crosses of the crashed points at the foot of the axis."""
    for line in axes.get_lines():
        if line.get_gid() == "crash":
            line.set_ydata([floor])
            line.set_gid(None)
            line.set_zorder(6)


def _label_over(
    axes: Axes, findings: TableFindings, words: TableWords, points: Mapping[int, Point], scale: str
) -> None:
    """Label the axis at the values measured."""
    over = findings.reading.figure.over or ""
    named = {points[id(row)][0]: words.entry(row.columns.get(over)) for row in findings.rows if id(row) in points}
    places = sorted(named)
    axes.set_xscale(scale)
    axes.minorticks_off()
    axes.set_xlim(_beside(places[0], -8, scale), _beside(places[-1], 8, scale))
    axes.set_xticks(places, [named[place] for place in places])
    axes.set_xlabel(words.title(over))
