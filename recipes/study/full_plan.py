"""The plan that `plan` and `run` work on: arms matched, and the MACs of its runs."""

from dataclasses import replace

from common.errors import UserError
from recipes.study.cost import RunCosts
from recipes.study.lengths import run_length
from recipes.study.matching import match_arms
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.specification import Study


def make_full_plan(study: Study, resolve: Resolver, costs: RunCosts) -> Plan:
    """Return the plan of a study with matched arms; raise one UserError that lists all problems.

    Arms cannot be matched without the data, unless the scale declares its size: an error that names them is raised.
    """
    plan = make_plan(study, resolve)
    matched = match_arms(plan, lambda run: run_length(run, costs))
    return make_plan(matched, resolve) if matched.adjusted else plan


def with_macs(plan: Plan, costs: RunCosts) -> Plan:
    """Return a plan whose runs have their MACs."""
    return replace(plan, runs=tuple(replace(run, macs=_macs(run, costs)) for run in plan.runs))


def _macs(run: PlannedRun, costs: RunCosts) -> float | None:
    """Return the MACs of a run, or None if its data cannot be opened here."""
    try:
        return costs.of(run).macs
    except UserError:
        return None
