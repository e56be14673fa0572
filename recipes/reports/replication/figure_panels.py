"""Shared parts of a table's figures: one panel per value of a column, line styles, and one legend for all panels."""

from collections.abc import Sequence
from typing import Any

from common.figures import Axes, Figure, Line2D
from recipes.reports.figure_style import INK, SERIES
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.words import TableWords

MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">")
"""Markers of the lines, so that no line is identified by its color alone."""
PAPER_DASHES = (0, (4, 2.5))
"""Dash pattern of the paper's lines."""


def line_style(number: int) -> tuple[str, str]:
    """Return the color and the marker of line `number`."""
    return SERIES[number % len(SERIES)], MARKERS[number % len(MARKERS)]


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
    """Draw one legend above the figure, with every line once and, if `published`, the dashed line of the paper."""
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if published:
        handles["the paper"] = Line2D([], [], color=INK, linestyle=PAPER_DASHES, linewidth=1.4)
    widest = max((len(label) for label in handles), default=1)
    columns = max(1, min(len(handles), int(120 / (widest + 8))))
    fig.legend(list(handles.values()), list(handles), loc="outside upper left", ncols=columns, handlelength=2.2)
