"""Matched arms: every arm of a study may spend what the one that costs most spends over all its stages.

The arms are the levels of the first compared axis, such as one-stage and two-stage training. For every combination of the other
levels the budget is the cost of the most expensive arm when each recipe is taken as it is written: MACs of the forward and backward
passes of teacher and student, of all crops and of both passes of SAM (`match: compute`), or optimizer steps (`match: steps`). Each
arm's last stage gets the largest number of epochs whose total, with the stages it starts from, is within the budget. The budget is
an upper bound: an arm spends less by at most the cost of one epoch. Published weights that replace a stage cost nothing here.

A study may state the budget (`budget_macs`); an arm that it leaves less than an epoch is an error. The further starts of a report
(`report.starts`), whose network others chose, do not set the budget: they are trained within that of the compared arms.

A longer run keeps the shares of its warm-up and cool-down and the number of its evaluations (`lengths`). Epochs that a level of
another axis or the command line sets belong to the recipe as it is written: they change the budget.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from common.errors import UserError
from recipes.study.lengths import RunLength
from recipes.study.plan import Cell, Plan, PlannedRun
from recipes.study.report_specification import ReportSpec
from recipes.study.specification import Study

MeasureRun = Callable[[PlannedRun], RunLength]
"""Run as planned -> its length and cost."""


def match_arms(plan: Plan, measure: MeasureRun) -> Study:
    """Return the study of `plan`, which has its recipes as written, with the lengths that match its arms."""
    study, axis = plan.study, plan.study.arm_axis
    if study.match == "none" or axis is None:
        return study
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for cell in plan.cells:
        others = tuple(level for name, level in cell.levels.items() if name != axis.name)
        groups.setdefault(others, []).append(cell)
    adjusted: dict[tuple[str, ...], Mapping[str, Mapping[str, Any]]] = {}
    for cells in groups.values():
        for cell, settings in _match_cells(plan, cells, measure):
            adjusted[study.cell_key(cell.levels)] = {study.stages[-1].name: settings}
    return replace(study, adjusted={key: settings for key, settings in adjusted.items() if any(settings.values())})


def _match_cells(plan: Plan, cells: list[Cell], measure: MeasureRun) -> list[tuple[Cell, dict[str, Any]]]:
    """Return the keys of the last stage in each of the cells that differ in their arm only."""
    by_id = {run.id: run for run in plan.runs}
    last, steps = plan.study.stages[-1].name, plan.study.match == "steps"

    def spent(run: PlannedRun) -> Fraction:
        cost = measure(run).cost
        return Fraction(cost.steps if steps else cost.macs)

    arms = []
    for cell in cells:
        run = by_id[cell.runs[last]]
        length, earlier, needs = measure(run), Fraction(0), run.needs
        if length.epochs is None:
            raise UserError(
                f"match = {plan.study.match}: the stage {last} has no train.epochs, so its arms cannot be matched. Set match=none."
            )
        while needs is not None:
            earlier, needs = earlier + spent(by_id[needs]), by_id[needs].needs
        arms.append((cell, length, earlier, spent(run)))
    stated, axis = plan.study.budget_macs, plan.study.arm_axis
    starts = plan.study.report.starts if isinstance(plan.study.report, ReportSpec) else ()
    setting = [each for each in arms if axis is None or each[0].levels[axis.name] not in starts] or arms
    budget = max(earlier + own for _, _, earlier, own in setting) if stated is None else Fraction(stated)
    matched = []
    for cell, length, earlier, own in arms:
        if (epochs := _epochs_within(budget - earlier, own, length)) < 1:
            arm = "-".join(cell.levels.values())
            raise UserError(
                f"match = {plan.study.match}: the budget of {arm} ({float(budget):.4g} {'steps' if steps else 'MACs'}) leaves no"
                f" epoch of {last}. Raise budget_macs or --budget, or shorten the stages that it starts from."
            )
        matched.append((cell, length.settings(epochs)))
    return matched


def _epochs_within(budget: Fraction, own: Fraction, length: RunLength) -> int:
    """Return the largest number of epochs that costs at most `budget`; as planned the run costs `own`."""
    assert length.epochs is not None
    return math.floor(budget * length.epochs / own) if own else length.epochs
