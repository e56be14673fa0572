"""State of every run of a study while it is executed: `python -m recipes status <folder>`."""

import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.files import list_folder, path_exists
from common.lock_owner import name_of
from common.locks import RUN_LOCK
from recipes.result import read_result
from recipes.run.ray.tasks import read_record as read_ray_record
from recipes.run.runner import format_duration, pluralize
from recipes.run.slurm.listing import ListedRun, Listing, last_record, places_of
from recipes.run.slurm.programs import SlurmBusy
from recipes.run.states import LOG, noted_end, read_state
from recipes.run.tune import TUNING
from recipes.study.display import display_path
from recipes.study.stored_plan import read_plan

_TAIL_BYTES = 65536
_PROGRESS = re.compile(r"^step (\d+) of (\d+), (\d+) images/s, (\d+) s left", re.MULTILINE)
"""A line of a run's log (`common.training.progress`)."""
_START = re.compile(r"^\$ ", re.MULTILINE)
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
    queue, problem = _read_queue(list(runs))
    statuses = [status_of(place, start, queue) for place, start in runs.items()]
    print("\n".join(format_statuses(statuses)))
    counts = Counter(status.state for status in statuses)
    print(f"\n{pluralize(len(statuses), 'run')}: {', '.join(f'{count} {state}' for state, count in counts.items())}")
    if problem:
        print(problem)
    print(f"folder: {display_path(folder)}")
    return 0


def status_of(folder: Path, needs: str | None, queue: Mapping[Path, ListedRun]) -> RunStatus:
    """Return the status of the run in `folder`, which starts from the run `needs` beside it."""
    result, progress = read_result(folder), read_progress(folder)
    listed = queue.get(folder.resolve())
    state, detail = read_state(folder), ""
    if result is not None and result.is_final:
        reason = f" at step {result.step}: {result.reason}" if result.status != "finished" else ""
        last = Progress(result.step, progress.steps, int(result.images_per_second), 0) if progress else None
        return RunStatus(folder.name, "done", last, f"{result.status}, {format_duration(result.seconds)}{reason}")
    if listed is not None and listed.queued.is_live:
        task = listed.queued
        if task.state == "PENDING":
            return RunStatus(folder.name, "queued", progress, f"job {task.job} waits: {_waits_for(task.reason, needs)}")
        return RunStatus(
            folder.name, "running", progress, f"on {task.nodes or '?'}, job {task.job}, {task.state.lower()}"
        )
    on_ray = read_ray_record(folder)
    if state == "running":
        is_on_ray = on_ray is not None and on_ray.state == "started"
        where = f"on {on_ray.node}, Ray" if on_ray and is_on_ray else _owner(folder)
        return RunStatus(folder.name, "running", progress, where)
    if on_ray is not None and on_ray.state == "queued":
        given = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(on_ray.since))
        return RunStatus(folder.name, "queued", progress, f"given to Ray at {given}")
    record = last_record(folder)
    if (how := noted_end(folder)) is not None:
        return RunStatus(
            folder.name, "failed", progress, ": ".join(part for part in (how, _last_error(folder)) if part)
        )
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


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run is, from the last line about it in its log; None if it has none since it was last started."""
    text = _tail(folder)
    starts = list(_START.finditer(text))
    lines = _PROGRESS.findall(text[starts[-1].start() :] if starts else text)
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


def _read_queue(folders: Sequence[Path]) -> tuple[dict[Path, ListedRun], str]:
    """Return the runs in Slurm's queue, and a sentence if it could not be read though runs were submitted."""
    places = [place for place in places_of(folders) if path_exists(place)]
    if not places:
        return {}, ""
    if shutil.which("squeue") is None:
        return {}, "squeue is not on this machine: whether a run waits in Slurm's queue is not known"
    try:
        return Listing().read(places), ""
    except SlurmBusy as error:
        return {}, f"Slurm: {error}; whether a run waits in its queue is not known"


def _waits_for(reason: str, needs: str | None) -> str:
    """Return what a job in the queue waits for, in Slurm's word, or the run that it starts from."""
    return f"for {needs}" if reason == "Dependency" and needs else reason


def _owner(folder: Path) -> str:
    """Return process and host of a run from its lock."""
    path = folder / RUN_LOCK
    return name_of(path.read_text(encoding="utf-8", errors="replace")) if path_exists(path) else "starting"


def _last_error(folder: Path) -> str:
    """Return the last line of a run's log that names an error."""
    found = _ERROR.findall(_tail(folder))
    return found[-1].strip() if found else ""


def _tail(folder: Path) -> str:
    """Return the end of a run's log."""
    path = folder / LOG
    if not path_exists(path):
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace")
