"""State of every run of a study while it is executed: `python -m recipes status <folder>`."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from common.files import list_folder, path_exists
from common.lock_owner import name_of
from common.locks import RUN_LOCK
from recipes.result import read_result
from recipes.run.ray.tasks import read_record as read_ray_record
from recipes.run.runner import format_duration, pluralize
from recipes.run.slurm.listing import ListedRun, Listing, places_of
from recipes.run.slurm.programs import SlurmBusy
from recipes.run.slurm.tasks import read_record
from recipes.run.states import log_end, noted_end, read_state, since_start
from recipes.run.tune import TUNING
from recipes.study.display import display_path
from recipes.study.stored_plan import read_plan

_PROGRESS = re.compile(r"^step (\d+) of (\d+), (\d+) images/s, (\d+) s left", re.MULTILINE)
"""A line of a run's log (`common.training.progress`)."""
_ERROR = re.compile(r"^(?:error: |[\w.]*(?:Error|Exception)\b).*", re.MULTILINE)


@dataclass(frozen=True)
class Progress:
    """How far a run is, since it was last started."""

    step: int
    steps: int
    images_per_second: int
    seconds_left: int


@dataclass(frozen=True)
class RunStatus:
    """State of a run in a word, how far it is if that is known, and where it runs, what it waits for, or how it ended."""

    name: str
    state: str
    progress: Progress | None
    detail: str


def print_status(folder: Path) -> int:
    """Print the state of every run of the study in `folder`, those of its tuning included; return the exit code.

    Raise UserError if it is no folder of a study.
    """
    plan = read_plan(folder)
    tuning = sorted(entry.name for entry in list_folder(folder / TUNING / "runs"))
    runs: dict[Path, str | None] = {folder / TUNING / "runs" / name: None for name in tuning}
    runs |= {folder / "runs" / run.id: run.needs for run in plan.runs}
    statuses, problem = read_statuses(runs)
    print("\n".join(format_statuses(statuses)))
    counts = Counter(status.state for status in statuses)
    print(f"\n{pluralize(len(statuses), 'run')}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if problem:
        print(problem)
    print(f"folder: {display_path(folder)}")
    return 0


def read_statuses(runs: Mapping[Path, str | None]) -> tuple[list[RunStatus], str]:
    """Return the statuses of runs, given by their folders with the runs that they start from; and lines about what is not known.

    Slurm's queue and the submissions are read once, and of each run a few small files and the end of its log.
    """
    problems: list[str] = []
    listing, places = Listing(problems), places_of(runs)
    queue = _read_queue(listing, places, problems)
    tasks = listing.last_tasks(places)
    statuses = [status_of(folder, needs, queue, tasks) for folder, needs in runs.items()]
    return statuses, "\n".join(problems)


def status_of(
    folder: Path,
    needs: str | None,
    queue: Mapping[Path, ListedRun],
    tasks: Mapping[Path, tuple[Path, int]] = MappingProxyType({}),
) -> RunStatus:
    """Return the status of the run in `folder`, which starts from the run `needs` beside it.

    `queue` and `tasks` are the runs in Slurm's queue and the last tasks of runs, by the runs' folders without links.
    """
    log = since_start(log_end(folder))
    result, progress = read_result(folder), read_progress(log)
    listed = queue.get(folder.resolve())
    state, detail = read_state(folder), ""
    if result is not None and result.is_final:
        reason = f" at step {result.step}: {result.reason}" if result.status != "finished" else ""
        last = Progress(result.step, progress.steps, int(result.images_per_second), 0) if progress else None
        return RunStatus(folder.name, "done", last, f"{result.status}, {format_duration(result.seconds)}{reason}")
    if listed is not None and listed.queued.is_live:
        queued = listed.queued
        if queued.state == "PENDING":
            waits_for = _waits_for(queued.reason, needs)
            return RunStatus(folder.name, "queued", progress, f"job {queued.job} waits: {waits_for}")
        where = f"on {queued.nodes or '?'}, job {queued.job}, {queued.state.lower()}"
        return RunStatus(folder.name, "running", progress, where)
    on_ray = read_ray_record(folder)
    if state == "running":
        is_on_ray = on_ray is not None and on_ray.state == "started"
        where = f"on {on_ray.node}, Ray" if on_ray and is_on_ray else _owner(folder)
        return RunStatus(folder.name, "running", progress, where)
    if on_ray is not None and on_ray.state == "queued":
        given = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(on_ray.since))
        return RunStatus(folder.name, "queued", progress, f"given to Ray at {given}")
    if (how := noted_end(log)) is not None:
        return RunStatus(folder.name, "failed", progress, ": ".join(part for part in (how, _last_error(log)) if part))
    task = tasks.get(folder.resolve())
    record = read_record(*task) if task is not None else None
    if record is not None and record.state in ("failed", "skipped"):
        return RunStatus(folder.name, record.state, progress, record.reason)
    if state == "interrupted" and (progress is not None or result is not None):
        detail = result.reason if result is not None else "the same command resumes it"
        return RunStatus(folder.name, "interrupted", progress, detail)
    start = read_result(folder.parent / needs) if needs else None
    if start is not None and start.is_final and not start.is_usable:
        return RunStatus(folder.name, "skipped", None, f"{needs} diverged; there are no weights to start from")
    waits = needs is not None and (start is None or not start.is_final)
    return RunStatus(folder.name, "waiting", None, f"for {needs}" if waits else "not started")


def read_progress(log: str) -> Progress | None:
    """Return how far a run is, from the last line about it in its log since it was last started; None if there is none."""
    lines = _PROGRESS.findall(log)
    return Progress(*map(int, lines[-1])) if lines else None


def format_statuses(statuses: Sequence[RunStatus]) -> Iterator[str]:
    """Yield a table of statuses."""
    width = max(len(status.name) for status in statuses)
    yield f"{'state':<12}{'run':<{width}}{'step':>16}{'images/s':>10}{'left':>9}  "
    for status in statuses:
        progress, step, rate, left = status.progress, "", "", ""
        if progress is not None:
            step, rate = f"{progress.step}/{progress.steps}", str(progress.images_per_second)
            left = format_duration(progress.seconds_left) if status.state == "running" else ""
        yield f"{status.state:<12}{status.name:<{width}}{step:>16}{rate:>10}{left:>9}  {status.detail}"


def _read_queue(listing: Listing, places: Sequence[Path], problems: list[str]) -> dict[Path, ListedRun]:
    """Return the runs in Slurm's queue; append a line to `problems` about what could not be read though runs were submitted."""
    places = [place for place in places if path_exists(place)]
    if not places:
        return {}
    if shutil.which("squeue") is None:
        problems.append("squeue is not on this machine: whether a run waits in Slurm's queue is not known")
        return {}
    try:
        return listing.read(places)
    except SlurmBusy as error:
        problems.append(f"Slurm: {error}; whether a run waits in its queue is not known")
        return {}


def _waits_for(reason: str, needs: str | None) -> str:
    """Return what a job in the queue waits for, in Slurm's word, or the run that it starts from."""
    return f"for {needs}" if reason == "Dependency" and needs else reason


def _owner(folder: Path) -> str:
    """Return process and host of a run from its lock."""
    path = folder / RUN_LOCK
    return name_of(path.read_text(encoding="utf-8", errors="replace")) if path_exists(path) else "starting"


def _last_error(log: str) -> str:
    """Return the last line of a log that names an error; an empty string if none does."""
    found = _ERROR.findall(log)
    return found[-1].strip() if found else ""
