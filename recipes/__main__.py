"""Owns the studies' command line: `python -m recipes list | plan | run | report`."""

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError
from recipes.engines import (
    SINGLE_PROCESS,
    Engine,
    LocalSlots,
    accelerate_command,
    default_jobs,
    visible_devices,
    warm_server,
)
from recipes.plan import Plan, Resolver, make_plan, write_plan
from recipes.runner import StudyRunner, in_words
from recipes.stages import resolve_by_config
from recipes.states import read_result, read_state
from recipes.study import STUDIES, shown
from recipes.study_file import find_study, load_study

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
            return _list()
        if options.command == "report":
            return _report(Path(options.folder))
        plan = make_plan(load_study(find_study(options.study), tuple(options.overrides)), resolve)
        folder = Path(options.out or Path("outputs") / plan.study.name)
        if options.command == "plan":
            return _plan(plan, folder, options.only)
        engine = (build_engine or local_engine)(options.jobs, tuple(shlex.split(options.launch)), options.cold)
        return _run(plan, folder, options.only, engine)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
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
        command.add_argument("--out", metavar="DIR", help="folder of the study (default: outputs/<name>)")
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


def _list() -> int:
    """Print every study with its question."""
    for path in sorted(STUDIES.glob("*.yaml")):
        study = load_study(path)
        print(f"{study.name}\n    {study.question}\n    {' x '.join(f'{len(a.levels)} {a.name}' for a in study.axes)}")
    return 0


def _plan(plan: Plan, folder: Path, only: str | None) -> int:
    """Print every run of a study: how far it is, its name, what it starts from, and its command."""
    runs = plan.select(only) if only else plan.runs
    states = {run.id: read_state(folder / "runs" / run.id) for run in runs}
    for run in runs:
        result = read_result(folder / "runs" / run.id)
        took = f"  {result.verdict}, {in_words(result.seconds)}" if result and result.is_final else ""
        print(f"{states[run.id]:<11} {run.id}{f'  from {run.needs}' if run.needs else ''}{took}")
        print(f"{'':<11} accelerate launch -m {run.package} {' '.join(run.arguments(folder / 'runs'))}")
    stages = ", ".join(f"{sum(run.stage == s.name for run in runs)} {s.name}" for s in plan.study.stages)
    done = sum(state == "done" for state in states.values())
    print(f"\n{plan.study.name}: {len(runs)} runs ({stages}) for {len(plan.cells)} cells; {done} done")
    print(f"folder: {shown(folder)}")
    return 0


def _run(plan: Plan, folder: Path, only: str | None, engine: Engine) -> int:
    """Run what is not done, write the report, and print the answer."""
    runs = plan.select(only) if only else plan.runs
    write_plan(plan, folder)
    print(f"{plan.study.name}: {plan.study.question}", flush=True)
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
    from recipes.report import write_report

    page = write_report(folder)
    print("\n" + "\n".join([page.words.headline(), *page.answer()]))
    for warning in page.warnings():
        print(warning)
    print(f"\nreport: {shown(folder / 'report.html')}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
