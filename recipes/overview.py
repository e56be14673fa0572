"""Output of `list` and `plan`: the studies, and a study's runs with their cost."""

import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from common.training.cost import Cost
from common.yaml_text import read_yaml
from recipes.result import Result, read_result
from recipes.run.node_hours import node_hours, remaining_hours
from recipes.run.run_cache import locate_runs
from recipes.run.runner import format_duration, pluralize
from recipes.run.states import State, read_state
from recipes.run.tune import TUNING, describe_choices
from recipes.stages import load_config
from recipes.study.choices import Choices
from recipes.study.cost import RunCosts, measured_macs_per_second
from recipes.study.display import display_path
from recipes.study.plan import Plan, PlannedRun
from recipes.study.scales import load_scale, scale_names
from recipes.study.specification import STUDIES
from recipes.study.study_file import load_study
from recipes.study.tuning import Tuning


def print_list() -> int:
    """Print every study with its question, size and scales; then the scales."""
    for path in sorted(STUDIES.glob("*.yaml")):
        scales = read_yaml(path.read_text(encoding="utf-8")).get("scales") or []
        study = load_study(path, scale=scales[0] if scales else None)
        option = f"; --scale {' | '.join(scales)}" if scales else ""
        print(f"{study.name}\n    {study.question}\n    {study.size}{option}")
    print("\nscales")
    for name in scale_names():
        print(f"    {name:<12} {load_scale(name).description}")
    return 0


@dataclass(frozen=True)
class TuningState:
    """Tuning of a study, and the choices that it made with their file, if they are there."""

    tuning: Tuning
    found: tuple[Choices, Path] | None


def print_plan(
    plan: Plan,
    folder: Path,
    only: str | None,
    *,
    costs: RunCosts,
    tera_macs_per_second: float | None,
    verbose: bool,
    tuning: TuningState | None = None,
) -> int:
    """Print a study's runs and their cost, which `tera_macs_per_second` (1e12 MACs per second and device) converts to hours."""
    if tera_macs_per_second is not None and not 0 < tera_macs_per_second < math.inf:
        raise UserError(f"--tera-macs-per-second {tera_macs_per_second:g}: must be a finite number above 0.")
    runs = plan.select(only) if only else plan.runs
    places, shared = locate_runs(runs, folder)
    states = {name: read_state(place) for name, place in places.items()}
    results = {name: result for name, place in places.items() if (result := read_result(place)) and result.is_final}
    for run in runs:
        result = results.get(run.id)
        outcome = f"  {result.status}, {format_duration(result.seconds)}" if result else ""
        place = f"  in {display_path(places[run.id].parent.parent)}" if run.id in shared else ""
        start = f"  from {run.needs}" if run.needs else ""
        print(f"{states[run.id]:<11} {run.id}{format_peak_lr(run)}{start}{outcome}{place}")
        if verbose:
            print(f"{'':<11} accelerate launch -m {run.package} {shlex.join(run.arguments(folder / 'runs'))}")
    num_done = sum(state == "done" for state in states.values())
    sharing = f"; {len(shared)} shared with other studies" if shared else ""
    counts = f"{pluralize(len(runs), 'run')} for {pluralize(len(plan.cells), 'cell')}; {num_done} done{sharing}"
    print(f"\n{plan.study.title}: {counts}")
    for stage in plan.study.stages:
        if stage.published:
            weights = f"{stage.published.description}: {stage.published.init}"
            print(f"{stage.name}: not run; runs start from published weights, {weights}")
            print(f"{'':{len(stage.name)}}  ({stage.name}.published=none runs it)")
    if tuning is not None:
        print("\n".join(_describe_tuning(tuning, folder, costs)))
    print("\n".join(_costs(plan, runs, states, results, costs, tera_macs_per_second)))
    print(f"folder: {display_path(folder)}")
    return 0


def _describe_tuning(state: TuningState, folder: Path, costs: RunCosts) -> list[str]:
    """Return the choices of a study, or the runs that make them and their cost."""
    if state.found:
        choices, path = state.found
        return [f"choices of {display_path(path)}, so that no tuning is needed", *describe_choices(choices)]
    tuning = state.tuning
    runs = tuning.plan.runs
    done = sum(read_state(folder / TUNING / "runs" / run.id) == "done" for run in runs)
    by_stage = [
        f"{stage} {sum(costs.of(run).macs for run in runs if run.stage == stage):.4g} MACs"
        for stage in dict.fromkeys(run.stage for run in runs)
    ]
    most = pluralize(len(tuning.arms) * len(tuning.tune.seeds), "run")
    return [
        f"tuning: {pluralize(len(runs), 'run')} come first; {done} done; {', '.join(by_stage)}",
        f"        then up to {most} of twice the chosen epochs, which say whether an arm has converged",
        "no choices are made yet: the runs above and the costs below are those of the whole budget, an upper bound",
    ]


def format_peak_lr(run: PlannedRun) -> str:
    """Return the peak learning rate of a run, which its name does not contain; an empty string if it trains nothing."""
    from common.training.optimizers import peak_lr  # imports torch, which the other commands do without

    config = load_config(run.module, Path(run.recipe), run.overrides)
    return f"  lr {peak_lr(config.optim, config.train.batch_size):.4g}" if hasattr(config, "optim") else ""


def _costs(
    plan: Plan,
    runs: Sequence[PlannedRun],
    states: Mapping[str, State],
    results: Mapping[str, Result],
    run_costs: RunCosts,
    tera_macs_per_second: float | None,
) -> list[str]:
    """Return the cost table: a line per stage with runs, steps, images, MACs, device-hours and remaining device-hours."""
    scale = load_scale(plan.study.scale) if plan.study.scale else None
    size = run_costs.size(runs[-1])
    costs = {run.id: run_costs.of(run) for run in runs}
    measured = {} if tera_macs_per_second else measured_macs_per_second(costs, results, runs)
    assumed = tera_macs_per_second * 1e12 if tera_macs_per_second else scale.macs_per_second if scale else None
    lines = [f"{'stage':<12}{'runs':>6}{'steps':>14}{'images':>12}{'MACs':>16}{'device-hours':>14}{'remaining':>11}"]
    for stage in dict.fromkeys(run.stage for run in runs):
        of_stage = [run for run in runs if run.stage == stage]
        pending = [costs[run.id] for run in of_stage if states[run.id] != "done"]
        lines.append(_cost_line(stage, [costs[run.id] for run in of_stage], pending, measured.get(stage, assumed)))
    rates = [f"{rate / 1e12:.3g}e12 MACs per second and device measured in {stage}" for stage, rate in measured.items()]
    if assumed:
        source = "given" if tera_macs_per_second else "assumed"
        rates.append(f"{assumed / 1e12:.3g}e12 MACs per second and device {source}")
    known = "; ".join(rates) or "no rate is known: give --tera-macs-per-second, or run something"
    others = {run.stage: found for run in runs if (found := run_costs.size(run)).num_classes != size.num_classes}
    of_others = "".join(f" ({stage}: {each.train_images}, {each.num_classes})" for stage, each in others.items())
    images = size.describe(max(run_costs.size(run).num_unlabeled for run in runs))
    lines.append(f"{images}, {size.num_classes} classes{of_others}; hours: {known}")
    rate_of = {
        stage: rate for stage in dict.fromkeys(run.stage for run in runs) if (rate := measured.get(stage, assumed))
    }
    hours = remaining_hours(runs, costs, states, rate_of)
    lines += node_hours(hours, plan.study.slurm, plan.study.ray)
    other = Counter(result.status for result in results.values() if result.status != "finished")
    if other:
        lines.append(f"other outcomes: {', '.join(f'{count} {status}' for status, count in other.items())}")
    return lines


def _cost_line(stage: str, costs: Sequence[Cost], pending: Sequence[Cost], macs_per_second: float | None) -> str:
    """Return the cost table's line of a stage."""
    macs, remaining = sum(cost.macs for cost in costs), sum(cost.macs for cost in pending)
    hours = [f"{work / macs_per_second / 3600:.3g}" if macs_per_second else "?" for work in (macs, remaining)]
    steps, images = sum(cost.steps for cost in costs), sum(cost.images for cost in costs)
    return f"{stage:<12}{len(costs):>6}{steps:>14,}{images:>12.4g}{macs:>16.4g}{hours[0]:>14}{hours[1]:>11}"
