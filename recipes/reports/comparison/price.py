"""Cost of the arms: device-hours of one run in all of its stages, and the labels saved weighed against them (`report.price`).

Break-even: the price of a label at which the labels that the other arm saves cost as much as the device-hours that it adds. It is
computed only where the number of labels saved is stated: inside the measured range, significant, and in a claim if one is declared.
"""

import math
from dataclasses import dataclass

import numpy as np

from recipes.reports.arm_costs import HOURS, CellCosts, cost_of, device_hours
from recipes.reports.comparison.claims import Outcome
from recipes.reports.comparison.estimator import Estimate, Levels
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.label_savings import Saving
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.results import StudyRecord
from recipes.study.report_specification import Price


@dataclass(frozen=True)
class Weighing:
    """The labels that the other arm saves in a panel, and the device-hours of one run that it adds; negative: the opposite."""

    panel: Levels
    labels: float
    low: float
    high: float
    """The interval's ends of the labels saved, low < high; both have the sign of `labels`."""
    hours: float

    @property
    def hours_per_label(self) -> tuple[float, float, float]:
        """Return the device-hours per label at which neither arm is cheaper: for the estimate, and for the interval, ascending."""
        ends = sorted(self.hours / labels for labels in (self.low, self.high))
        return self.hours / self.labels, ends[0], ends[1]

    @property
    def is_trade(self) -> bool:
        """Return whether one of the two is paid for with the other: labels with compute, or compute with labels."""
        return self.labels * self.hours > 0

    def gain(self, price: Price) -> tuple[float, float]:
        """Return by how much the other arm is cheaper, at the interval's ends, ascending."""
        gains = [labels * price.label - self.hours * price.device_hour for labels in (self.low, self.high)]
        return min(gains), max(gains)


@dataclass(frozen=True)
class PointCost:
    """Device-hours of a run of both arms at one point of the curve, and what a point of the metric costs where one is gained."""

    difference: Estimate
    base: float | None
    other: float | None

    @property
    def extra(self) -> float:
        """Return the device-hours that the other arm adds; NaN where either is unknown."""
        return math.nan if self.base is None or self.other is None else self.other - self.base

    def per_point(self, *, higher_is_better: bool) -> float:
        """Return the extra device-hours per point gained; NaN unless the difference is significant and a gain that costs some."""
        found = self.difference.interval
        is_gain = found.sign == (1 if higher_is_better else -1)
        return self.extra / abs(found.mean) if is_gain and self.extra > 0 else math.nan


def point_costs(findings: Findings, costs: CellCosts) -> list[PointCost]:
    """Return what every point of the curve costs, in the order of the differences (`cell_costs` has the costs)."""
    main = findings.main

    def cost(levels: Levels, level: str) -> float | None:
        return cost_of(costs, {**levels, main.axis: level}, HOURS)

    return [PointCost(each, cost(each.levels, main.base), cost(each.levels, main.other)) for each in main.by_setting]


def total_hours(study: StudyRecord) -> float:
    """Return the device-hours of all runs of a study."""
    return float(device_hours(study.frame).sum())


def weighings(findings: Findings, words: ComparisonWords, costs: CellCosts) -> list[Weighing]:
    """Return what can be weighed, by panel: where the saving is stated and both arms' device-hours are known."""
    found = (
        _weigh(findings, panel, saving, costs) for panel, saving in findings.savings if is_stated(words, panel, saving)
    )
    return [each for each in found if each is not None]


def is_stated(words: ComparisonWords, panel: Levels, saving: Saving | None) -> bool:
    """Return whether the report states a number of labels saved in a panel, as a significant one."""
    if saving is None or not saving.is_bounded or not saving.sign or not words.counts_labels:
        return False
    claim = words.saving_claim(panel)
    return claim is None or claim.outcome in (Outcome.BETTER, Outcome.WORSE)


def _weigh(findings: Findings, panel: Levels, saving: Saving | None, costs: CellCosts) -> Weighing | None:
    """Return the labels and device-hours of a panel; None where a cost is unknown.

    The base arm's device-hours with the labels that it needs are interpolated between its measured amounts, linearly.
    """
    assert saving is not None
    main, x = findings.main, findings.spec.x
    other = cost_of(costs, {**panel, main.axis: main.other, x: findings.saving_x}, HOURS)
    base = {float(findings.labels[level]): cost_of(costs, {**panel, main.axis: main.base, x: level}, HOURS)
            for level in findings.x}  # fmt: skip
    known = sorted((amount, hours) for amount, hours in base.items() if hours is not None)
    if other is None or not known or not known[0][0] <= saving.equal <= known[-1][0]:
        return None
    amounts, costs_of_base = np.array(known).T
    hours = other - float(np.interp(saving.equal, amounts, costs_of_base))
    ends = (saving.low - saving.labels, saving.high - saving.labels)
    return Weighing(panel, saving.equal - saving.labels, *ends, hours)
