"""Tasks: what a node needs to know about a run, and the record `<study>/ray/<run>.json` of what became of it.

Read on every node, so that it imports little.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from common.files import path_exists, write_atomic

FOLDER = "ray"
"""Folder of the records in that of the study."""

TaskState = Literal["queued", "started", "done", "stopped", "failed"]
"""queued: given to Ray; started: a node works on it, or was lost meanwhile; stopped: saved, because its study was stopped."""


@dataclass(frozen=True)
class Task:
    """A run, as a node gets it: plain values, which Ray carries without this repository's modules."""

    folder: str
    """Absolute path of the run's folder, without links."""
    command: tuple[str, ...]
    directory: str
    """Working directory of the command."""
    environment: Mapping[str, str]
    """All environment variables of the command but those by which Ray gives it GPUs."""
    needs: str | None
    """Absolute path of the folder of the run that it starts from."""
    gpus: int
    retries: int
    """How often in a row a run that was lost is started again at the same checkpoint."""

    @property
    def name(self) -> str:
        """Return the name of the run's actor in Ray, the same for all studies that share the run's folder."""
        return f"{Path(self.folder).name}-{hashlib.sha256(self.folder.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class TaskRecord:
    """What became of a task: written by the study when it gives it to Ray, then by its node."""

    state: TaskState
    reason: str = ""
    node: str = ""
    """Name of the node that works or worked on it."""
    since: float = 0.0
    """When the state began, in seconds since 1970."""
    starts: int = 0
    """How often it was started since it was given to Ray."""
    lost_at: tuple[str, ...] = ()
    """The newest checkpoint each time that it was lost or interrupted."""


def place_of(folder: Path) -> Path:
    """Return where the records of a run are: in the study that has its folder, even if another one links to it."""
    return folder.resolve().parent.parent / FOLDER


def record_path(folder: Path) -> Path:
    """Return the file that says what became of a run's task."""
    return place_of(folder) / f"{folder.resolve().name}.json"


def write_record(folder: Path, record: TaskRecord) -> None:
    """Write what became of a run's task."""
    write_atomic(record_path(folder), json.dumps(asdict(record)) + "\n", concurrent_writers=True)


def read_record(folder: Path) -> TaskRecord | None:
    """Return what became of a run's task, or None if it was not given to Ray, or its record is damaged."""
    path = record_path(folder)
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path_exists(path) else None
        return TaskRecord(**{**content, "lost_at": tuple(content["lost_at"])}) if content is not None else None
    except (ValueError, TypeError, KeyError):
        return None  # the run's folder has what counts
