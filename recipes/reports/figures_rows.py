"""Owns the dot plot of a table: a line for each row, ours with its interval beside the printed value, crashes as crosses."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.reports.figure_style import FAINT, INK, MUTED, SERIES, WIDTH, draw_interval, figure
from recipes.reports.table_findings import Row, TableFindings
from recipes.reports.table_words import TableWords
from recipes.study.published import CRASH

TOLD: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": MUTED, "fontsize": 8}
"""How a word beside a point is written."""
MOST_COLOURS = 4
"""Levels of a column up to which they get a colour each; with more, colours would no longer be told apart."""


def draw_rows(findings: TableFindings, words: TableWords, column: str) -> Figure | None:
    """Draw a column of the table: on one axis where both ranges meet, otherwise side by side on axes of their own."""
    ours, printed = _range(findings.rows, column, printed=False), _range(findings.rows, column, printed=True)
    if ours is None and not any(row.crashed for row in findings.rows):
        return None
    places, groups = _places(findings, words)
    colours = row_colours(findings)
    has_printed = any(row.scores[column].printed is not None for row in findings.rows)
    shared = not has_printed or _meet(ours, printed)
    with figure(WIDTH, 1.15 + 0.27 * (max(places) + 1), 1 if shared else 2) as (drawing, panels):
        limits = [_limits([ours, printed] if shared else [ours], findings.rows, column)]
        limits.append(limits[0] if shared else _limits([printed], [], column))
        for axes, limit in zip(panels, limits, strict=False):
            _frame(axes, limit, places)
        for row, place, colour in zip(findings.rows, places, colours, strict=True):
            lift = 0.19 if shared and has_printed else 0.0
            _draw_ours(panels[0], row, column, place - lift, colour, limits[0][0], words)
            _draw_printed(panels[-1], row, column, place + lift, colour, limits[1][0])
        names = [words.label(row.columns, [findings.reading.figure.panels or ""]) for row in findings.rows]
        ticks = [*zip(places, (shorten(name, 58, placeholder="…") for name in names), strict=True), *groups]
        panels[0].set_yticks([place for place, _ in ticks], [name for _, name in ticks])
        for label, (_, name) in zip(panels[0].get_yticklabels(), ticks, strict=True):
            label.set_color(INK)
            label.set_fontweight("bold" if name in [group for _, group in groups] else "normal")
        title = words.metric(column)
        panels[0].set_xlabel(title if shared else f"{title}, ours")
        panels[-1].set_xlabel(title if shared else f"{title}, the paper's")
        if has_printed:
            _legend(drawing)
    return drawing


def row_colours(findings: TableFindings) -> list[str]:
    """Return a colour for each row: by the first column that parts them into few levels, otherwise one for all."""
    for name in findings.varied:
        levels = list(dict.fromkeys(repr(row.columns.get(name)) for row in findings.rows))
        if len(levels) <= MOST_COLOURS:
            return [SERIES[(levels.index(repr(row.columns.get(name))) + 1) % len(SERIES)] for row in findings.rows]
    return [SERIES[1]] * len(findings.rows)


def _places(findings: TableFindings, words: TableWords) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the height of every row, and of the headings where a column parts the rows into panels."""
    column = findings.reading.figure.panels
    if column is None:
        return [float(number) for number in range(len(findings.rows))], []
    places: dict[int, float] = {}
    groups: list[tuple[float, str]] = []
    height = -1.0
    for value in dict.fromkeys(repr(row.columns.get(column)) for row in findings.rows):
        members = [number for number, row in enumerate(findings.rows) if repr(row.columns.get(column)) == value]
        height += 1.0 if not groups else 1.4
        entry = findings.rows[members[0]].columns.get(column)
        groups.append((height, words.label({column: entry})))
        for number in members:
            height += 1.0
            places[number] = height
    return [places[number] for number in range(len(findings.rows))], groups


def _range(rows: Sequence[Row], column: str, *, printed: bool) -> tuple[float, float] | None:
    """Return the lowest and highest value of a column, ours as means; None where there is none."""
    if printed:
        values = [score.printed for row in rows if isinstance((score := row.scores[column]).printed, float)]
    else:
        values = [row.scores[column].interval.mean for row in rows if not row.crashed and row.scores[column].points]
    known = [value for value in values if isinstance(value, float)]
    return (min(known), max(known)) if known else None


def _meet(ours: tuple[float, float] | None, printed: tuple[float, float] | None) -> bool:
    """Tell whether one axis serves both: together they are hardly wider than the wider of the two."""
    if ours is None or printed is None:
        return False
    whole = max(ours[1], printed[1]) - min(ours[0], printed[0])
    return whole <= 1.5 * max(ours[1] - ours[0], printed[1] - printed[0])


def _limits(ranges: Sequence[tuple[float, float] | None], rows: Sequence[Row], column: str) -> tuple[float, float]:
    """Return the ends of an axis: the ranges, the intervals as far as they do not dwarf these, and room for the crashes."""
    known = [one for one in ranges if one]
    low, high = (min(low for low, _ in known), max(high for _, high in known)) if known else (0.0, 1.0)
    width = max(high - low, 0.02 * abs(high), 1e-3)
    intervals = [
        row.scores[column].interval for row in rows if not row.crashed and row.scores[column].interval.is_known
    ]
    low = max(min([low, *(one.low for one in intervals)]), low - 0.6 * width)
    high = min(max([high, *(one.high for one in intervals)]), high + 0.6 * width)
    return low - 0.2 * (high - low or width), high + 0.08 * (high - low or width)


def _frame(axes: Axes, limits: tuple[float, float], places: Sequence[float]) -> None:
    """Set up an axis: its limits, a faint line for each row, and the strip of the crashes at the left."""
    axes.set_xlim(*limits)
    axes.set_ylim(max(places) + 0.7, -0.7)
    axes.grid(visible=False, axis="y")
    for place in places:
        axes.axhline(place, color=FAINT, linewidth=0.8, zorder=0)


def _draw_ours(axes: Axes, row: Row, column: str, place: float, colour: str, left: float, words: TableWords) -> None:
    """Draw our value of a row, a cross where it crashed, and how many of its runs did where some finished."""
    low, high = axes.get_xlim()
    at = left + 0.05 * (high - low)
    if row.crashed:
        axes.plot(at, place, "x", color=colour, markersize=7.5, markeredgewidth=2.2, zorder=5)
        axes.annotate(words.ours(row, column) if row.runs else CRASH, (at, place), (9, 0), **TOLD)
        return
    score = row.scores[column]
    draw_interval(axes, place, score.interval, colour, horizontal=True)
    axes.plot(
        list(score.points.values()), [place] * len(score.points), "o", color=colour, alpha=0.35, markersize=3.2, mew=0
    )
    if row.crashes and score.points:
        told = f"{len(row.crashes)} of {len(row.crashes) + len(row.runs)} crash"
        axes.annotate(told, (score.interval.mean, place), (0, 9), **{**TOLD, "ha": "center"})


def _draw_printed(axes: Axes, row: Row, column: str, place: float, colour: str, left: float) -> None:
    """Draw the printed value of a row: a hollow diamond, or a thin cross where the paper prints a crash."""
    printed, (low, high) = row.scores[column].printed, axes.get_xlim()
    if printed is None:
        return
    if isinstance(printed, str):
        axes.plot(left + 0.05 * (high - low), place, "x", color=colour, markersize=6.0, markeredgewidth=1.0, zorder=5)
        return
    alpha = 0.4 if row.scores[column].doubtful else 1.0
    axes.plot(
        printed, place, "D", color=colour, markerfacecolor="none", markersize=5.5, markeredgewidth=1.3, alpha=alpha
    )


def _legend(drawing: Figure) -> None:
    """Explain the two marks in one line above the figure."""
    ours = Line2D([], [], color=INK, marker="o", markersize=6, label="ours, mean and 95% interval")
    printed = Line2D([], [], color=INK, marker="D", markerfacecolor="none", linestyle="none", label="the paper's value")
    crash = Line2D([], [], color=INK, marker="x", markeredgewidth=2, linestyle="none", label="crash")
    drawing.legend(handles=[ours, printed, crash], loc="outside upper left", ncols=3, handlelength=1.8)
