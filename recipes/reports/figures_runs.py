"""Owns the figures about the runs themselves: how they learned, and what the arms cost."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.reports.cost import ArmCost
from recipes.reports.figure_style import FAINT, MUTED, SERIES, WIDTH, figure, grid, legend_above
from recipes.reports.results import RunRecord, StudyRecord, read_curves
from recipes.reports.sentences import Words

LEARNING = {
    "knn_top1": "k-NN top-1, %",
    "teacher_entropy": "teacher entropy, nats",
    "kl": "KL teacher to student, nats",
    "feature_rank": "effective feature rank",
}
"""What is drawn of a stage's metrics.jsonl, where it is there, and its title."""


def draw_learning(study: StudyRecord, stage: str, words: Words, colours: Mapping[str, str]) -> Figure | None:
    """Draw how an earlier stage's measures went over its epochs: a thin line for each run, a thick one for the mean."""
    groups = _groups(study, stage)
    curves = {name: [read_curves(run, list(LEARNING)) for run in runs] for name, runs in groups.items()}
    shown = [name for name in LEARNING if any(one[name] for ones in curves.values() for one in ones)]
    if not shown:
        return None
    with figure(WIDTH, 3.1, len(shown), share_y=False) as (drawing, panels):
        for axes, measure in zip(panels, shown, strict=True):
            for number, (name, ones) in enumerate(curves.items()):
                colour = colours[name] if name in colours else SERIES[-1 - number % len(SERIES)]
                _draw_runs(axes, [_by_epoch(one[measure]) for one in ones if one[measure]], colour, words.title(name))
            axes.set_title(LEARNING[measure], fontsize=9.5)
            axes.set_xlabel("epoch")
            if measure == "teacher_entropy":
                axes.set_ylim(bottom=0)
        legend_above(drawing, panels[0])
    return drawing


def draw_multiples(groups: Mapping[str, Sequence[RunRecord]], measure: str, title: str) -> Figure | None:
    """Draw how a measure went over the epochs, a small panel for each group: its runs and their mean before the other groups.

    A cross ends a run that crashed; it is in no mean, and the axis leaves out how high it went.
    """
    curves = {
        name: [(run, _by_epoch(read_curves(run, [measure])[measure])) for run in runs] for name, runs in groups.items()
    }
    curves = {name: [(run, curve) for run, curve in ones if curve] for name, ones in curves.items()}
    calm = [v for ones in curves.values() for run, curve in ones if not _crashed(run) for v in curve.values()]
    every = calm or [value for ones in curves.values() for _, curve in ones for value in curve.values()]
    if not every:
        return None
    columns = min(4, len(curves))
    lines = math.ceil(len(curves) / columns)
    low, high = min(every), max(every)
    margin = 0.06 * (high - low) or 1.0
    with grid(WIDTH, 0.5 + 1.55 * lines, lines, columns) as (drawing, panels):
        for axes, (name, ones) in zip(panels, curves.items(), strict=False):
            for other in (each for each in curves if each != name):
                for _, curve in curves[other][:1]:
                    axes.plot(list(curve), list(curve.values()), color=FAINT, linewidth=1.0, zorder=1)
            _draw_runs(axes, [curve for run, curve in ones if not _crashed(run)], SERIES[1], name)
            for _, curve in (one for one in ones if _crashed(one[0])):
                axes.plot(list(curve), list(curve.values()), color=SERIES[4], linewidth=1.2, zorder=4)
                end = min(max(list(curve.values())[-1], low), high)
                axes.plot(list(curve)[-1], end, "x", color=SERIES[4], markersize=8, markeredgewidth=2.2, zorder=5)
            axes.set_title("\n".join(wrap(name, 30)[:3]), fontsize=8, fontweight="normal", pad=4)
            axes.set_ylim(low - margin, high + margin)
        for axes in panels[len(curves) :]:
            axes.set_visible(False)
        drawing.supxlabel("epoch", color=MUTED, fontsize=9.5)
        drawing.supylabel(title, color=MUTED, fontsize=9.5)
    return drawing


def draw_cost(costs: Sequence[ArmCost], names: Sequence[str], colours: Sequence[str]) -> Figure | None:
    """Draw the seconds of a run by arm: its own, its share of the stage before, and the rest were nothing shared."""
    if not costs:
        return None
    with figure(WIDTH, 0.8 + 0.42 * len(costs), 1) as (drawing, (axes,)):
        for row, (cost, colour) in enumerate(zip(costs, colours, strict=True)):
            rest = cost.before_seconds - cost.share_seconds
            axes.barh(row, cost.seconds, color=colour, height=0.56)
            axes.barh(row, cost.share_seconds, left=cost.seconds, color=colour, alpha=0.55, height=0.56)
            axes.barh(row, rest, left=cost.total_seconds, color=colour, alpha=0.16, height=0.56)
            label = f"{cost.total_seconds:,.1f} s" + (f" (alone {cost.alone_seconds:,.1f} s)" if rest else "")
            end = (cost.alone_seconds, row)
            axes.annotate(label, end, (6, 0), textcoords="offset points", va="center", color=MUTED, fontsize=9)
        axes.set_yticks(range(len(costs)), names)
        axes.set_ylim(len(costs) - 0.4, -0.6)
        axes.margins(x=0.16)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("seconds of a run")
    return drawing


def _groups(study: StudyRecord, stage: str) -> dict[str, list[RunRecord]]:
    """Return a stage's runs by their levels, the repeats left out."""
    groups: dict[str, list[RunRecord]] = {}
    for run in study.of_stage(stage):
        names = [name for axis, name in run.planned.levels.items() if axis != study.plan.study.reading.repeats]
        groups.setdefault(", ".join(names) or stage, []).append(run)
    return groups


def _crashed(run: RunRecord) -> bool:
    """Tell whether a run diverged."""
    return run.result is not None and run.result.verdict == "crash"


def _by_epoch(points: Sequence[tuple[float, float]]) -> dict[float, float]:
    """Return the mean value at each epoch."""
    seen: dict[float, list[float]] = {}
    for epoch, value in points:
        if math.isfinite(value):
            seen.setdefault(epoch, []).append(value)
    return {epoch: float(np.mean(values)) for epoch, values in sorted(seen.items())}


def _draw_runs(axes: Axes, runs: Sequence[Mapping[float, float]], colour: str, label: str) -> None:
    """Draw the runs of one group and their mean over the epochs that all of them have."""
    for run in runs:
        axes.plot(list(run), list(run.values()), color=colour, alpha=0.3, linewidth=1.0)
    common = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    axes.plot(common, [np.mean([run[epoch] for run in runs]) for epoch in common], color=colour, label=label)
