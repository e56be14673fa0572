"""Line figures of a table: the metric over a numeric column, and over the layers."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.figures import Axes, Figure
from recipes.reports.figure_style import WIDTH, described_interval, described_values, draw_interval, figure, label_y
from recipes.reports.figure_text import describe
from recipes.reports.replication.figure_panels import (
    PAPER,
    draw_legend,
    panel_rows,
    setting,
    setting_series,
    title_panel,
)
from recipes.reports.replication.findings import Row, TableFindings, layer_values
from recipes.reports.replication.tables import layer_name
from recipes.reports.replication.words import TableWords
from recipes.reports.series import Series
from recipes.reports.statistics import Interval, student_interval
from recipes.study.published import as_number

LOG_SCALE_RATIO = 5.0
"""Ratio of the last to the first value of a column from which its axis is logarithmic."""
Point = tuple[float, Interval | None, float | None]
"""(x, our interval or None for a crash, published value or None)."""


def draw_curve(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the metric over a numeric column, one line per setting of the other columns; the paper's are hollow."""
    x, main = findings.spec.figure.x or "", findings.main
    points = {
        id(row): (number, None if row.crashed else row.scores[main].interval, drawn_number(findings, row))
        for row in findings.rows
        if (number := as_number(row.columns.get(x))) is not None
    }
    return draw_panels(findings, words, points, words.metric(main))


def draw_layers(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the metric by layer: one line per row, with a band for the interval over the repeats."""
    metric = findings.spec.metric
    panels = panel_rows(findings)
    if not any(layer_values(run, metric) for row in findings.rows for run in row.runs.values()):
        return None
    looks = setting_series(findings, words)
    with figure(WIDTH, 4.2, len(panels)) as (fig, axes_of):
        depth = 0
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for row in rows:
                values = [layer for run in row.runs.values() if (layer := layer_values(run, metric))]
                if values:
                    depth = max(depth, len(values[0]))
                    name = setting(findings, words, row)
                    means = _draw_layers(axes, values, looks[name], name)
                    ends = {layer_name(0): means[0], layer_name(len(means) - 1): means[-1]}
                    describe(fig, f"{words.label(row.columns)}: {described_values(ends)}")
            title_panel(axes, findings, words, entry)
        for axes in axes_of:
            names = [layer_name(number) for number in range(depth)]
            labels = [name.replace("block ", "").replace("position embedding", "position\nembedding") for name in names]
            axes.set_xticks(range(depth), labels)
            axes.set_xlabel("after the stem, the position embedding, and each block")
        label_y(fig, axes_of, words.title(findings.main))
        draw_legend(fig, axes_of, published=False)
    return fig


def _draw_layers(axes: Axes, values: Sequence[Sequence[float]], look: Series, label: str) -> list[float]:
    """Draw one row: the mean over its runs, with the interval as a band; return the means."""
    intervals = [student_interval(list(layer)) for layer in zip(*values, strict=False)]
    layers, means = range(len(intervals)), [interval.mean for interval in intervals]
    axes.plot(layers, means, color=look.color, marker=look.marker, linestyle=look.line, markersize=5, label=label)
    if intervals[0].is_known:
        bounds = [interval.low for interval in intervals], [interval.high for interval in intervals]
        axes.fill_between(layers, *bounds, color=look.color, alpha=0.15, linewidth=0)
    return means


def drawn_number(findings: TableFindings, row: Row) -> float | None:
    """Return the published value of a row that shares an axis with ours: only at the paper's scale."""
    return published_number(row, findings.main) if findings.is_paper_scale else None


def published_number(row: Row, column: str) -> float | None:
    """Return the published value of a row if it is a number, otherwise None."""
    published = row.scores[column].published
    return published if isinstance(published, float) else None


def draw_panels(findings: TableFindings, words: TableWords, points: Mapping[int, Point], name: str) -> Figure | None:
    """Draw lines through the points of the rows: one panel per value of the panels' column, one line per setting."""
    panels = panel_rows(findings)
    if all(interval is None or math.isnan(interval.mean) for _, interval, _ in points.values()):
        return None
    xs = sorted({point[0] for point in points.values()})
    scale = "log" if xs[0] > 0 and xs[-1] / xs[0] >= LOG_SCALE_RATIO else "linear"
    looks = setting_series(findings, words)
    with figure(WIDTH, 4.1, len(panels)) as (fig, axes_of):
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for number, (line_name, look) in enumerate(looks.items()):
                line = [row for row in rows if setting(findings, words, row) == line_name and id(row) in points]
                shift = number - (len(looks) - 1) / 2
                ordered = sorted((points[id(row)] for row in line), key=lambda point: point[0])
                dodged = [(_dodge(at, shift, scale), ours, published) for at, ours, published in ordered]
                _draw_line(axes, dodged, look, line_name)
                describe(fig, *(_described(words.label(row.columns), points[id(row)]) for row in line))
            _label_x_axis(axes, findings, words, points, scale)
            title_panel(axes, findings, words, entry)
        label_y(fig, axes_of, name)
        low, high = _y_limits(points, axes_of[0].get_ylim())
        axes_of[0].set_ylim(low, high)
        for axes in axes_of:
            _draw_crashes(axes, low + 0.025 * (high - low))
        draw_legend(fig, axes_of, published=any(published is not None for _, _, published in points.values()))
    return fig


def _y_limits(points: Mapping[int, Point], full: tuple[float, float]) -> tuple[float, float]:
    """Return limits around the means and the published values; intervals far wider than their spread are clipped."""
    values = [
        interval.mean for _, interval, _ in points.values() if interval is not None and not math.isnan(interval.mean)
    ]
    values += [published for _, _, published in points.values() if published is not None]
    margin = 0.6 * max(max(values) - min(values), 1.0)
    return max(full[0], min(values) - margin), min(full[1], max(values) + margin)


def _dodge(x: float, steps: float, scale: str) -> float:
    """Return x shifted by a few small steps, so that lines do not hide each other's points."""
    return float(x * 1.015**steps) if scale == "log" else x + 0.015 * steps * max(abs(x), 1.0)


def _described(name: str, point: Point) -> str:
    """Return our value and the published one of a row as a description."""
    _, ours, published = point
    text = f"{name}: diverged" if ours is None else described_interval(name, ours)
    return text + (f", in the paper {published:g}" if text and published is not None else "")


def _draw_line(axes: Axes, points: Sequence[Point], look: Series, label: str) -> None:
    """Draw one line: our values with intervals, the paper's thin and hollow. `_draw_crashes` places the crosses of crashes."""
    ours = [(x, interval) for x, interval, _ in points if interval is not None and not math.isnan(interval.mean)]
    means = [math.nan if interval is None else interval.mean for _, interval, _ in points]  # a crash breaks the line
    style: dict[str, Any] = {"color": look.color, "marker": look.marker, "linestyle": look.line}
    axes.plot([x for x, _, _ in points], means, markersize=6, label=label, **style)
    for x, interval in ours:
        draw_interval(axes, x, interval, look, marker_size=6)
    published = [(x, value) for x, _, value in points if value is not None]
    if published:
        axes.plot(*zip(*published, strict=True), **style, **PAPER)
    for x, outcome, _ in points:
        if outcome is None:
            axes.plot(x, np.nan, "x", color=look.color, markersize=8, markeredgewidth=2.2, gid="crash")


def _draw_crashes(axes: Axes, bottom: float) -> None:
    """Move the crosses of the crashed points to the bottom of the axis."""
    for line in axes.get_lines():
        if line.get_gid() == "crash":
            line.set_ydata([bottom])
            line.set_gid(None)
            line.set_zorder(6)


def _label_x_axis(
    axes: Axes, findings: TableFindings, words: TableWords, points: Mapping[int, Point], scale: str
) -> None:
    """Label the x axis at the measured values."""
    x = findings.spec.figure.x or ""
    labels = {points[id(row)][0]: words.entry(row.columns.get(x)) for row in findings.rows if id(row) in points}
    ticks = sorted(labels)
    axes.set_xscale(scale)
    axes.minorticks_off()
    axes.set_xlim(_dodge(ticks[0], -8, scale), _dodge(ticks[-1], 8, scale))
    axes.set_xticks(ticks, [labels[tick] for tick in ticks])
    axes.set_xlabel(words.title(x))
