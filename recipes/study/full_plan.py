"""The plan that `plan` and `run` work on: arms matched, chosen lengths, the factor on all epochs, baselines, MACs of its runs."""

from dataclasses import replace
from typing import Any

from common.errors import UserError
from common.training.cost import Cost
from recipes.study.baselines import with_baselines
from recipes.study.choice_names import in_words, remedy
from recipes.study.choices import Choices
from recipes.study.cost import RunCosts
from recipes.study.kept_levels import kept_cells, kept_plan
from recipes.study.lengths import RunLength, run_length
from recipes.study.matching import MeasureRun, match_arms
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.specification import Study


def make_full_plan(study: Study, resolve: Resolver, measure: MeasureRun, choices: Choices | None = None) -> Plan:
    """Return the plan of a study with matched arms and the chosen lengths; without choices, its arms spend all of the budget.

    Raise one UserError that lists all problems. Arms cannot be matched without the data, unless the scale declares its size: an
    error that names them is raised.
    """
    plan = make_plan(study, resolve)
    adjusted = match_arms(plan, measure)
    if choices is not None:
        adjusted = _with_choices(plan, adjusted, choices)
    if adjusted.adjusted:
        plan = make_plan(adjusted, resolve)
    if study.epochs_factor != 1:
        plan = make_plan(_scale_epochs(plan, measure), resolve)
    whole = replace(with_baselines(plan, resolve), choices=choices)
    if not study.kept:
        return whole
    of_part = with_baselines(replace(plan, cells=kept_cells(whole)), resolve)
    return kept_plan(
        whole, [run.digest for run in of_part.runs if study.baselines and run.stage == study.baselines.name]
    )


def measure_with(costs: RunCosts) -> MeasureRun:
    """Return a function that gives the length of a run, each once."""
    known: dict[str, RunLength] = {}

    def measure(run: PlannedRun) -> RunLength:
        if run.id not in known:
            known[run.id] = run_length(run, costs)
        return known[run.id]

    return measure


def _with_choices(plan: Plan, study: Study, choices: Choices) -> Study:
    """Return the study with the chosen keys of its last stage in every cell; raise UserError if a cell has no choice."""
    prefix, adjusted = f"{study.stages[-1].name}.", dict(study.adjusted)
    for cell in plan.cells:
        if (choice := choices.of(cell.levels)) is None:
            raise UserError(f"study {study.name}: no choice for {in_words(cell.levels)}. {remedy(study)}")
        settings = {key.removeprefix(prefix): value for key, value in choice.settings.items()}
        adjusted[study.cell_key(cell.levels)] = {study.stages[-1].name: settings}
    return replace(study, adjusted=adjusted)


def _scale_epochs(plan: Plan, measure: MeasureRun) -> Study:
    """Return the study of `plan` with the epochs of every stage multiplied by its factor, rounded to at least one epoch."""
    study, by_id = plan.study, {run.id: run for run in plan.runs}
    adjusted: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for cell in plan.cells:
        key = study.cell_key(cell.levels)
        before = study.adjusted.get(key, {})
        adjusted[key] = {stage: dict(settings) for stage, settings in before.items()}
        for stage, name in cell.runs.items():
            length = measure(by_id[name])
            if length.epochs is not None:
                epochs = max(1, round(length.epochs * study.epochs_factor))
                adjusted[key][stage] = {**before.get(stage, {}), **length.settings(epochs)}
    return replace(study, adjusted=adjusted)


def with_macs(plan: Plan, costs: RunCosts) -> Plan:
    """Return a plan whose runs have their MACs."""
    return replace(plan, runs=tuple(replace(run, macs=_macs(run, costs)) for run in plan.runs))


def largest_step(plan: Plan, costs: RunCosts) -> float | None:
    """Return the MACs of the largest training step of a plan's runs; None if those of a run are not known, or none trains."""
    found = [_cost(run, costs) for run in plan.runs]
    known = [cost for cost in found if cost is not None]
    return (
        max((cost.macs / cost.steps for cost in known if cost.steps), default=None)
        if len(known) == len(found)
        else None
    )


def _macs(run: PlannedRun, costs: RunCosts) -> float | None:
    """Return the MACs of a run, or None if they are not known here."""
    cost = _cost(run, costs)
    return cost.macs if cost is not None else None


def _cost(run: PlannedRun, costs: RunCosts) -> Cost | None:
    """Return the cost of a run, or None if its data or weights cannot be opened here."""
    try:
        return costs.of(run)
    except UserError:
        return None
