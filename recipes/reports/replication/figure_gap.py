"""Figure of a gap: how far a metric at each value of a column is below that at the last value."""

from collections.abc import Mapping

from common.figures import Figure
from recipes.reports.figure_style import INK, described_interval, draw_interval, is_narrow, name_rows, row_figure
from recipes.reports.figure_text import describe
from recipes.reports.replication.agreement import difference
from recipes.reports.replication.figure_lines import Point, draw_panels, drawn_number
from recipes.reports.replication.figure_panels import PAPER, row_series
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
    """Draw a marker with its interval for each row that has a gap, a hollow diamond for the paper's, or a cross for a crash."""
    looks = row_series(findings, words)
    rows = [(row, look) for row, look in zip(findings.rows, looks, strict=True) if id(row) in points]
    if all(ours is None or not ours.count for _, ours, _ in points.values()):
        return None
    x = findings.spec.figure.x or ""
    last = words.entry(findings.last(rows[0][0]).columns.get(x))
    names = [f"{words.label(row.columns, [x])}: {last} − {words.entry(row.columns.get(x))}" for row, _ in rows]
    with row_figure(len(rows)) as (fig, (axes,)):
        axes.axvline(0, color=INK, linewidth=1.0)
        for y, (row, look) in enumerate(rows):
            _, ours, published = points[id(row)]
            if ours is None:
                axes.plot(0, y, "x", color=look.color, markersize=8, markeredgewidth=2.2, zorder=5)
                describe(fig, f"{names[y]}: diverged")
            else:
                draw_interval(axes, y, ours, look, horizontal=True)
                describe(fig, described_interval(names[y], ours))
            if published is not None:
                axes.plot(published, y + 0.18, "D", color=look.color, **PAPER)
                describe(fig, f"{names[y]}, in the paper: {published:g}")
        axes.set_ylim(len(rows) - 0.4, -1.0 if is_narrow() else -0.6)
        axes.set_xlabel(name)
        name_rows([axes], range(len(rows)), names)
    return fig
