"""Error distribution functions (the figure of the early-convolutions paper), one line per row."""

from typing import Any

import numpy as np

from common.figures import Figure
from recipes.reports.figure_style import MUTED, WIDTH, figure
from recipes.reports.replication.figure_panels import draw_legend, line_style, panel_rows, title_panel
from recipes.reports.replication.findings import TableFindings
from recipes.reports.replication.words import TableWords


def draw_distribution(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the fraction of the draws with an error (100 - metric) of at most x; a draw that crashed has an error of 100.

    The axis ends at the largest error of a draw that finished: a line that ends below 100% is missing the crashed draws.
    """
    finished = [value for row in findings.rows for name, value in row.draws.items() if name not in row.crashes]
    if not finished:
        return None
    low, high = 100 - max(finished), 100 - min(finished)
    margin = max(0.04 * (high - low), 0.1)
    panels = panel_rows(findings)
    with figure(WIDTH, 4.2, len(panels)) as (fig, axes_of):
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for number, row in enumerate(row for row in rows if row.draws):
                errors = np.sort(100 - np.array(list(row.draws.values())))
                fractions = 100 * np.arange(1, len(errors) + 1) / len(errors)
                color, marker = line_style(number)
                name = words.label(row.columns, [findings.spec.figure.panels or ""])
                xs, ys = [low - margin, *errors, 101.0], [0.0, *fractions, fractions[-1]]
                marked = slice(1, len(errors), max(1, len(errors) // 8))
                axes.plot(xs, ys, drawstyle="steps-post", color=color, label=name, marker=marker, markersize=5,
                          markevery=marked)  # fmt: skip
                if row.crashes:
                    note = f"{name}: {len(row.crashes)} of {len(errors)} diverged"
                    style: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "color": color, "fontsize": 8}
                    axes.text(0.98, 0.04 + 0.055 * len(axes.texts), note, **style)
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(0, 103)
            axes.axhline(100, color=MUTED, linewidth=0.8)
            axes.set_xlabel(f"error, % (100 − {words.title(findings.main)})")
            title_panel(axes, findings, words, entry)
        axes_of[0].set_ylabel("fraction of the draws, %")
        draw_legend(fig, axes_of, published=False)
    return fig
