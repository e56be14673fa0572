"""Error distribution functions (the figure of the early-convolutions paper), one line per row."""

import numpy as np

from common.figures import Figure
from recipes.reports.figure_style import MUTED, WIDTH, figure, label_y
from recipes.reports.figure_text import describe
from recipes.reports.replication.figure_panels import draw_legend, panel_rows, setting, setting_series, title_panel
from recipes.reports.replication.findings import TableFindings
from recipes.reports.replication.words import TableWords


def draw_distribution(findings: TableFindings, words: TableWords) -> Figure | None:
    """Draw the fraction of the draws with an error (100 - metric) of at most x; a run that diverged has an error of 100.

    The axis ends at the largest error of a draw whose runs all finished: what a line lacks to 100% are draws that diverged.
    """
    finished = [value for row in findings.rows for name, value in row.draws.items() if name not in row.diverged_draws]
    if not finished:
        return None
    low, high = 100 - max(finished), 100 - min(finished)
    margin = max(0.04 * (high - low), 0.1)
    panels, looks = panel_rows(findings), setting_series(findings, words)
    with figure(WIDTH, 4.2, len(panels)) as (fig, axes_of):
        for axes, (entry, rows) in zip(axes_of, panels, strict=True):
            for row in (row for row in rows if row.draws):
                errors = np.sort(100 - np.array(list(row.draws.values())))
                fractions = 100 * np.arange(1, len(errors) + 1) / len(errors)
                name = setting(findings, words, row)
                xs, ys = [low - margin, *errors, 101.0], [0.0, *fractions, fractions[-1]]
                marked = slice(1, len(errors), max(1, len(errors) // 8))
                note = f" ({len(row.diverged_draws)} of {len(errors)} diverged)" if row.diverged_draws else ""
                look = looks[name]
                axes.plot(xs, ys, drawstyle="steps-post", color=look.color, linestyle=look.line, label=f"{name}{note}",
                          marker=look.marker, markersize=5, markevery=marked)  # fmt: skip
                median = f"best error {errors[0]:.1f}, median {np.median(errors):.1f}"
                describe(fig, f"{words.label(row.columns)}: {median}{note}")
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(0, 103)
            axes.axhline(100, color=MUTED, linewidth=0.8)
            axes.set_xlabel(f"error, % (100 − {words.title(findings.main)})")
            title_panel(axes, findings, words, entry)
        label_y(fig, axes_of, "fraction of the draws, %")
        draw_legend(fig, axes_of, published=False)
    return fig
