"""Estimates from the values of a study: means of cells, differences along an axis, averages of them, interaction, label savings."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from recipes.reports.comparison.cell_values import Key, StudyValues, arm_name
from recipes.reports.comparison.label_savings import Saving, label_saving
from recipes.reports.crossed_effects import Term
from recipes.reports.estimates import cell_mean, weighted_sum
from recipes.reports.metrics import Metric
from recipes.reports.statistics import Interval, paired_differences
from recipes.study.report_specification import ReportSpec

ROUNDING = 1e-12
"""Sum of weights below which they cancel."""

Levels = Mapping[str, str]


@dataclass(frozen=True)
class Estimate:
    """Values by repeat at given levels, and the interval of their mean."""

    levels: Levels
    points: Mapping[str, float]
    interval: Interval


@dataclass(frozen=True)
class Effect:
    """The difference other - base along a compared axis: averaged over everything, by x, by panel, and by setting."""

    axis: str
    base: str
    other: str
    pooled: Estimate
    by_x: tuple[Estimate, ...]
    by_panel: tuple[Estimate, ...]
    """Averaged over x, for every combination of the levels of the remaining axes."""
    by_setting: tuple[Estimate, ...]
    settings_used: int
    settings_all: int


class Estimator:
    """Estimates from the values of a study: weighted sums of its cells."""

    def __init__(
        self, axes: Mapping[str, Sequence[str]], spec: ReportSpec, values: StudyValues, metric: Metric
    ) -> None:
        """Take the levels of every axis except the repeats, and the values."""
        self.axes, self.spec, self.values, self.metric = axes, spec, values, metric
        self.xs = tuple(sorted(axes[spec.x], key=float))

    @property
    def _image_span(self) -> float:
        """Return the largest difference that a test image can make, times the number of images."""
        return self.metric.span * self.values.image_weight

    def combinations(self, *excluded: str) -> Iterator[Levels]:
        """Yield every combination of the levels of all axes except `excluded` that has a cell."""
        names = [name for name in self.axes if name not in excluded]
        places = [self.values.axes.index(name) for name in names]
        planned = {tuple(key[place] for place in places) for key in self.values.planned}
        for levels in itertools.product(*(self.axes[name] for name in names)):
            if levels in planned:
                yield dict(zip(names, levels, strict=True))

    def settings(self, axis: str, base: str, other: str) -> list[Levels]:
        """Return the combinations of the other axes in which both levels of an axis have a cell, without further starts."""
        planned, main = self.values.planned, next(iter(self.spec.compare))
        return [
            each
            for each in self.combinations(axis)
            if all(self.values.key({**each, axis: name}) in planned for name in (base, other))
            and each.get(main) not in self.spec.starts
        ]

    def is_measured(self, levels: Levels) -> bool:
        """Return whether a cell has a value."""
        return self.values.cell(levels) is not None

    def sum(self, weights: Sequence[tuple[float, Levels]]) -> Interval:
        """Return the weighted sum of the means of cells, with bounds that the metric's range allows.

        It is unknown, with the mean NaN, where one of the cells has no value. Cells of the same runs, in which a level changes
        nothing, count as one: they are no further seeds.
        """
        totals: dict[Key, float] = {}
        for weight, levels in weights:
            key = self.values.key(levels)
            first = self.values.same.get(key, key)
            totals[first] = totals.get(first, 0.0) + weight
        terms = []
        for key, weight in totals.items():
            cell = self.values.cells.get(key)
            if cell is None:
                return Interval(math.nan, math.nan, math.nan, 0)
            if abs(weight) > ROUNDING:
                terms.append(Term(weight, cell, arm_name(dict(zip(self.values.axes, key, strict=True)), [self.spec.x])))
        if not terms:  # a difference of the same runs
            return Interval(0.0, math.nan, math.nan, 0)
        return weighted_sum(terms, self.metric, self.values.image_weight)

    def mean(self, levels: Levels) -> Estimate:
        """Return the mean of a cell, whose interval stays within the metric's range."""
        cell = self.values.cell(levels)
        if cell is None:
            return Estimate(levels, {}, Interval(math.nan, math.nan, math.nan, 0))
        return Estimate(levels, cell.points, cell_mean(cell, self.metric, self.values.image_weight))

    def difference(self, levels: Levels, axis: str, base: str, other: str) -> Estimate:
        """Return other - base along an axis; the points are the differences of the repeats that both have."""
        ends = [self.values.cell({**levels, axis: name}) for name in (base, other)]
        points = paired_differences(*(cell.points for cell in ends if cell)) if all(ends) else {}
        return Estimate(levels, points, self.sum([(-1.0, {**levels, axis: base}), (1.0, {**levels, axis: other})]))

    def average(self, levels: Levels, settings: Sequence[Levels], axis: str, base: str, other: str) -> Estimate:
        """Return other - base averaged over those settings in which both are measured."""
        used = [each for each in settings if all(self.is_measured({**each, axis: name}) for name in (base, other))]
        if not used:
            return Estimate(levels, {}, Interval(math.nan, math.nan, math.nan, 0))
        weights = [
            (sign / len(used), {**each, axis: name}) for each in used for sign, name in ((-1.0, base), (1.0, other))
        ]
        return Estimate(levels, {}, self.sum(weights))

    def effect(self, axis: str, base: str, other: str) -> Effect:
        """Return the effect along one compared axis."""
        settings = self.settings(axis, base, other)
        by_setting = tuple(self.difference(levels, axis, base, other) for levels in settings)
        x = self.spec.x

        def over(levels: Levels) -> Estimate:
            matching = [each for each in settings if all(each[name] == level for name, level in levels.items())]
            return self.average(levels, matching, axis, base, other)

        used = sum(not math.isnan(setting.interval.mean) for setting in by_setting)
        return Effect(
            axis,
            base,
            other,
            over({}),
            tuple(over({x: level}) for level in self.xs),
            tuple(over(panel) for panel in self._panels(settings)),
            by_setting,
            used,
            len(settings),
        )

    def _panels(self, settings: Sequence[Levels]) -> list[Levels]:
        """Return the different settings without their x, in their order."""
        panels = [{axis: level for axis, level in each.items() if axis != self.spec.x} for each in settings]
        return [panel for number, panel in enumerate(panels) if panel not in panels[:number]]

    def interaction(self) -> Interval | None:
        """Return the difference of the main effect between the levels of the second axis, averaged over everything else."""
        if len(self.spec.compare) < 2:
            return None
        (main, (base, other)), (second, (base2, other2)) = list(self.spec.compare.items())[:2]
        settings = list(self.combinations(main, second))
        weights = [
            (sign * sign2 / len(settings), {**each, main: level, second: level2})
            for each in settings
            for sign, level in ((-1.0, base), (1.0, other))
            for sign2, level2 in ((-1.0, base2), (1.0, other2))
        ]
        return self.sum(weights)

    def saving(self, panel: Levels, x: str, labels: Mapping[str, int]) -> Saving | None:
        """Return the label saving of a panel at x; None if an arm is not measured at x, or the base arm at one x alone."""
        main, (base, other) = next(iter(self.spec.compare.items()))
        is_counted = all(level in labels for level in self.xs)
        if not is_counted and min(map(float, self.xs)) <= 0:
            return None
        amounts = {level: float(labels[level] if is_counted else level) for level in self.xs}
        cells = {
            amounts[level]: cell
            for level in self.xs
            if (cell := self.values.cell({**panel, main: base, self.spec.x: level}))
        }
        target = self.values.cell({**panel, main: other, self.spec.x: x})
        if target is None or amounts[x] not in cells or len(cells) < 2:
            return None
        return label_saving(
            cells, target, amounts[x], higher_is_better=self.metric.higher_is_better, span=self._image_span
        )
