"""Engine of a Ray cluster: gives each run to a detached actor, and follows it by the actor's name and the run's own files."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from common.locks import try_lock
from recipes.result import read_result
from recipes.run.attempts import VISIBLE_SECONDS, is_folder_in_use, is_stuck, newest_checkpoint
from recipes.run.engine import Job, JobEnd, TaskCommand
from recipes.run.environment import run_environment
from recipes.run.ray.capacity import lacking
from recipes.run.ray.client import RayBusy, RayClient
from recipes.run.ray.tasks import Task, TaskRecord, place_of, read_record, record_path, write_record
from recipes.study.ray_section import RayEntry
from recipes.study.resources import Resources, resources_of

DEFAULT_JOBS = 1000
"""Default number of a study's runs in Ray at a time, waiting or running."""
_KILLED_SECONDS = 10.0
"""Longest wait for actors that were killed to be gone."""


@dataclass
class _Followed:
    """A job that Ray has."""

    job: Job
    task: Task
    is_own: bool
    """Whether this process stops it: it created the actor, or found it and no other process of the study is alive."""
    gone_since: float | None = None
    """When its actor was first missing without an end of the run."""


class RayEngine:
    """Runs jobs on a Ray cluster; at most `slots` of a study are in it at a time.

    A run that has an actor already is followed, not started again: the actor outlives the study's process, with its resources.
    """

    has_queue = True

    def __init__(
        self,
        entry: RayEntry,
        command: TaskCommand,
        client: RayClient,
        slots: int = DEFAULT_JOBS,
        *,
        poll_seconds: float = 1.0,
        visible_seconds: float = VISIBLE_SECONDS,
        print_line: Callable[[str], None] = print,
    ) -> None:
        """Take what runs ask for; `visible_seconds` is how long a node's files may take to be seen on this machine."""
        self.entry, self.command, self.client, self.slots = entry, command, client, slots
        self.poll_seconds, self.visible_seconds, self.print_line = poll_seconds, visible_seconds, print_line
        self._followed: dict[Path, _Followed] = {}
        self._places: dict[Path, int] = {}
        """Locks of the places of records: who holds one stops the runs that a killed process has left."""
        self._looked_at = 0.0
        self._start_after = 0.0
        self._is_silent = False
        self._asked_for: dict[Resources, None] = {}
        """What actors ask for that were created since the nodes were last read."""
        self._lacking: set[str] = set()
        """What was printed that no node has."""

    def start(self, jobs: Iterable[Job]) -> list[tuple[Job, bool]]:
        """Give jobs to Ray, or follow those that it has; return those that were taken, with False for a folder in use."""
        taken: list[tuple[Job, bool]] = []
        if time.monotonic() < self._start_after:
            return taken
        names: set[str] | None = None
        remaining = iter(jobs)
        try:
            while len(self._followed) < self.slots and (job := next(remaining, None)) is not None:
                names = self.client.names() if names is None else names
                taken.append((job, self._start(job, names)))
            self._say_lacking()
            if not all(is_started for _, is_started in taken):
                self._start_after = time.monotonic() + self.poll_seconds
        except RayBusy as error:
            self._say_silent(error)
            self._start_after = time.monotonic() + self.poll_seconds
        return taken

    def _start(self, job: Job, names: set[str]) -> bool:
        """Create the actor of a job, or follow the one that there is; return False if another process uses its folder."""
        resources = resources_of(self.entry, job.stage)
        task = self._task(job, resources)
        has_actor = task.name in names
        if not has_actor:
            if is_folder_in_use(job.folder):
                return False
            has_actor = not self._submit(task, resources, ())
        self._followed[job.folder] = _Followed(job, task, not has_actor or self._holds_place(job.folder))
        return True

    def _submit(self, task: Task, resources: Resources, lost_at: tuple[str, ...]) -> bool:
        """Create an actor; return False if another process of the study was first."""
        folder = Path(task.folder)
        place_of(folder).mkdir(parents=True, exist_ok=True)
        self._holds_place(folder)
        write_record(folder, TaskRecord("queued", since=time.time(), lost_at=lost_at))
        is_created = self.client.submit(task, resources)
        self._asked_for[resources] = None
        return is_created

    def _say_lacking(self) -> None:
        """Print, once for each, what no node has of what the new actors ask for; raise RayBusy if Ray does not answer."""
        nodes = self.client.nodes() if self._asked_for else []
        for words in filter(None, (lacking(resources, nodes) for resources in self._asked_for)):
            if words not in self._lacking:
                self.print_line(f"no node of Ray has {words} now: runs that ask for it wait until one joins")
            self._lacking.add(words)
        self._asked_for.clear()

    def _task(self, job: Job, resources: Resources) -> Task:
        """Return the task of a job."""
        return Task(
            folder=str(job.folder.resolve()),
            command=tuple(self.command(job, resources)),
            directory=str(Path.cwd()),
            environment=task_environment(resources),
            needs=str(job.needs.resolve()) if job.needs is not None else None,
            gpus=resources.gpus_per_node,
            retries=self.entry.retries,
        )

    def finished(self) -> list[JobEnd]:
        """Return the jobs that ended since the last call; Ray is asked every `poll_seconds`."""
        now = time.monotonic()
        if not self._followed or now - self._looked_at < self.poll_seconds:
            return []
        self._looked_at = now
        ends = []
        try:
            names = self.client.names()
            for followed in list(self._followed.values()):
                if followed.task.name in names:
                    followed.gone_since = None
                elif (end := self._look(followed)) is not None:
                    del self._followed[followed.job.folder]
                    ends.append(end)
            self._say_lacking()
            self._is_silent = False
        except RayBusy as error:
            self._say_silent(error)
        return ends

    def _look(self, followed: _Followed) -> JobEnd | None:
        """Return the end of a job whose actor is gone; None while its files may not be visible here, or if it is started again."""
        now, folder, retries = time.monotonic(), followed.job.folder, self.entry.retries
        result, record = read_result(folder), read_record(folder)
        place = _place(record)
        if result is not None and result.is_final:
            return JobEnd(followed.job, "done", place)
        if record is not None and record.state == "failed":
            return JobEnd(followed.job, record.reason, place)
        if problem := self.client.problem(followed.task.name):
            return JobEnd(followed.job, problem)
        followed.gone_since = followed.gone_since or now
        is_stopped = record is not None and record.state == "stopped"  # by another process of the study
        if not is_stopped and now - followed.gone_since < self.visible_seconds:
            return None
        lost_at = record.lost_at if record is not None else ()
        if not is_stopped:
            lost_at = (*lost_at, newest_checkpoint(folder))
            if is_stuck(lost_at, retries):
                how = f"its actor was lost, {retries + 1} times in a row without a new checkpoint"
                return JobEnd(followed.job, how, place)
        self.print_line(
            f"{folder.name}: its actor {'was stopped' if is_stopped else 'is gone'}{place and f' on {place}'}; again"
        )
        followed.is_own = self._submit(followed.task, resources_of(self.entry, followed.job.stage), lost_at)
        followed.gone_since = None
        return None

    def stop(self, grace_seconds: float) -> None:
        """Stop the jobs of this study: those that wait are removed, those that run save within `grace_seconds`."""
        own = {
            each.task.name: each
            for each in self._followed.values()
            if each.is_own or self._holds_place(each.job.folder)
        }
        if foreign := len(self._followed) - len(own):
            self.print_line(f"{foreign} runs stay in Ray, for the other process that runs the study")
        try:
            for name, followed in own.items():
                record = read_record(followed.job.folder)
                if record is not None and record.state == "queued":
                    self.client.kill(name)
                    record_path(followed.job.folder).unlink(missing_ok=True)
                else:
                    self.client.stop(name, grace_seconds)
            if left := self._wait_until_gone(own.keys(), grace_seconds + _KILLED_SECONDS):
                for name in left:
                    self.client.kill(name)
                self._wait_until_gone(left, _KILLED_SECONDS)
        except RayBusy as error:
            self.print_line(f"Ray does not answer ({error}); its actors stay, and the same command follows them")

    def _wait_until_gone(self, names: Iterable[str], seconds: float) -> set[str]:
        """Wait until actors have ended; return those that have not within a time."""
        deadline = time.monotonic() + seconds
        while (left := set(names) & self.client.names()) and time.monotonic() < deadline:
            time.sleep(min(0.2, self.poll_seconds))
        return left

    def _holds_place(self, folder: Path) -> bool:
        """Return whether this process holds the lock of a run's place of records, and take it if it is free."""
        place = place_of(folder)
        if place not in self._places:
            place.mkdir(parents=True, exist_ok=True)
            if (lock := try_lock(place / "lock")) is None:
                return False
            self._places[place] = lock
        return True

    def _say_silent(self, error: RayBusy) -> None:
        """Print once that Ray does not answer; it is asked again."""
        if not self._is_silent:
            self.print_line(f"Ray: {error}; trying again every {self.poll_seconds:.0f} s")
        self._is_silent = True


def task_environment(resources: Resources) -> dict[str, str]:
    """Return the environment variables of a run: those of this process but Ray's own and the choice of this machine's GPUs."""
    here = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    here = {name: value for name, value in here.items() if not name.endswith("VISIBLE_DEVICES")}
    on_cpu = {"ACCELERATE_USE_CPU": "true"} if resources.is_on_cpu else {}
    return {**here, **run_environment(resources.cpus_per_process), **on_cpu}


def _place(record: TaskRecord | None) -> str:
    """Return where a run was, in words: its node, and how often it was started if that is not once."""
    if record is None or not record.node:
        return ""
    return record.node + (f", start {record.starts}" if record.starts > 1 else "")
