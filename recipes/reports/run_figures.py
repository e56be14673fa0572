"""Figures about the runs: training curves, and the cost of the arms."""

import math
from collections.abc import Callable, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from common.figures import Axes, Figure
from recipes.reports.figure_style import (
    FAINT,
    MUTED,
    WIDTH,
    described_values,
    figure,
    grid,
    is_narrow,
    legend_above,
    name_rows,
    row_figure,
)
from recipes.reports.figure_text import END_LABEL, describe
from recipes.reports.series import Series, series_number

LEARNING = {
    "knn_top1": "k-NN top-1, %",
    "teacher_entropy": "teacher entropy, nats",
    "kl": "KL teacher to student, nats",
    "feature_rank": "effective feature rank",
}
"""Metrics drawn from the metrics.jsonl of a stage, where it has them, with their titles."""


def draw_learning(
    curves: pd.DataFrame, by: str, looks: Mapping[str, Series], title: Callable[[str], str]
) -> Figure | None:
    """Draw metrics over the epochs, a panel each: a thin line per run, a thick one for the mean of each level of the column `by`.

    `curves` are those of `read_curves` with that column. Levels without an entry in `looks` get one that no other level has.
    """
    shown = [name for name in LEARNING if (curves["name"] == name).any()]
    if not shown:
        return None
    levels = list(dict.fromkeys(curves[by]))
    free = (look for number in range(len(looks) + len(levels)) if (look := series_number(number)) not in looks.values())
    styles = {level: looks[level] if level in looks else next(free) for level in levels}
    with figure(WIDTH, 3.1, len(shown), share_y=False) as (fig, panels):
        for axes, metric in zip(panels, shown, strict=True):
            for level in levels:
                own = curves[(curves["name"] == metric) & (curves[by] == level)]
                if len(own):
                    mean = _draw_runs(axes, by_epoch(own), styles[level], title(level))
                    describe(fig, _described_curve(f"{LEARNING[metric]}, {title(level)}", mean))
            axes.set_title(LEARNING[metric], fontsize=9.5)
            axes.set_xlabel("epoch")
            if metric == "teacher_entropy":
                axes.set_ylim(bottom=0)
        for level in levels:
            axes = panels[0]
            axes.plot([], [], color=styles[level].color, label=title(level), **_line(styles[level]))
        legend_above(fig, panels[0])
    return fig


def draw_small_multiples(curves: pd.DataFrame, by: str, title: str) -> Figure | None:
    """Draw a metric over the epochs, one small panel per level of the column `by`: its runs and their mean in front of all runs.

    `curves` are those of `read_curves` for one metric, with the columns `by` and `crashed`. A cross marks the end of a run that
    crashed; such runs are excluded from the mean and from the range of the axis. The area behind is the range of the other curves.
    """
    finite = curves[np.isfinite(curves["value"])]
    if not len(finite):
        return None
    levels = list(dict.fromkeys(finite[by]))
    lines = {level: by_epoch(finite[(finite[by] == level) & ~finite["crashed"]]) for level in levels}
    crashes = {level: by_epoch(finite[(finite[by] == level) & finite["crashed"]]) for level in levels}
    everything = finite[~finite["crashed"]] if (~finite["crashed"]).any() else finite
    low, high = float(everything["value"].min()), float(everything["value"].max())
    margin = 0.06 * (high - low) or 1.0
    behind = everything.groupby("epoch")["value"].agg(["min", "max"])
    columns = min(4, len(levels))
    rows = math.ceil(len(levels) / columns)
    with grid(WIDTH, 0.5 + 1.55 * rows, rows, columns, len(levels)) as (fig, panels):
        for axes, level in zip(panels, levels, strict=True):
            if len(levels) > 1:
                axes.fill_between(behind.index, behind["min"], behind["max"], color=FAINT, linewidth=0, zorder=1)
            mean = _draw_runs(axes, lines[level], series_number(1), "", markers=False)
            describe(fig, _described_curve(level, mean))
            for _, curve in crashes[level].items():
                _draw_crashed(axes, curve.dropna(), (low, high))
                describe(fig, f"{level}: a run ends at epoch {curve.dropna().index[-1]:g}")
            axes.set_title("\n".join(wrap(level, 28)[:3]), fontsize=8, fontweight="normal", pad=4)
            axes.set_ylim(low - margin, high + margin)
        fig.supxlabel("epoch", color=MUTED, fontsize=9.5)
        fig.supylabel(title, color=MUTED, fontsize=9.5)
    return fig


def draw_cost(costs: pd.DataFrame, names: Sequence[str], looks: Sequence[Series]) -> Figure | None:
    """Draw the seconds per run by arm, as `arm_costs` gives them: the run, its amortized earlier stages, and the rest of these."""
    if not len(costs):
        return None
    height = 0.56 if not is_narrow() else 0.34
    with row_figure(len(costs)) as (fig, (axes,)):
        for row, (cost, look) in enumerate(zip(costs.itertuples(), looks, strict=True)):
            rest = cost.earlier_seconds - cost.amortized_seconds
            bar: dict[str, Any] = {"height": height, "edgecolor": look.color, "linewidth": 0.8}
            axes.barh(row, cost.seconds, color=look.color, **bar)
            if cost.amortized_seconds:
                axes.barh(row, cost.amortized_seconds, left=cost.seconds, color="none", hatch="/////", **bar)
            if rest > 0:
                axes.barh(row, rest, left=cost.total_seconds, color="none", linestyle=(0, (1.5, 1.5)), **bar)
            label = f"{cost.total_seconds:,.1f} s" + (f" ({cost.standalone_seconds:,.1f} s standalone)" if rest else "")
            place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "color": MUTED, "fontsize": 8.5}
            axes.annotate(label, (cost.standalone_seconds, row), (6, 0), gid=END_LABEL, **place)
            describe(fig, f"{names[row]}: {label}")
        axes.set_ylim(len(costs) - 0.4, -1.0 if is_narrow() else -0.6)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds per run")
        name_rows([axes], range(len(costs)), names)
    return fig


def by_epoch(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the values of one metric: a row per epoch, a column per run; several finite values at an epoch are averaged."""
    finite = curves[np.isfinite(curves["value"])]
    return finite.pivot_table(index="epoch", columns="run", values="value", aggfunc="mean", sort=True)


def _line(look: Series) -> dict[str, Any]:
    """Return the line style and the marker of a series, for a line with few markers."""
    return {"linestyle": look.line, "marker": look.marker, "markersize": 5}


def _draw_runs(axes: Axes, runs: pd.DataFrame, look: Series, label: str, *, markers: bool = True) -> pd.Series:
    """Draw the runs of one group as one thin line with gaps, and their mean over the epochs that all of them reached; return it."""
    if runs.shape[1] > 1:
        pieces = [piece for _, curve in runs.items() for piece in (curve.dropna(), pd.Series([np.nan], index=[np.nan]))]
        joined = pd.concat(pieces[:-1])
        axes.plot(joined.index, joined.to_numpy(), color=look.color, alpha=0.3, linewidth=0.9)
    mean = runs.dropna().mean(axis=1)
    style = _line(look) | {"markevery": max(1, len(mean) // 6)} if markers else {}
    axes.plot(mean.index, mean.to_numpy(), color=look.color, **style)
    return mean


def _draw_crashed(axes: Axes, curve: pd.Series, limits: tuple[float, float]) -> None:
    """Draw the curve of a run that crashed, with a cross at its end."""
    look = series_number(0)
    axes.plot(curve.index, curve.to_numpy(), color=look.color, linestyle=(0, (3, 1.5)), linewidth=1.2, zorder=4)
    end = min(max(curve.iloc[-1], limits[0]), limits[1])
    axes.plot(curve.index[-1], end, "x", color=look.color, markersize=8, markeredgewidth=2.2, zorder=5)


def _described_curve(name: str, mean: pd.Series) -> str:
    """Return the first and the last value of a mean curve as a description; an empty text if it has none."""
    if not len(mean):
        return ""
    ends = mean.iloc[[0, -1]] if len(mean) > 1 else mean
    digits = 1 if float(mean.abs().max()) >= 10 else 3
    values = {f"epoch {epoch:g}": float(value) for epoch, value in ends.items()}
    return f"{name}: {described_values(values, digits)}"
