"""Owns what the figures of a table share: a panel for each value of a column, a look for each line, one legend for all."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.reports.figure_style import INK, SERIES
from recipes.reports.table_findings import Row, TableFindings
from recipes.reports.table_words import TableWords

MARKS = ("o", "s", "^", "v", "P", "X", "<", ">")
"""Marks of the lines, so that none is told by its colour alone."""
PAPER_DASHES = (0, (4, 2.5))
"""Dashes of the paper's lines."""


def look_of(number: int) -> tuple[str, str]:
    """Return the colour and the mark of line `number`."""
    return SERIES[number % len(SERIES)], MARKS[number % len(MARKS)]


def panels_of(findings: TableFindings) -> list[tuple[Any, list[Row]]]:
    """Return the rows of each panel with its entry in the panels' column."""
    column = findings.reading.figure.panels
    groups: dict[str, tuple[Any, list[Row]]] = {}
    for row in findings.rows:
        entry = row.columns.get(column) if column else None
        groups.setdefault(repr(entry), (entry, []))[1].append(row)
    return list(groups.values())


def title_panel(axes: Axes, findings: TableFindings, words: TableWords, entry: Any) -> None:
    """Give a panel its title."""
    column = findings.reading.figure.panels
    if column:
        axes.set_title(words.label({column: entry}))


def name_lines(drawing: Figure, panels: Sequence[Axes], *, printed: bool) -> None:
    """Name every line once above the figure, and what a dashed one is."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if printed:
        handles["the paper"] = Line2D([], [], color=INK, linestyle=PAPER_DASHES, linewidth=1.4)
    widest = max((len(label) for label in handles), default=1)
    columns = max(1, min(len(handles), int(120 / (widest + 8))))
    drawing.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=columns, handlelength=2.2)
