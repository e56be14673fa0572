"""Command line of the studies: `python -m recipes list | plan | run | report | schema`."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, system_error_message
from recipes.json_schemas import SCHEMAS, write_schemas
from recipes.overview import print_list, print_plan
from recipes.run.engines import (
    SINGLE_PROCESS,
    Engine,
    LocalSlots,
    accelerate_command,
    build_forkserver,
    default_jobs,
    visible_devices,
)
from recipes.run.fetch_weights import describe, fetch_published
from recipes.run.run_cache import link_shared_runs, locate_runs
from recipes.run.runner import StudyRunner, pluralize
from recipes.run.states import read_state
from recipes.stages import resolve_by_config
from recipes.study.cost import RunCosts
from recipes.study.full_plan import make_full_plan, with_macs
from recipes.study.plan import Plan, Resolver, write_plan
from recipes.study.scales import load_scale, scale_names
from recipes.study.specification import display_path
from recipes.study.study_file import find_study, load_study

USER_ERROR = 2
"""Exit code for invalid input, which is reported in one message."""

EngineBuilder = Callable[[int | None, tuple[str, ...], bool], Engine]
"""(number of parallel runs or None, arguments of `accelerate launch`, no_prefork) -> engine that runs the study."""


def main(
    arguments: list[str], *, resolve: Resolver = resolve_by_config, build_engine: EngineBuilder | None = None
) -> int:
    """Run the command line; return the exit code: 0, 1 if a run failed, 2 for invalid input."""
    options = _parse(arguments)
    try:
        if options.command == "list":
            return print_list()
        if options.command == "report":
            return _report(Path(options.folder))
        if options.command == "schema":
            for file in write_schemas(Path(options.out)):
                print(display_path(file))
            return 0
        seeds = parse_seeds(options.seeds)
        study = load_study(find_study(options.study), tuple(options.overrides), options.scale, seeds)
        costs = RunCosts(load_scale(study.scale) if study.scale else None)
        plan = make_full_plan(study, resolve, costs)
        folder = Path(options.out or Path("outputs", *([study.scale] if study.scale else []), study.name))
        if options.command == "plan":
            return print_plan(
                plan, folder, options.only, tera_macs_per_second=options.tera_macs_per_second, verbose=options.verbose
            )
        engine = (build_engine or local_engine)(
            options.jobs, tuple(shlex.split(options.accelerate_args)), options.no_prefork
        )
        return _run(plan, folder, options.only, engine, costs)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(system_error_message(error), file=sys.stderr)
        return USER_ERROR


def local_engine(jobs: int | None, accelerate_args: tuple[str, ...], no_prefork: bool) -> Engine:
    """Return an engine with `jobs` slots on this machine, by default one per GPU, or per core if there is none.

    Runs are forked from a preloaded process, except with `no_prefork` or with custom arguments of `accelerate launch`.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1.")
    devices = visible_devices()
    slots = jobs or default_jobs(devices)
    forkserver = None if no_prefork or accelerate_args != SINGLE_PROCESS else build_forkserver(slots)
    return LocalSlots(slots, accelerate_command(accelerate_args), devices, forkserver)


def _parse(arguments: list[str]) -> argparse.Namespace:
    """Return the parsed command line; exit with a usage message if it is invalid."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if unknown := [
        word for word in rest if word.startswith("-") or "=" not in word or options.command not in ("plan", "run")
    ]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:  # argparse does not accept key=value words after an option
        options.overrides += rest
    return options


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="python -m recipes", description="Plan and run studies, and report on them.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="list the studies with their questions")
    schema = commands.add_parser("schema", help="write the JSON schemas of recipes, studies and scales, for editors")
    schema.add_argument(
        "--out", metavar="FOLDER", default=display_path(SCHEMAS), help="where they are written (default: %(default)s)"
    )
    plan = commands.add_parser("plan", help="print every run of a study and its cost; nothing is started")
    run = commands.add_parser("run", help="run what is not done, then write the report")
    for command in (plan, run):
        _add_study_arguments(command)
    plan.add_argument(
        "--tera-macs-per-second",
        type=float,
        metavar="T",
        help="throughput of one device in 1e12 MACs per second, to estimate the hours",
    )
    plan.add_argument("--verbose", action="store_true", help="also print the command of every run")
    run.add_argument(
        "--jobs", type=int, help="number of parallel runs (default: one per GPU, or per core without a GPU)"
    )
    run.add_argument(
        "--no-prefork",
        action="store_true",
        help="start each run as a new process instead of forking it from a preloaded one",
    )
    run.add_argument(
        "--accelerate-args",
        default=" ".join(SINGLE_PROCESS),
        metavar="ARGS",
        help="arguments of `accelerate launch` for each run (default: %(default)s)",
    )
    report = commands.add_parser("report", help="regenerate a study's report from its run folders")
    report.add_argument("folder", help="folder of the study (the --out of `run`)")
    return parser


def _add_study_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that select a study and its runs."""
    command.add_argument("study", help="name of a study (see list), or path of a study's YAML file")
    command.add_argument(
        "overrides", nargs="*", metavar="key=value", help="recipe keys for all stages; <stage>.key=value for one stage"
    )
    command.add_argument(
        "--only",
        metavar="PATTERN",
        help="only runs whose name contains PATTERN (* matches anything), and the runs they start from",
    )
    command.add_argument(
        "--scale", metavar="NAME", help=f"scale of a paper's study: {', '.join(scale_names())} (see list)"
    )
    command.add_argument("--seeds", metavar="0,1,2", help="seeds of the repeats (default: those of the scale or study)")
    command.add_argument("--out", metavar="DIR", help="folder of the study (default: outputs/[<scale>/]<name>)")


def parse_seeds(text: str | None) -> tuple[int, ...]:
    """Return the seeds of a comma-separated list."""
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--seeds {text}: must be comma-separated integers, such as 0,1,2.") from error


def _run(plan: Plan, folder: Path, only: str | None, engine: Engine, costs: RunCosts) -> int:
    """Run what is not done, write the report and print its answer; return the exit code."""
    runs = plan.select(only) if only else plan.runs
    places, _ = locate_runs(runs, folder)
    weights = fetch_published(plan.study, [run for run in runs if read_state(places[run.id]) != "done"])
    write_plan(with_macs(plan, costs), folder, weights)
    shared = link_shared_runs(places, folder)
    print("\n".join([f"{plan.study.title}: {plan.study.question}", *describe(weights)]), flush=True)
    if shared:
        print(f"{pluralize(len(shared), 'run')} shared with neighboring studies of {display_path(folder)}", flush=True)
    outcome = StudyRunner(
        runs, folder / "runs", engine, lambda line: print(line, flush=True), plan.study.report.metric
    ).run()
    if outcome.signal_number is None:
        _report(folder)
    for name in outcome.failed:
        print(f"failed: {display_path(folder / 'runs' / name)}", file=sys.stderr)
    return outcome.exit_code


def _report(folder: Path) -> int:
    """Write a study's report and print its answer; return the exit code."""
    from recipes.reports.report import write_report

    page = write_report(folder)
    print("\n" + "\n".join([page.words.headline(), *page.answer()]))
    for warning in page.warnings():
        print(warning)
    print(f"\nreport: {display_path(folder / 'report.html')}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
