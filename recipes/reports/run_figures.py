"""Figures about the runs: training curves, and the cost of the arms."""

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap

import numpy as np
import pandas as pd

from common.figures import Axes, Figure
from recipes.reports.figure_style import FAINT, MUTED, SERIES, WIDTH, figure, grid, legend_above

LEARNING = {
    "knn_top1": "k-NN top-1, %",
    "teacher_entropy": "teacher entropy, nats",
    "kl": "KL teacher to student, nats",
    "feature_rank": "effective feature rank",
}
"""Metrics drawn from the metrics.jsonl of a stage, where it has them, with their titles."""


def draw_learning(
    curves: pd.DataFrame, by: str, colors: Mapping[str, str], title: Callable[[str], str]
) -> Figure | None:
    """Draw metrics over the epochs, a panel each: a thin line per run, a thick one for the mean of each level of the column `by`.

    `curves` are those of `read_curves` with that column.
    """
    shown = [name for name in LEARNING if (curves["name"] == name).any()]
    if not shown:
        return None
    levels = list(dict.fromkeys(curves[by]))
    with figure(WIDTH, 3.1, len(shown), share_y=False) as (fig, panels):
        for axes, metric in zip(panels, shown, strict=True):
            for number, level in enumerate(levels):
                color = colors[level] if level in colors else SERIES[-1 - number % len(SERIES)]
                own = curves[(curves["name"] == metric) & (curves[by] == level)]
                if len(own):
                    _draw_runs(axes, by_epoch(own), color, title(level))
            axes.set_title(LEARNING[metric], fontsize=9.5)
            axes.set_xlabel("epoch")
            if metric == "teacher_entropy":
                axes.set_ylim(bottom=0)
        legend_above(fig, panels[0])
    return fig


def draw_small_multiples(curves: pd.DataFrame, by: str, title: str) -> Figure | None:
    """Draw a metric over the epochs, one small panel per level of the column `by`: its runs and their mean in front of the others.

    `curves` are those of `read_curves` for one metric, with the columns `by` and `crashed`. A cross marks the end of a run that
    crashed; such runs are excluded from the mean and from the range of the axis.
    """
    finite = curves[np.isfinite(curves["value"])]
    if not len(finite):
        return None
    levels = list(dict.fromkeys(finite[by]))
    lines = {level: by_epoch(finite[(finite[by] == level) & ~finite["crashed"]]) for level in levels}
    crashes = {level: by_epoch(finite[(finite[by] == level) & finite["crashed"]]) for level in levels}
    values = pd.concat([line.stack() for line in lines.values()])
    if not len(values):
        values = pd.concat([line.stack() for line in crashes.values()])
    low, high = float(values.min()), float(values.max())
    margin = 0.06 * (high - low) or 1.0
    columns = min(4, len(levels))
    rows = math.ceil(len(levels) / columns)
    with grid(WIDTH, 0.5 + 1.55 * rows, rows, columns) as (fig, panels):
        for axes, level in zip(panels, levels, strict=False):
            for other in (each for each in levels if each != level):
                for _, curve in [*lines[other].items(), *crashes[other].items()][:1]:
                    axes.plot(curve.dropna(), color=FAINT, linewidth=1.0, zorder=1)
            _draw_runs(axes, lines[level], SERIES[1], level)
            for _, curve in crashes[level].items():
                ended = curve.dropna()
                axes.plot(ended, color=SERIES[4], linewidth=1.2, zorder=4)
                end = min(max(ended.iloc[-1], low), high)
                axes.plot(ended.index[-1], end, "x", color=SERIES[4], markersize=8, markeredgewidth=2.2, zorder=5)
            axes.set_title("\n".join(wrap(level, 30)[:3]), fontsize=8, fontweight="normal", pad=4)
            axes.set_ylim(low - margin, high + margin)
        for axes in panels[len(levels) :]:
            axes.set_visible(False)
        fig.supxlabel("epoch", color=MUTED, fontsize=9.5)
        fig.supylabel(title, color=MUTED, fontsize=9.5)
    return fig


def draw_cost(costs: pd.DataFrame, names: Sequence[str], colors: Sequence[str]) -> Figure | None:
    """Draw the seconds per run by arm, as `arm_costs` gives them: the run, its amortized earlier stages, and the rest of these."""
    if not len(costs):
        return None
    with figure(WIDTH, 0.8 + 0.42 * len(costs), 1) as (fig, (axes,)):
        for row, (cost, color) in enumerate(zip(costs.itertuples(), colors, strict=True)):
            rest = cost.earlier_seconds - cost.amortized_seconds
            axes.barh(row, cost.seconds, color=color, height=0.56)
            axes.barh(row, cost.amortized_seconds, left=cost.seconds, color=color, alpha=0.55, height=0.56)
            axes.barh(row, rest, left=cost.total_seconds, color=color, alpha=0.16, height=0.56)
            label = f"{cost.total_seconds:,.1f} s" + (f" ({cost.standalone_seconds:,.1f} s standalone)" if rest else "")
            end = (cost.standalone_seconds, row)
            axes.annotate(label, end, (6, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9)
        axes.set_yticks(range(len(costs)), names)
        axes.set_ylim(len(costs) - 0.4, -0.6)
        axes.margins(x=0.16)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds per run")
    return fig


def by_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one metric: a row per epoch, a column per run; several finite values at an epoch are averaged."""
    finite = curves[np.isfinite(curves["value"])]
    return finite.pivot_table(index="epoch", columns="run", values="value", aggfunc="mean", sort=True)


def _draw_runs(axes: Axes, runs: pd.DataFrame, color: str, label: str) -> None:
    """Draw the runs of one group, and their mean over the epochs that all of them reached."""
    for _, curve in runs.items():
        axes.plot(curve.dropna(), color=color, alpha=0.3, linewidth=1.0)
    axes.plot(runs.dropna().mean(axis=1), color=color, label=label)
