"""Owns the figure of a gap: how far a metric at each value of a column is below that at the last one."""

from collections.abc import Mapping
from textwrap import shorten

from matplotlib.figure import Figure

from recipes.reports.agreement import difference
from recipes.reports.figure_style import INK, WIDTH, draw_interval, figure
from recipes.reports.figures_lines import Point, draw_panels, printed_number
from recipes.reports.figures_rows import row_colours
from recipes.reports.table_findings import TableFindings, sorted_by
from recipes.reports.table_words import TableWords
from recipes.study.published import as_number


def draw_gap(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the gaps, the runs paired by repeat: lines over the column where it holds numbers, otherwise a dot for each row."""
    over, main = findings.reading.figure.over or "", findings.main
    numbers = {id(row): as_number(row.columns.get(over)) for row in findings.rows}
    points: dict[int, Point] = {}
    for _, rows in findings.groups([over]):
        *others, last = sorted_by(rows, over)
        for row in others:
            printed = printed_number(row, main), printed_number(last, main)
            theirs = None if printed[0] is None or printed[1] is None else printed[1] - printed[0]
            ours = None if row.crashed or last.crashed else difference(row, last, main)[1]
            points[id(row)] = (numbers[id(row)] or 0.0, ours, theirs)
    name = f"{words.title(main)}: points below the last"
    if any(number is None for number in numbers.values()):
        return _draw_dots(findings, words, points, name)
    drawing = draw_panels(findings, words, points, name)
    for axes in drawing.axes if drawing else []:
        axes.axhline(0, color=INK, linewidth=1.0)
    return drawing


def _draw_dots(findings: TableFindings, words: TableWords, points: Mapping[int, Point], name: str) -> Figure | None:
    """Draw a dot with its interval for each row that has a gap, a diamond for the paper's, a cross for a crash."""
    rows = [
        (row, colour) for row, colour in zip(findings.rows, row_colours(findings), strict=True) if id(row) in points
    ]
    if all(ours is None or not ours.count for _, ours, _ in points.values()):
        return None
    over = findings.reading.figure.over or ""
    last = words.entry(findings.last(rows[0][0]).columns.get(over))
    with figure(WIDTH, 1.0 + 0.3 * len(rows), 1) as (drawing, (axes,)):
        axes.axvline(0, color=INK, linewidth=1.0)
        for place, (row, colour) in enumerate(rows):
            _, ours, theirs = points[id(row)]
            if ours is None:
                axes.plot(0, place, "x", color=colour, markersize=8, markeredgewidth=2.2, zorder=5)
            else:
                draw_interval(axes, place, ours, colour, horizontal=True)
            if theirs is not None:
                axes.plot(theirs, place + 0.18, "D", color=colour, markerfacecolor="none", markersize=5.5)
        names = [
            f"{words.label(row.columns, [over])}: {last} − {words.entry(row.columns.get(over))}" for row, _ in rows
        ]
        axes.set_yticks(range(len(rows)), [shorten(one, 60, placeholder="…") for one in names])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(name)
    return drawing
