"""Command line of the studies: `python -m recipes list | plan | tune | run | status | report | publish | schema`."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import USER_ERROR, UserError, system_error_message
from common.paths import user_path
from common.pipes import exit_with
from recipes.arguments import parse, parse_seeds
from recipes.command_words import tune_command
from recipes.json_schemas import write_schemas
from recipes.overview import TuningState, print_list, print_plan
from recipes.run.build_engine import EngineBuilder, build_engine, check_engine, with_files
from recipes.run.engine import Engine
from recipes.run.fetch_weights import describe, fetch_starts
from recipes.run.other_forms import check_form, runs_left_out
from recipes.run.run_cache import check_links, link_shared_runs, locate_runs
from recipes.run.runner import StudyRunner, pluralize
from recipes.run.slurm.detach import submit_all
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.programs import NoAnswer, SlurmBusy
from recipes.run.stale_images import check_images
from recipes.run.states import read_state
from recipes.run.status import print_status
from recipes.run.tune import (
    Tuner,
    TuningOutcome,
    describe_choices,
    find_choices,
    save_choices,
    shipped_choices,
)
from recipes.stages import resolve_by_config
from recipes.study.choices import Choices
from recipes.study.cost import RunCosts
from recipes.study.display import display_path
from recipes.study.full_plan import largest_step, make_full_plan, measure_with, with_macs
from recipes.study.kept_levels import parse_levels
from recipes.study.plan import Plan, PlannedRun, Resolver
from recipes.study.scales import load_scale
from recipes.study.stored_plan import check_folder, write_plan
from recipes.study.study_file import find_study, load_study
from recipes.study.tuning import plan_tuning
from recipes.study_options import engine_options_of, size_study, study_folder


def main(
    arguments: list[str], *, resolve: Resolver = resolve_by_config, engine_builder: EngineBuilder = build_engine
) -> int:
    """Run the command line; return the exit code: 0, 1 if a run failed, 2 for invalid input."""
    options = parse(arguments)
    try:
        if options.command == "list":
            return print_list()
        if options.command == "report":
            return _report(Path(options.folder))
        if options.command == "status":
            return print_status(Path(options.folder))
        if options.command == "publish":
            return _publish(options)
        if options.command == "schema":
            for file in write_schemas(Path(options.out)):
                print(display_path(file))
            return 0
        return _study(options, arguments, resolve, engine_builder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {system_error_message(error)}", file=sys.stderr)
        return USER_ERROR


def _study(options: argparse.Namespace, arguments: list[str], resolve: Resolver, engine_builder: EngineBuilder) -> int:
    """Plan, tune or run a study; return the exit code."""
    path = find_study(options.study)
    words = tuple(options.overrides), options.scale, parse_seeds(options.seeds), getattr(options, "epochs_factor", 1.0)
    engine_options = engine_options_of(options)
    if options.command != "plan":
        check_engine(engine_options)
    study = with_files(
        load_study(path, *words, parse_levels(options.levels)), engine_options.slurm_file, engine_options.ray_file
    )
    study, macs_per_second = size_study(options, path, study, _print)
    costs = RunCosts(load_scale(study.scale) if study.scale else None)
    measure = measure_with(costs)
    folder = study_folder(options.out, study)
    shipped = shipped_choices(study, path)
    tuning = plan_tuning(study, resolve, measure) if study.tune else None
    found = find_choices(tuning, folder, shipped, renewed=options.command == "tune") if tuning else None
    plan = make_full_plan(study, resolve, measure, found[0] if found else None)
    if options.command == "plan":
        return print_plan(
            plan,
            folder,
            options.only,
            costs=costs,
            tera_macs_per_second=(macs_per_second and macs_per_second / 1e12)
            if options.tera_macs_per_second is None
            else options.tera_macs_per_second,
            verbose=options.verbose,
            tuning=None if tuning is None else TuningState(tuning, found),
        )
    if options.command == "tune" and tuning is None:
        raise UserError(f"study {study.name}: has no section tune, so there is nothing to choose.")
    check_folder(plan, folder)
    if options.command == "run":
        check_form(plan, folder)
    engine_options = engine_options.sharing_gpus(lambda: largest_step(plan, costs), _print)
    engine = engine_builder(engine_options, study)
    if tuning is not None and not found and engine_options.detach:
        raise UserError(
            f"--detach: study {study.name} chooses lengths by the results of runs, so not every run is known yet. Run `tune` with"
            " --engine slurm first, then this command; or set tune=none."
        )
    if tuning is not None:
        outcome = (
            TuningOutcome(found[0])
            if found
            else Tuner(folder, engine, resolve, _print, costs).tune(tuning, tune_command(arguments))
        )
        if outcome.choices is None:
            return outcome.exit_code
        _print(
            "\n".join(
                [f"choices{f' of {display_path(found[1])}' if found else ''}:", *describe_choices(outcome.choices)]
            )
        )
        if options.command == "tune":
            return _save(outcome.choices, shipped) if options.save else 0
        plan = make_full_plan(study, resolve, measure, outcome.choices)
    return _run(plan, folder, options.only, engine, costs, detach=engine_options.detach)


def _save(choices: Choices, path: Path) -> int:
    """Write choices beside a study's file; return the exit code."""
    save_choices(choices, path)
    _print(f"saved: {display_path(path)}")
    return 0


def _print(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def _run(plan: Plan, folder: Path, only: str | None, engine: Engine, costs: RunCosts, *, detach: bool = False) -> int:
    """Run what is not done, or submit it with `detach`; write the report and print its answer; return the exit code."""
    runs = plan.select(only) if only else plan.runs
    check_links(runs, folder)
    places = check_images(runs, locate_runs(runs, folder)[0], folder)
    weights = fetch_starts(plan.study, [run for run in runs if read_state(places[run.id]) != "done"])
    plan = with_macs(plan, costs)  # of networks whose weights were fetched, too
    runs = plan.select(only) if only else plan.runs
    if line := runs_left_out(plan, folder):
        _print(line)
    write_plan(plan, folder, weights)
    shared = link_shared_runs(places, folder)
    _print("\n".join([f"{plan.study.title}: {plan.study.question}", *describe(weights)]))
    if shared:
        _print(f"{pluralize(len(shared), 'run')} shared with neighboring studies of {display_path(folder)}")
    if detach:
        assert isinstance(engine, SlurmEngine)
        return _detach(runs, folder, engine)
    if any(state != "done" for state in map(read_state, places.values())):
        _print(f"how far each run is: python -m recipes status {shlex.quote(str(display_path(folder)))}")
    outcome = StudyRunner(runs, folder / "runs", engine, _print, plan.study.report.metric).run()
    if outcome.signal_number is None:
        _report(folder)
    for name in outcome.failed:
        print(f"failed: {display_path(folder / 'runs' / name)}", file=sys.stderr)
    return outcome.exit_code


def _detach(runs: Sequence[PlannedRun], folder: Path, engine: SlurmEngine) -> int:
    """Submit what is not done, write the report of what is done; return the exit code."""
    try:
        states = submit_all(runs, folder / "runs", engine, _print)
    except SlurmBusy as error:
        engine.print_unanswered()
        again = "Run the command again: what was submitted is not submitted twice."
        if isinstance(error, NoAnswer):
            again = (
                "Run the command again after a minute, when squeue shows what was submitted: it is not submitted twice."
            )
        raise UserError(f"Slurm: {error}. {again}") from error
    if "done" in states.values():
        _report(folder)
    if {"submitted", "in the queue", "in use"} & set(states.values()):
        _print(
            f"`python -m recipes status {display_path(folder)}` shows the runs; this"
            " command again reports on them, and submits what failed or is missing."
        )
    return 0


def _report(folder: Path) -> int:
    """Write a study's report and print its answer; return the exit code."""
    from recipes.reports.report import write_report

    page = write_report(folder)
    print("\n" + "\n".join([*page.advice(), page.words.headline(), *page.answer()]))
    for warning in page.warnings():
        print(warning)
    print(f"\nreport: {display_path(folder / 'report.html')}", flush=True)
    return 0


def _publish(options: argparse.Namespace) -> int:
    """Store a study's results and write the documents, or list what differs; return the exit code."""
    from recipes.publish.command import refresh, store

    root = user_path(options.root, "--root")
    if options.folder is None and (options.name or options.note):
        raise UserError("--name and --note are those of a study: give its folder as well.")
    if options.folder is not None and options.check:
        raise UserError(f"--check writes nothing, so it does not store {options.folder}: remove one of the two.")
    if options.folder is not None:
        target = store(Path(options.folder), root, options.name, options.note or "")
        print(f"stored: {display_path(target)}")
    different = refresh(root, write=not options.check)
    for name in different:
        print(f"differs: {name}" if options.check else f"written: {name}")
    return 1 if options.check and different else 0


if __name__ == "__main__":
    exit_with(lambda: main(sys.argv[1:]))
