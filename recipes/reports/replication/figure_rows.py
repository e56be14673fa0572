"""Dot plot of a table: one line per row with our value, its interval and the published value; crashes as crosses."""

from collections.abc import Sequence
from typing import Any

from common.figures import Axes, Figure, Line2D
from recipes.reports.figure_style import (
    FAINT,
    INK,
    MUTED,
    described_interval,
    draw_interval,
    draw_repeats,
    is_narrow,
    name_rows,
    row_figure,
)
from recipes.reports.figure_text import describe, fit_legend
from recipes.reports.replication.figure_panels import PAPER, row_series
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.words import TableWords
from recipes.reports.series import Series

ANNOTATION: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": MUTED, "fontsize": 8}
"""Style of a note next to a point."""


def draw_rows(findings: TableFindings, words: TableWords, column: str) -> Figure | None:
    """Draw a column of the table: on one axis if it suits both ranges, otherwise on two axes side by side."""
    ours, published = _range(findings.rows, column, published=False), _range(findings.rows, column, published=True)
    if ours is None and not any(row.crashed for row in findings.rows):
        return None
    ys, groups = _row_positions(findings, words)
    looks = row_series(findings, words)
    has_published = any(row.scores[column].published is not None for row in findings.rows)
    shared = not has_published or (findings.is_paper_scale and _fits_one_axis(ours, published))
    with row_figure(max(ys) + 1, 1 if shared else 2) as (fig, panels):
        limits = [_limits([ours, published] if shared else [ours], findings.rows, column)]
        limits.append(limits[0] if shared else _limits([published], [], column))
        for axes, limit in zip(panels, limits, strict=False):
            _set_up_axis(axes, limit, ys)
        for row, y, look in zip(findings.rows, ys, looks, strict=True):
            offset = 0.19 if shared and has_published else 0.0
            _draw_ours(panels[0], row, column, y - offset, look, limits[0][0], words)
            _draw_published(panels[-1], row, column, y + offset, look, limits[1][0])
            describe(fig, _described(row, column, words))
        names = [words.label(row.columns, [findings.spec.figure.panels or ""]) for row in findings.rows]
        name_rows(panels, [*ys, *(y for y, _ in groups)], [*names, *(name for _, name in groups)])
        _embolden(panels, {name for _, name in groups})
        title = words.metric(column)
        panels[0].set_xlabel(title if shared else f"{title}, ours")
        panels[-1].set_xlabel(title if shared else f"{title}, paper")
        if has_published:
            _legend(fig)
    return fig


def _embolden(panels: Sequence[Axes], names: set[str]) -> None:
    """Make the headings of groups bold."""
    for text in [text for axes in panels for text in (*axes.get_yticklabels(), *axes.texts)]:
        if text.get_text() in names:
            text.set_fontweight("bold")


def _described(row: Row, column: str, words: TableWords) -> str:
    """Return our value and the published one of a row as a description."""
    score, name = row.scores[column], words.label(row.columns)
    ours = f"{name}: {words.ours(row, column)}" if row.crashed else described_interval(name, score.interval)
    published = score.published
    paper = f"{published:g}" if isinstance(published, float) else published
    return ours + (f", in the paper {paper}" if ours and paper is not None else "")


def _row_positions(findings: TableFindings, words: TableWords) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the y of every row, and (y, heading) of every group where a column divides the rows into panels."""
    column = findings.spec.figure.panels
    if column is None:
        return [float(number) for number in range(len(findings.rows))], []
    ys: dict[int, float] = {}
    groups: list[tuple[float, str]] = []
    height = -1.0
    for value in dict.fromkeys(repr(row.columns.get(column)) for row in findings.rows):
        members = [number for number, row in enumerate(findings.rows) if repr(row.columns.get(column)) == value]
        height += 1.0 if not groups else 1.4
        entry = findings.rows[members[0]].columns.get(column)
        groups.append((height, words.label({column: entry})))
        for number in members:
            height += 1.0
            ys[number] = height
    return [ys[number] for number in range(len(findings.rows))], groups


def _range(rows: Sequence[Row], column: str, *, published: bool) -> tuple[float, float] | None:
    """Return the smallest and largest published value of a column, or of our means; None where there is no value."""
    if published:
        values = [score.published for row in rows if isinstance((score := row.scores[column]).published, float)]
    else:
        values = [row.scores[column].interval.mean for row in rows if not row.crashed and row.scores[column].points]
    known = [value for value in values if isinstance(value, float)]
    return (min(known), max(known)) if known else None


def _fits_one_axis(ours: tuple[float, float] | None, published: tuple[float, float] | None) -> bool:
    """Return whether one axis suits both ranges: their union is at most 1.5 times as wide as the wider one."""
    if ours is None or published is None:
        return False
    width = max(ours[1], published[1]) - min(ours[0], published[0])
    return width <= 1.5 * max(ours[1] - ours[0], published[1] - published[0])


def _limits(ranges: Sequence[tuple[float, float] | None], rows: Sequence[Row], column: str) -> tuple[float, float]:
    """Return the limits of an axis: the ranges, the intervals unless they are far wider, and room for the crashes at the left."""
    known = [limits for limits in ranges if limits]
    low, high = (min(low for low, _ in known), max(high for _, high in known)) if known else (0.0, 1.0)
    width = max(high - low, 0.02 * abs(high), 1e-3)
    intervals = [
        row.scores[column].interval for row in rows if not row.crashed and row.scores[column].interval.is_known
    ]
    low = max(min([low, *(interval.low for interval in intervals)]), low - 0.6 * width)
    high = min(max([high, *(interval.high for interval in intervals)]), high + 0.6 * width)
    return low - 0.2 * (high - low or width), high + 0.08 * (high - low or width)


def _set_up_axis(axes: Axes, limits: tuple[float, float], ys: Sequence[float]) -> None:
    """Set up an axis: its limits, and a faint line for each row."""
    axes.set_xlim(*limits)
    axes.set_ylim(max(ys) + 0.7, -1.0 if is_narrow() else -0.7)
    for y in ys:
        axes.axhline(y, color=FAINT, linewidth=0.8, zorder=0)


def _draw_ours(axes: Axes, row: Row, column: str, y: float, look: Series, left: float, words: TableWords) -> None:
    """Draw our value of a row, or a cross if it crashed; note how many runs crashed if only some did."""
    low, high = axes.get_xlim()
    x = left + 0.05 * (high - low)
    if row.crashed:
        axes.plot(x, y, "x", color=look.color, markersize=7.5, markeredgewidth=2.2, zorder=5)
        axes.annotate(words.ours(row, column), (x, y), (9, 0), **ANNOTATION)
        return
    score = row.scores[column]
    draw_interval(axes, y, score.interval, look, horizontal=True)
    draw_repeats(axes, list(score.points.values()), [y] * len(score.points), look)
    for end, is_cut, marker in (
        (low, score.interval.low < low, "<"),
        (high, score.interval.high > high, ">"),
    ):
        if is_cut:
            axes.plot(end, y, marker, color=look.color, markersize=5, clip_on=False, zorder=4)
    if row.crashes and score.points:
        note = f"{len(row.crashes)} of {row.ended} diverged"
        axes.annotate(note, (score.interval.mean, y), (0, -10), **{**ANNOTATION, "ha": "center"})


def _draw_published(axes: Axes, row: Row, column: str, y: float, look: Series, left: float) -> None:
    """Draw the published value of a row: a hollow diamond, or a thin cross where the paper reports a crash."""
    published, (low, high) = row.scores[column].published, axes.get_xlim()
    if published is None:
        return
    if isinstance(published, str):
        axes.plot(left + 0.05 * (high - low), y, "x", color=look.color, markersize=6.0, markeredgewidth=1.0, zorder=5)
        return
    alpha = 0.4 if row.scores[column].doubtful else 1.0
    axes.plot(published, y, "D", color=look.color, **(PAPER | {"alpha": alpha}))


def _legend(fig: Figure) -> None:
    """Draw the legend of the markers above the figure."""
    crash: dict[str, Any] = {"color": INK, "marker": "x", "markeredgewidth": 2, "linestyle": "none"}
    entries = {
        "ours, mean and 95% CI": Line2D([], [], color=INK, marker="o", markersize=6),
        "the paper's value": Line2D([], [], color=INK, marker="D", linestyle="none", **(PAPER | {"alpha": 1.0})),
        "diverged here, or crash in the paper": Line2D([], [], **crash),
    }
    fit_legend(fig, entries, handlelength=1.8)
