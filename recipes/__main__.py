"""Owns the studies' command line: `python -m recipes list | plan | run | report`."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError, of_the_system
from recipes.overview import print_list, print_plan
from recipes.run.engines import (
    SINGLE_PROCESS,
    Engine,
    LocalSlots,
    accelerate_command,
    default_jobs,
    visible_devices,
    warm_server,
)
from recipes.run.published_weights import describe, fetch_published
from recipes.run.run_cache import find_places, link_shared
from recipes.run.runner import StudyRunner, counted
from recipes.run.states import read_state
from recipes.stages import resolve_by_config
from recipes.study.plan import Plan, Resolver, make_plan, write_plan
from recipes.study.scales import scale_names
from recipes.study.specification import shown
from recipes.study.study_file import find_study, load_study

USER_ERROR = 2
"""Exit code of a user's mistake, told in one message."""

EngineBuilder = Callable[[int | None, tuple[str, ...], bool], Engine]
"""(runs at once or None, arguments of `accelerate launch`, whether to start cold) -> where runs go."""


def main(
    arguments: list[str], *, resolve: Resolver = resolve_by_config, build_engine: EngineBuilder | None = None
) -> int:
    """Run the command line; return the exit code: 0, 1 when a run failed, 2 for a user's mistake."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if strange := [
        word for word in rest if word.startswith("-") or "=" not in word or options.command not in ("plan", "run")
    ]:
        parser.error(f"unrecognized arguments: {' '.join(strange)}")
    if rest:  # key=value words behind an option: argparse stops taking them there
        options.overrides += rest
    try:
        if options.command == "list":
            return print_list()
        if options.command == "report":
            return _report(Path(options.folder))
        study = load_study(
            find_study(options.study), tuple(options.overrides), options.scale, read_seeds(options.seeds)
        )
        plan = make_plan(study, resolve)
        folder = Path(options.out or Path("outputs", *([study.scale] if study.scale else []), study.name))
        if options.command == "plan":
            return print_plan(plan, folder, options.only, rate=options.rate, every_run=options.runs)
        engine = (build_engine or local_engine)(options.jobs, tuple(shlex.split(options.launch)), options.cold)
        return _run(plan, folder, options.only, engine)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(of_the_system(error), file=sys.stderr)
        return USER_ERROR


def local_engine(jobs: int | None, launch: tuple[str, ...], cold: bool) -> Engine:
    """Return this machine's slots: as many as asked for, otherwise one for each GPU or core.

    Runs of one process are forked from a warm one unless `cold`; launch arguments of the user's own always start cold.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1.")
    devices = visible_devices()
    slots = jobs or default_jobs(devices)
    warm = None if cold or launch != SINGLE_PROCESS else warm_server(slots)
    return LocalSlots(slots, accelerate_command(launch), devices, warm)


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all four commands."""
    parser = argparse.ArgumentParser(prog="python -m recipes", description="Plan, run and read studies.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="name the studies there are, with their questions")
    for name, told in (
        ("plan", "print every run before anything starts"),
        ("run", "run what is not done, then report"),
    ):
        command = commands.add_parser(name, help=told)
        command.add_argument("study", help="name of a study (see list), or a study's YAML file")
        command.add_argument(
            "overrides", nargs="*", metavar="key=value", help="recipe keys for all stages; <stage>.key=value for one"
        )
        command.add_argument(
            "--only", metavar="PATTERN", help="runs whose name holds this (* is anything), and what they need"
        )
        command.add_argument(
            "--scale", metavar="NAME", help=f"size of a paper's study: {', '.join(scale_names())} (see list)"
        )
        command.add_argument(
            "--seeds", metavar="0,1,2", help="seeds of the repeats (default: what the study or its scale says)"
        )
        command.add_argument("--out", metavar="DIR", help="folder of the study (default: outputs/[<scale>/]<name>)")
        if name == "plan":
            command.add_argument(
                "--rate",
                type=float,
                metavar="T",
                help="multiply-adds of a device in units of 1e12 a second, for the hours",
            )
            command.add_argument("--runs", action="store_true", help="print every run's command as well")
        if name == "run":
            command.add_argument(
                "--jobs", type=int, help="runs at once (default: one for each GPU, otherwise for each core)"
            )
            command.add_argument(
                "--cold", action="store_true", help="start each run from nothing instead of forking a warm process"
            )
            command.add_argument(
                "--launch",
                default=" ".join(SINGLE_PROCESS),
                metavar="ARGS",
                help="arguments of `accelerate launch` for each run (default: %(default)s)",
            )
    report = commands.add_parser("report", help="write the report of a study's folder again, from its runs alone")
    report.add_argument("folder", help="the --out of a run")
    return parser


def read_seeds(text: str | None) -> tuple[int, ...]:
    """Return the seeds of a comma-separated list."""
    try:
        return tuple(int(word) for word in text.split(",")) if text else ()
    except ValueError as error:
        raise UserError(f"--seeds {text}: needs whole numbers with commas between, such as 0,1,2.") from error


def _run(plan: Plan, folder: Path, only: str | None, engine: Engine) -> int:
    """Run what is not done, write the report, and print the answer."""
    runs = plan.select(only) if only else plan.runs
    places, _ = find_places(runs, folder)
    found = fetch_published(plan.study, [run for run in runs if read_state(places[run.id]) != "done"])
    write_plan(plan, folder, found)
    shared = link_shared(places, folder)
    print("\n".join([f"{plan.study.title}: {plan.study.question}", *describe(found)]), flush=True)
    if shared:
        print(f"{counted(len(shared), 'run')} shared with the studies beside {shown(folder)}", flush=True)
    outcome = StudyRunner(
        runs, folder / "runs", engine, lambda line: print(line, flush=True), plan.study.reading.metric
    ).run()
    if outcome.signal_number is None:
        _report(folder)
    for name in outcome.failed:
        print(f"failed: {shown(folder / 'runs' / name)}", file=sys.stderr)
    return outcome.exit_code


def _report(folder: Path) -> int:
    """Write a study's report and print its answer."""
    from recipes.reports.report import write_report

    page = write_report(folder)
    print("\n" + "\n".join([page.words.headline(), *page.answer()]))
    for warning in page.warnings():
        print(warning)
    print(f"\nreport: {shown(folder / 'report.html')}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:  # the reader, `head` perhaps, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
