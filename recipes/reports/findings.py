"""Owns what a study found: means, paired differences and label savings with their intervals, computed from the cells.

Words used here: the first axis of `report.compare` is the main one; a panel is one combination of the levels of all
other axes but the curve's (`over`) and the repeats'; an arm is a level of the main axis in a panel.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.results import StudyRecord
from recipes.reports.statistics import Interval, Saving, label_saving, paired_differences, student_interval
from recipes.study.specification import Reading

Levels = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """Values by repeat at some levels, and the interval of their mean."""

    levels: Levels
    points: Mapping[str, float]
    interval: Interval


@dataclass(frozen=True)
class Effect:
    """The difference other - base of a compared axis: averaged over everything, along the curve, and one by one."""

    axis: str
    base: str
    other: str
    pooled: Estimate
    by_over: tuple[Estimate, ...]
    one_by_one: tuple[Estimate, ...]
    settings_used: int
    settings_all: int


@dataclass(frozen=True)
class Findings:
    """All that a report says about a metric, before it is put in words."""

    reading: Reading
    over: tuple[str, ...]
    panels: tuple[Levels, ...]
    arms: tuple[Estimate, ...]
    effects: tuple[Effect, ...]
    savings: tuple[tuple[Levels, tuple[Saving, ...]], ...]
    duel: Interval | None
    labels: Mapping[str, int]
    num_cells: int
    num_missing: int

    @property
    def main(self) -> Effect:
        """Return the effect of the main axis."""
        return self.effects[0]

    @property
    def arm_axes(self) -> list[str]:
        """Return the axes whose levels name an arm: the panels' and the main one."""
        return [*(self.panels[0] if self.panels else ()), self.main.axis]

    def arm(self, panel: Levels, level: str) -> list[Estimate]:
        """Return an arm's estimates along the curve; where nothing is measured, they hold no points."""
        wanted = {**panel, self.main.axis: level}
        return [arm for arm in self.arms if all(arm.levels[axis] == name for axis, name in wanted.items())]


class CellValues:
    """The metric of every cell of a study by its levels; cells without one are left out."""

    def __init__(self, axes: Mapping[str, Sequence[str]], repeats: str, cells: Sequence[tuple[Levels, float | None]]):
        """Take the levels of every axis, the name of the repeats' axis, and the cells."""
        self.axes = axes
        self.repeats = repeats
        self.values = {tuple(levels[a] for a in axes): value for levels, value in cells if value is not None}

    def combinations(self, *without: str) -> Iterator[Levels]:
        """Yield every combination of the levels of all axes but those named (the repeats never count)."""
        names = [name for name in self.axes if name not in (*without, self.repeats)]
        for chosen in itertools.product(*(self.axes[name] for name in names)):
            yield dict(zip(names, chosen, strict=True))

    def by_repeat(self, levels: Levels) -> dict[str, float]:
        """Return the values at `levels` (one for every axis but the repeats) by repeat."""
        keys = {one: tuple({**levels, self.repeats: one}[a] for a in self.axes) for one in self.axes[self.repeats]}
        return {one: self.values[key] for one, key in keys.items() if key in self.values}


def find(study: StudyRecord) -> Findings:
    """Return the findings of a study's folder, from the runs that are done."""
    reading = study.plan.study.reading
    assert isinstance(reading, Reading)
    axes = {axis.name: list(axis.levels) for axis in study.plan.study.axes}
    cells = [(cell.levels, study.value(cell, reading.metric)) for cell in study.plan.cells]
    values = CellValues(axes, reading.repeats, cells)
    over = tuple(sorted(axes[reading.over], key=float))
    main = next(iter(reading.compare))
    effects = tuple(_effect(values, axis, *pair, reading.over, over) for axis, pair in reading.compare.items())
    panels = tuple(values.combinations(main, reading.over))
    combinations = [{**panel, reading.over: x} for panel in panels for x in over]
    arms = tuple(
        _estimate({**levels, main: name}, values.by_repeat({**levels, main: name}))
        for levels in combinations
        for name in axes[main]
    )
    return Findings(
        reading=reading,
        over=over,
        panels=panels,
        arms=arms,
        effects=effects,
        savings=tuple((panel, _savings(values, panel, effects[0], reading.over, over)) for panel in panels),
        duel=_duel(effects),
        labels=_labels(study, reading.over),
        num_cells=len(cells),
        num_missing=sum(value is None for _, value in cells),
    )


def _estimate(levels: Levels, points: Mapping[str, float]) -> Estimate:
    """Return an estimate of the mean of `points`."""
    return Estimate(levels, points, student_interval(list(points.values())))


def _effect(values: CellValues, axis: str, base: str, other: str, over: str, xs: Sequence[str]) -> Effect:
    """Return the paired differences along one compared axis."""
    single = []
    for levels in values.combinations(axis):
        pair = (values.by_repeat({**levels, axis: name}) for name in (base, other))
        single.append(_estimate(levels, paired_differences(*pair)))
    pooled, used = _pool({}, single)
    by_over = tuple(_pool({over: x}, [one for one in single if one.levels[over] == x])[0] for x in xs)
    return Effect(axis, base, other, pooled, by_over, tuple(single), used, len(single))


def _pool(levels: Levels, estimates: Sequence[Estimate]) -> tuple[Estimate, int]:
    """Return the mean over settings, repeat by repeat, and over how many settings it goes.

    Only settings that have every repeat seen anywhere are used, so that all repeats average the same settings.
    """
    repeats = set().union(*(one.points for one in estimates)) if estimates else set()
    whole = [one for one in estimates if set(one.points) == repeats] if repeats else []
    means = {name: float(np.mean([one.points[name] for one in whole])) for name in sorted(repeats)} if whole else {}
    return _estimate(levels, means), len(whole)


def _savings(values: CellValues, panel: Levels, main: Effect, over: str, xs: Sequence[str]) -> tuple[Saving, ...]:
    """Return the label saving of a panel at every fraction at which the other arm was measured."""
    base, other = (
        {float(x): points for x in xs if (points := values.by_repeat({**panel, main.axis: name, over: x}))}
        for name in (main.base, main.other)
    )
    return tuple(label_saving(base, other, fraction) for fraction in other) if len(base) > 1 else ()


def _duel(effects: Sequence[Effect]) -> Interval | None:
    """Return the interval of |second effect| - |main effect|, paired by repeat, each turned to its mean's direction."""
    if len(effects) < 2 or not effects[0].pooled.points or not effects[1].pooled.points:
        return None
    turned = [
        {name: math.copysign(1, effect.pooled.interval.mean) * value for name, value in effect.pooled.points.items()}
        for effect in effects[:2]
    ]
    return student_interval(list(paired_differences(turned[0], turned[1]).values()))


def _labels(study: StudyRecord, over: str) -> dict[str, int]:
    """Return how many training images the runs at each level of the curve's axis had, where they all agree."""
    seen: dict[str, set[int]] = {}
    for run in study.of_stage(study.last_stage):
        if run.result:
            seen.setdefault(run.planned.levels[over], set()).add(run.result.train_images)
    return {level: counts.pop() for level, counts in seen.items() if len(counts) == 1}
