"""Shared parts of a table's figures: one panel per value of a column, looks of rows and lines, and one legend for all panels."""

from collections.abc import Sequence
from textwrap import shorten
from typing import Any

from common.figures import Axes, Figure, Line2D
from recipes.reports.figure_style import INK
from recipes.reports.figure_text import fit_legend, labeled_lines
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.words import TableWords
from recipes.reports.series import Series, assign_series, series_number

PAPER: dict[str, Any] = {
    "linewidth": 1.0,
    "alpha": 0.8,
    "markerfacecolor": "none",
    "markersize": 6.5,
    "markeredgewidth": 1.2,
}
"""Style of the paper's values: the marker and line style of our line, but hollow, thin and pale."""
MAX_LOOKS = 4
"""Most levels of a column that get a look each in a figure of rows; more would be hard to distinguish."""


def row_series(findings: TableFindings, words: TableWords) -> list[Series]:
    """Return the look of each row, the same in all figures of a page.

    In figures of rows that of the first column that varies and has few levels; in figures of lines that of its line.
    """
    if findings.spec.figure.kind != "rows":
        looks = setting_series(findings, words)
        return [looks[setting(findings, words, row)] for row in findings.rows]
    for name in findings.varied:
        levels = [repr(row.columns.get(name)) for row in findings.rows]
        if len(set(levels)) <= MAX_LOOKS:
            by_level = assign_series(levels)
            return [by_level[level] for level in levels]
    return [series_number(1)] * len(findings.rows)


def setting_series(findings: TableFindings, words: TableWords) -> dict[str, Series]:
    """Return the look of each line by its name (`setting`), the same in every panel."""
    return assign_series(setting(findings, words, row) for row in findings.rows)


def setting(findings: TableFindings, words: TableWords, row: Row) -> str:
    """Return the name of a row's line: its columns except that of the x axis and that of the panels."""
    shape = findings.spec.figure
    x = shape.x if shape.kind in ("curve", "gap") else None
    name = words.label(row.columns, [x or "", shape.panels or ""])
    return "ours" if name == "all runs" else name


def panel_rows(findings: TableFindings) -> list[tuple[Any, list[Row]]]:
    """Return (entry in the column of the panels, rows) for every panel."""
    column = findings.spec.figure.panels
    groups: dict[str, tuple[Any, list[Row]]] = {}
    for row in findings.rows:
        entry = row.columns.get(column) if column else None
        groups.setdefault(repr(entry), (entry, []))[1].append(row)
    return list(groups.values())


def title_panel(axes: Axes, findings: TableFindings, words: TableWords, entry: Any) -> None:
    """Set the title of a panel."""
    column = findings.spec.figure.panels
    if column:
        axes.set_title(words.label({column: entry}))


def draw_legend(fig: Figure, panels: Sequence[Axes], *, published: bool) -> None:
    """Draw one legend above the figure, with every line once and, if `published`, the hollow marker of the paper."""
    handles = {shorten(label, 60, placeholder="…"): line for axes in panels for label, line in labeled_lines(axes)}
    if published:
        handles["the paper (hollow)"] = Line2D([], [], color=INK, marker="o", **PAPER)
    fit_legend(fig, handles)
