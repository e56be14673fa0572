"""Figures about the runs: training curves, and the cost of the arms."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np

from common.figures import Axes, Figure
from recipes.reports.arm_costs import ArmCost
from recipes.reports.comparison.words import Words
from recipes.reports.figure_style import FAINT, MUTED, SERIES, WIDTH, figure, grid, legend_above
from recipes.reports.results import RunRecord, StudyRecord, read_curves
from recipes.result import DIVERGED

LEARNING = {
    "knn_top1": "k-NN top-1, %",
    "teacher_entropy": "teacher entropy, nats",
    "kl": "KL teacher to student, nats",
    "feature_rank": "effective feature rank",
}
"""Metrics drawn from the metrics.jsonl of a stage, where it has them, with their titles."""


def draw_learning(study: StudyRecord, stage: str, words: Words, colors: Mapping[str, str]) -> Figure | None:
    """Draw the metrics of an earlier stage over its epochs: a thin line for each run, a thick one for the mean of its group."""
    groups = _groups(study, stage)
    curves = {name: [read_curves(run, list(LEARNING)) for run in runs] for name, runs in groups.items()}
    shown = [name for name in LEARNING if any(run[name] for runs in curves.values() for run in runs)]
    if not shown:
        return None
    with figure(WIDTH, 3.1, len(shown), share_y=False) as (fig, panels):
        for axes, metric in zip(panels, shown, strict=True):
            for number, (name, runs) in enumerate(curves.items()):
                color = colors[name] if name in colors else SERIES[-1 - number % len(SERIES)]
                _draw_runs(axes, [_by_epoch(run[metric]) for run in runs if run[metric]], color, words.title(name))
            axes.set_title(LEARNING[metric], fontsize=9.5)
            axes.set_xlabel("epoch")
            if metric == "teacher_entropy":
                axes.set_ylim(bottom=0)
        legend_above(fig, panels[0])
    return fig


def draw_small_multiples(groups: Mapping[str, Sequence[RunRecord]], metric: str, title: str) -> Figure | None:
    """Draw a metric over the epochs, one small panel per group: its runs and their mean in front of the other groups.

    A cross marks the end of a run that crashed; such runs are excluded from the mean and from the range of the axis.
    """
    curves = {
        name: [(run, _by_epoch(read_curves(run, [metric])[metric])) for run in runs] for name, runs in groups.items()
    }
    curves = {name: [(run, curve) for run, curve in pairs if curve] for name, pairs in curves.items()}
    stable = [v for pairs in curves.values() for run, curve in pairs if not _crashed(run) for v in curve.values()]
    values = stable or [value for pairs in curves.values() for _, curve in pairs for value in curve.values()]
    if not values:
        return None
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    low, high = min(values), max(values)
    margin = 0.06 * (high - low) or 1.0
    with grid(WIDTH, 0.5 + 1.55 * lines, lines, columns) as (fig, panels):
        for axes, (name, pairs) in zip(panels, curves.items(), strict=False):
            for other in (each for each in curves if each != name):
                for _, curve in curves[other][:1]:
                    axes.plot(list(curve), list(curve.values()), color=FAINT, linewidth=1.0, zorder=1)
            _draw_runs(axes, [curve for run, curve in pairs if not _crashed(run)], SERIES[1], name)
            for _, curve in (pair for pair in pairs if _crashed(pair[0])):
                axes.plot(list(curve), list(curve.values()), color=SERIES[4], linewidth=1.2, zorder=4)
                end = min(max(list(curve.values())[-1], low), high)
                axes.plot(list(curve)[-1], end, "x", color=SERIES[4], markersize=8, markeredgewidth=2.2, zorder=5)
            axes.set_title("\n".join(wrap(name, 30)[:3]), fontsize=8, fontweight="normal", pad=4)
            axes.set_ylim(low - margin, high + margin)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        fig.supxlabel("epoch", color=MUTED, fontsize=9.5)
        fig.supylabel(title, color=MUTED, fontsize=9.5)
    return fig


def draw_cost(costs: Sequence[ArmCost], names: Sequence[str], colors: Sequence[str]) -> Figure | None:
    """Draw the seconds per run by arm: the run, its amortized earlier stages, and the remainder if nothing were shared."""
    if not costs:
        return None
    with figure(WIDTH, 0.8 + 0.42 * len(costs), 1) as (fig, (axes,)):
        for row, (cost, color) in enumerate(zip(costs, colors, strict=True)):
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


def _groups(study: StudyRecord, stage: str) -> dict[str, list[RunRecord]]:
    """Return the runs of a stage grouped by their levels, ignoring the repeats."""
    groups: dict[str, list[RunRecord]] = {}
    for run in study.of_stage(stage):
        names = [name for axis, name in run.planned.levels.items() if axis != study.plan.study.report.repeats]
        groups.setdefault(", ".join(names) or stage, []).append(run)
    return groups


def _crashed(run: RunRecord) -> bool:
    """Return whether a run diverged."""
    return run.result is not None and run.result.status == DIVERGED


def _by_epoch(points: Sequence[tuple[float, float]]) -> dict[float, float]:
    """Return the mean value at each epoch."""
    by_epoch: dict[float, list[float]] = {}
    for epoch, value in points:
        if math.isfinite(value):
            by_epoch.setdefault(epoch, []).append(value)
    return {epoch: float(np.mean(values)) for epoch, values in sorted(by_epoch.items())}


def _draw_runs(axes: Axes, runs: Sequence[Mapping[float, float]], color: str, label: str) -> None:
    """Draw the runs of one group, and their mean over the epochs that all of them reached."""
    for run in runs:
        axes.plot(list(run), list(run.values()), color=color, alpha=0.3, linewidth=1.0)
    common = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    axes.plot(common, [np.mean([run[epoch] for run in runs]) for epoch in common], color=color, label=label)
