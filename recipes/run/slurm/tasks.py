"""Tasks of a submission: what a job needs to know about its run, and what became of it.

Read by every job on its node, so that it imports little.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from common.files import path_exists, write_atomic

TASKS = "tasks.json"
"""File of a submission with its tasks."""
JOB = "job.txt"
"""File of a submission with the number of its job, once Slurm has taken it."""

TaskState = Literal["started", "done", "interrupted", "stopped", "failed", "skipped"]
"""What became of a task. interrupted: saved, and to be started again; stopped: saved, because its study was stopped; skipped: the
run that it starts from diverged."""


@dataclass(frozen=True)
class Task:
    """A run in a submission: what a job needs to know about it."""

    folder: str
    """Absolute path of the run's folder, without links."""
    command: tuple[str, ...]
    needs: str | None
    """Absolute path of the folder of the run that it starts from."""
    nodes: int
    cpus_per_process: int
    on_cpu: bool
    """Whether its processes, of which there are several, use no GPU."""


@dataclass(frozen=True)
class TaskRecord:
    """What became of a task: written by its job, read by the study."""

    state: TaskState
    reason: str
    host: str
    job: str
    starts: int = 1
    """How often Slurm has started the job."""
    progress: tuple[str, ...] = ()
    """The newest checkpoint at each interruption."""


def read_tasks(submission: Path) -> dict[int, Task]:
    """Return the tasks of a submission by their indices.

    Raise UserError if its file is damaged, OSError if it cannot be read, such as FileNotFoundError if Slurm has refused the jobs.
    """
    path = submission / TASKS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        entries = enumerate(content) if isinstance(content, list) else content.items()  # a list: by an earlier version
        return {int(index): Task(**{**entry, "command": tuple(entry["command"])}) for index, entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: damaged ({error}). Cancel the job whose name ends in -{submission.name} with scancel, then delete"
            f" {submission}."
        ) from error


def record_path(submission: Path, index: int) -> Path:
    """Return the file that says what became of a task."""
    return submission / f"{index}.json"


def write_record(submission: Path, index: int, record: TaskRecord) -> None:
    """Write what became of a task."""
    write_atomic(record_path(submission, index), json.dumps(asdict(record)) + "\n")


def read_record(submission: Path, index: int) -> TaskRecord | None:
    """Return what became of a task, or None if its job has not started."""
    path = record_path(submission, index)
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path_exists(path) else None
        return TaskRecord(**{**content, "progress": tuple(content["progress"])}) if content is not None else None
    except (ValueError, TypeError, KeyError):
        return None  # the run's folder has what counts
