"""What executes the runs of a study: the protocol `Engine`, and the jobs that it gets."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from recipes.study.resources import Resources


@dataclass(frozen=True)
class Job:
    """A run to start: module and arguments of the stage, and the run's folder, which contains its log and lock."""

    module: str
    arguments: tuple[str, ...]
    folder: Path
    stage: str = ""
    """Name of the stage in the study: an engine may give each stage other resources."""
    needs: Path | None = None
    """Folder of the run that this one starts from."""


TaskCommand = Callable[[Job, Resources], list[str]]
"""(job, what it asks for) -> the command of the job on its node, or on each of its nodes."""


@dataclass(frozen=True)
class JobEnd:
    """A job that ended, and how, in words: `exit code 3`, `out of memory`. Whether its run is done is in its result.json."""

    job: Job
    how: str
    place: str = ""
    """Where it ran, such as the name of a node, if the engine has several."""


class Engine(Protocol):
    """Executes jobs, at most `slots` at a time."""

    slots: int
    """How many jobs it has at most at a time, running or waiting in a queue."""
    has_queue: bool
    """Whether jobs wait in a queue of unknown length, so that no remaining time can be estimated."""

    def start(self, jobs: Iterable[Job]) -> list[tuple[Job, bool]]:
        """Start jobs in their order while slots are free, and take no more of them.

        Return those that were taken: True if it runs or will, False if another process uses its folder.
        """

    def finished(self) -> list[JobEnd]:
        """Return the jobs that ended since the last call."""

    def stop(self, grace_seconds: float) -> None:
        """Stop every job: let it write a checkpoint within `grace_seconds`, then kill it."""
