"""Owns what is told of studies before they run: `list`, and `plan` with its costs."""

from collections import Counter
from pathlib import Path

from common.errors import UserError
from common.training.cost import Cost
from common.training.optimizers import peak_lr
from recipes.result import Result, read_result
from recipes.run.run_cache import find_places
from recipes.run.runner import counted, in_words
from recipes.run.states import State, read_state
from recipes.stages import load_config
from recipes.study.cost import estimate, measured_rates, set_size
from recipes.study.plan import Plan, PlannedRun
from recipes.study.scales import load_scale, scale_names
from recipes.study.sections import read_yaml
from recipes.study.specification import STUDIES, shown
from recipes.study.study_file import load_study


def print_list() -> int:
    """Print every study with its question, its size and the scales it is offered at; then the scales."""
    for path in sorted(STUDIES.glob("*.yaml")):
        offered = read_yaml(path.read_text(encoding="utf-8")).get("scales") or []
        study = load_study(path, scale=offered[0] if offered else None)
        size = " x ".join(f"{len(axis.levels)} {axis.name}" for axis in study.axes)
        at = f"; --scale {' | '.join(offered)}" if offered else ""
        print(f"{study.name}\n    {study.question}\n    {size}{at}")
    print("\nscales")
    for name in scale_names():
        print(f"    {name:<12} {load_scale(name).told}")
    return 0


def print_plan(plan: Plan, folder: Path, only: str | None, *, rate: float | None, every_run: bool) -> int:
    """Print a study's runs and their cost; `rate` is what a device does, in 1e12 multiply-adds a second."""
    if rate is not None and rate <= 0:
        raise UserError(f"--rate {rate}: must be above 0.")
    runs = plan.select(only) if only else plan.runs
    places, shared = find_places(runs, folder)
    states = {name: read_state(place) for name, place in places.items()}
    results = {name: result for name, place in places.items() if (result := read_result(place)) and result.is_final}
    for run in runs:
        result = results.get(run.id)
        took = f"  {result.verdict}, {in_words(result.seconds)}" if result else ""
        beside = f"  in {shown(places[run.id].parent.parent)}" if run.id in shared else ""
        start = f"  from {run.needs}" if run.needs else ""
        print(f"{states[run.id]:<11} {run.id}{peak_in_words(run)}{start}{took}{beside}")
        if every_run:
            print(f"{'':<11} accelerate launch -m {run.package} {' '.join(run.arguments(folder / 'runs'))}")
    done = sum(state == "done" for state in states.values())
    told = f"; {len(shared)} shared with other studies" if shared else ""
    print(
        f"\n{plan.study.title}: {counted(len(runs), 'run')} for {counted(len(plan.cells), 'cell')}; {done} done{told}"
    )
    for stage in plan.study.stages:
        if stage.published:
            print(f"{stage.name}: not run, for runs start from {stage.published.told}: {stage.published.init}")
            print(f"{'':{len(stage.name)}}  ({stage.name}.published=none runs it)")
    print("\n".join(_costs(plan, runs, states, results, rate)))
    print(f"folder: {shown(folder)}")
    return 0


def peak_in_words(run: PlannedRun) -> str:
    """Return the peak learning rate at which a run trains, which its name does not tell; nothing where it trains nothing."""
    config = load_config(run.module, Path(run.recipe), run.overrides)
    return f"  lr {peak_lr(config.optim, config.train.batch_size):.4g}" if hasattr(config, "optim") else ""


def _costs(
    plan: Plan,
    runs: tuple[PlannedRun, ...],
    states: dict[str, State],
    results: dict[str, Result],
    rate: float | None,
) -> list[str]:
    """Return a line for each stage: runs, steps, images, multiply-adds, device-hours, and what is left of them."""
    scale = load_scale(plan.study.scale) if plan.study.scale else None
    size = set_size(runs[-1], scale)
    costs = {run.id: estimate(run, size) for run in runs}
    measured = measured_rates(costs, results, runs)
    assumed = rate * 1e12 if rate else scale.multiply_adds_per_second if scale else None
    lines = [
        f"{'stage':<12}{'runs':>6}{'steps':>14}{'images':>12}{'multiply-adds':>16}{'device-hours':>14}{'to go':>10}"
    ]
    for stage in dict.fromkeys(run.stage for run in runs):
        mine = [run for run in runs if run.stage == stage]
        speed = assumed if rate else measured.get(stage, assumed)
        left = [costs[run.id] for run in mine if states[run.id] != "done"]
        lines.append(_cost_line(stage, [costs[run.id] for run in mine], left, speed))
    told = {stage: f"{speed / 1e12:.3g}" for stage, speed in measured.items()} if not rate else {}
    by_runs = "; ".join(f"{speed}e12 multiply-adds a second measured in {stage}" for stage, speed in told.items())
    by_word = (
        f"{assumed / 1e12:.3g}e12 multiply-adds a second and device {'given' if rate else 'assumed'}" if assumed else ""
    )
    words = "; ".join(word for word in (by_runs, by_word) if word) or "no rate is known: give --rate, or run something"
    endings = Counter(result.verdict for result in results.values() if result.verdict != "finished")
    ended = (
        [f"ended otherwise: {', '.join(f'{count} {verdict}' for verdict, count in endings.items())}"] if endings else []
    )
    return [*lines, f"set of {size.train_images} training images, {size.num_classes} classes; hours by {words}", *ended]


def _cost_line(stage: str, costs: list[Cost], left: list[Cost], speed: float | None) -> str:
    """Return the line of a stage."""
    work = sum(cost.multiply_adds for cost in costs)
    hours = f"{work / speed / 3600:.3g}" if speed else "?"
    remaining = f"{sum(cost.multiply_adds for cost in left) / speed / 3600:.3g}" if speed else "?"
    steps, images = sum(cost.steps for cost in costs), sum(cost.images for cost in costs)
    return f"{stage:<12}{len(costs):>6}{steps:>14,}{images:>12.4g}{work:>16.4g}{hours:>14}{remaining:>10}"
