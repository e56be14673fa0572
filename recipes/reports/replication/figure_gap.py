"""Figure of a gap: how far a metric at each value of a column is below that at the last value."""

from collections.abc import Mapping
from textwrap import shorten

from common.figures import Figure
from recipes.reports.figure_style import INK, WIDTH, draw_interval, figure
from recipes.reports.replication.agreement import difference
from recipes.reports.replication.figure_lines import Point, draw_panels, drawn_number
from recipes.reports.replication.figure_rows import row_colors
from recipes.reports.replication.findings import TableFindings, sorted_by
from recipes.reports.replication.words import TableWords
from recipes.study.published import as_number


def draw_gap(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the gaps, with runs paired by repeat: lines over a numeric column, otherwise a dot for each row."""
    x, main = findings.spec.figure.x or "", findings.main
    numbers = {id(row): as_number(row.columns.get(x)) for row in findings.rows}
    points: dict[int, Point] = {}
    for _, rows in findings.groups([x]):
        *others, last = sorted_by(rows, x)
        for row in others:
            base, end = drawn_number(findings, row), drawn_number(findings, last)
            published = None if base is None or end is None else end - base
            ours = None if row.crashed or last.crashed else difference(row, last, main)[1]
            points[id(row)] = (numbers[id(row)] or 0.0, ours, published)
    name = f"{words.title(main)}: points below the last"
    if any(number is None for number in numbers.values()):
        return _draw_dots(findings, words, points, name)
    fig = draw_panels(findings, words, points, name)
    for axes in fig.axes if fig else []:
        axes.axhline(0, color=INK, linewidth=1.0)
    return fig


def _draw_dots(findings: TableFindings, words: TableWords, points: Mapping[int, Point], name: str) -> Figure | None:
    """Draw, for each row that has a gap, a dot with its interval, a diamond for the paper's gap, or a cross for a crash."""
    rows = [(row, color) for row, color in zip(findings.rows, row_colors(findings), strict=True) if id(row) in points]
    if all(ours is None or not ours.count for _, ours, _ in points.values()):
        return None
    x = findings.spec.figure.x or ""
    last = words.entry(findings.last(rows[0][0]).columns.get(x))
    with figure(WIDTH, 1.0 + 0.3 * len(rows), 1) as (fig, (axes,)):
        axes.axvline(0, color=INK, linewidth=1.0)
        for y, (row, color) in enumerate(rows):
            _, ours, published = points[id(row)]
            if ours is None:
                axes.plot(0, y, "x", color=color, markersize=8, markeredgewidth=2.2, zorder=5)
            else:
                draw_interval(axes, y, ours, color, horizontal=True)
            if published is not None:
                axes.plot(published, y + 0.18, "D", color=color, markerfacecolor="none", markersize=5.5)
        names = [f"{words.label(row.columns, [x])}: {last} − {words.entry(row.columns.get(x))}" for row, _ in rows]
        axes.set_yticks(range(len(rows)), [shorten(label, 60, placeholder="…") for label in names])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(name)
    return fig
