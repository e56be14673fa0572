"""Owns the figure of the early-convolutions paper: error distribution functions, a line for each row."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from recipes.reports.figure_panels import look_of, name_lines, panels_of, title_panel
from recipes.reports.figure_style import MUTED, WIDTH, figure
from recipes.reports.table_findings import TableFindings
from recipes.reports.table_words import TableWords


def draw_distribution(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the share of the draws with an error (100 - metric) of at most x; a draw that crashed has an error of 100.

    The axis ends at the largest error of a draw that finished: a line that ends below 100% lacks the crashed draws.
    """
    kept = [value for row in findings.rows for name, value in row.draws.items() if name not in row.crashes]
    if not kept:
        return None
    low, high = 100 - max(kept), 100 - min(kept)
    margin = max(0.04 * (high - low), 0.1)
    panels = panels_of(findings)
    with figure(WIDTH, 4.2, len(panels)) as (drawing, axes_of):
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for number, row in enumerate(row for row in rows if row.draws):
                errors = np.sort(100 - np.array(list(row.draws.values())))
                shares = 100 * np.arange(1, len(errors) + 1) / len(errors)
                colour, mark = look_of(number)
                name = words.label(row.columns, [findings.reading.figure.panels or ""])
                places, heights = [low - margin, *errors, 101.0], [0.0, *shares, shares[-1]]
                every = slice(1, len(errors), max(1, len(errors) // 8))
                axes.plot(places, heights, drawstyle="steps-post", color=colour, label=name, marker=mark, markersize=5,
                          markevery=every)  # fmt: skip
                if row.crashes:
                    told = f"{name}: {len(row.crashes)} of {len(errors)} crash"
                    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "color": colour, "fontsize": 8}
                    axes.text(0.98, 0.04 + 0.055 * len(axes.texts), told, **place)
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(0, 103)
            axes.axhline(100, color=MUTED, linewidth=0.8)
            axes.set_xlabel(f"error, % (100 − {words.title(findings.main)})")
            title_panel(axes, findings, words, entry)
        axes_of[0].set_ylabel("share of the draws, %")
        name_lines(drawing, axes_of, printed=False)
    return drawing
