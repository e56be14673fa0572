"""Findings of a comparison: means, paired differences and label savings with their intervals, computed from the cells.

Terms: the main axis is the first one of `report.compare`; a panel is one combination of the levels of all other axes
except the x axis (`report.x`) and the repeats; an arm is a level of the main axis in a panel.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.results import StudyRecord
from recipes.reports.statistics import Interval, Saving, label_saving, paired_differences, student_interval
from recipes.study.specification import ReportSpec

Levels = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """Values by repeat at given levels, and the interval of their mean."""

    levels: Levels
    points: Mapping[str, float]
    interval: Interval


@dataclass(frozen=True)
class Effect:
    """The difference other - base along a compared axis: averaged over everything, by x, and by setting."""

    axis: str
    base: str
    other: str
    pooled: Estimate
    by_x: tuple[Estimate, ...]
    by_setting: tuple[Estimate, ...]
    settings_used: int
    settings_all: int


@dataclass(frozen=True)
class Findings:
    """Everything that a report states about a metric, as numbers."""

    spec: ReportSpec
    x: tuple[str, ...]
    panels: tuple[Levels, ...]
    arms: tuple[Estimate, ...]
    effects: tuple[Effect, ...]
    savings: tuple[tuple[Levels, tuple[Saving, ...]], ...]
    effects_comparison: Interval | None
    """Interval of |second effect| - |main effect|."""
    labels: Mapping[str, int]
    """Number of training images by level of the x axis."""

    @property
    def main(self) -> Effect:
        """Return the effect of the main axis."""
        return self.effects[0]

    @property
    def arm_axes(self) -> list[str]:
        """Return the axes whose levels name an arm: those of the panels, and the main one."""
        return [*(self.panels[0] if self.panels else ()), self.main.axis]

    def arm(self, panel: Levels, level: str) -> list[Estimate]:
        """Return the estimates of an arm by x; they have no points where nothing is measured."""
        wanted = {**panel, self.main.axis: level}
        return [arm for arm in self.arms if all(arm.levels[axis] == name for axis, name in wanted.items())]


class CellValues:
    """The metric of every cell of a study by its levels; cells without a value are skipped."""

    def __init__(self, axes: Mapping[str, Sequence[str]], repeats: str, cells: Sequence[tuple[Levels, float | None]]):
        """Take the levels of every axis, the name of the axis of repeats, and (levels, value) of every cell."""
        self.axes = axes
        self.repeats = repeats
        self.values = {tuple(levels[axis] for axis in axes): value for levels, value in cells if value is not None}

    def combinations(self, *excluded: str) -> Iterator[Levels]:
        """Yield every combination of the levels of all axes except `excluded` and the repeats."""
        names = [name for name in self.axes if name not in (*excluded, self.repeats)]
        for levels in itertools.product(*(self.axes[name] for name in names)):
            yield dict(zip(names, levels, strict=True))

    def by_repeat(self, levels: Levels) -> dict[str, float]:
        """Return the values by repeat at `levels`, which gives one level for every axis except the repeats."""
        keys = {
            repeat: tuple({**levels, self.repeats: repeat}[axis] for axis in self.axes)
            for repeat in self.axes[self.repeats]
        }
        return {repeat: self.values[key] for repeat, key in keys.items() if key in self.values}


def compute_findings(study: StudyRecord) -> Findings:
    """Return the findings of a study from its completed runs."""
    spec = study.plan.study.report
    assert isinstance(spec, ReportSpec)
    axes = {axis.name: list(axis.levels) for axis in study.plan.study.axes}
    cells = [(cell.levels, study.value(cell, spec.metric)) for cell in study.plan.cells]
    values = CellValues(axes, spec.repeats, cells)
    xs = tuple(sorted(axes[spec.x], key=float))
    main = next(iter(spec.compare))
    effects = tuple(_effect(values, axis, *pair, spec.x, xs) for axis, pair in spec.compare.items())
    panels = tuple(values.combinations(main, spec.x))
    combinations = [{**panel, spec.x: x} for panel in panels for x in xs]
    arms = tuple(
        _estimate({**levels, main: name}, values.by_repeat({**levels, main: name}))
        for levels in combinations
        for name in axes[main]
    )
    return Findings(
        spec=spec,
        x=xs,
        panels=panels,
        arms=arms,
        effects=effects,
        savings=tuple((panel, _savings(values, panel, effects[0], spec.x, xs)) for panel in panels),
        effects_comparison=_compare_effects(effects),
        labels=_labels(study, spec.x),
    )


def _estimate(levels: Levels, points: Mapping[str, float]) -> Estimate:
    """Return an estimate of the mean of `points`."""
    return Estimate(levels, points, student_interval(list(points.values())))


def _effect(values: CellValues, axis: str, base: str, other: str, x_axis: str, xs: Sequence[str]) -> Effect:
    """Return the paired differences along one compared axis."""
    by_setting = []
    for levels in values.combinations(axis):
        pair = (values.by_repeat({**levels, axis: name}) for name in (base, other))
        by_setting.append(_estimate(levels, paired_differences(*pair)))
    pooled, used = _pool({}, by_setting)
    by_x = tuple(
        _pool({x_axis: x}, [estimate for estimate in by_setting if estimate.levels[x_axis] == x])[0] for x in xs
    )
    return Effect(axis, base, other, pooled, by_x, tuple(by_setting), used, len(by_setting))


def _pool(levels: Levels, estimates: Sequence[Estimate]) -> tuple[Estimate, int]:
    """Return the mean over settings for each repeat, and the number of settings averaged.

    Only settings that have every repeat seen anywhere are used, so that all repeats average the same settings.
    """
    repeats = set().union(*(estimate.points for estimate in estimates)) if estimates else set()
    complete = [estimate.points for estimate in estimates if set(estimate.points) == repeats] if repeats else []
    means = (
        {name: float(np.mean([points[name] for points in complete])) for name in sorted(repeats)} if complete else {}
    )
    return _estimate(levels, means), len(complete)


def _savings(values: CellValues, panel: Levels, main: Effect, x_axis: str, xs: Sequence[str]) -> tuple[Saving, ...]:
    """Return the label saving of a panel at every fraction at which the other arm was measured."""
    base, other = (
        {float(x): points for x in xs if (points := values.by_repeat({**panel, main.axis: name, x_axis: x}))}
        for name in (main.base, main.other)
    )
    return tuple(label_saving(base, other, fraction) for fraction in other) if len(base) > 1 else ()


def _compare_effects(effects: Sequence[Effect]) -> Interval | None:
    """Return the interval of |second effect| - |main effect|, paired by repeat, each multiplied by the sign of its mean."""
    if len(effects) < 2 or not effects[0].pooled.points or not effects[1].pooled.points:
        return None
    sizes = [
        {name: math.copysign(1, effect.pooled.interval.mean) * value for name, value in effect.pooled.points.items()}
        for effect in effects[:2]
    ]
    return student_interval(list(paired_differences(sizes[0], sizes[1]).values()))


def _labels(study: StudyRecord, x_axis: str) -> dict[str, int]:
    """Return the number of training images by level of the x axis, for levels at which all runs agree."""
    images: dict[str, set[int]] = {}
    for run in study.of_stage(study.last_stage):
        if run.result:
            images.setdefault(run.planned.levels[x_axis], set()).add(run.result.train_images)
    return {level: counts.pop() for level, counts in images.items() if len(counts) == 1}
