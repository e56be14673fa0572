"""Engine of a Slurm cluster: gives runs to sbatch as job arrays, and follows them by squeue and the runs' own results."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from common.errors import UserError
from common.locks import try_lock
from recipes.run.attempts import VISIBLE_SECONDS, is_folder_in_use
from recipes.run.engine import Job, JobEnd, TaskCommand
from recipes.run.slurm.following import FollowedJob
from recipes.run.slurm.held import describe_held
from recipes.run.slurm.listing import ListedRun, Listing, places_of
from recipes.run.slurm.programs import NoAnswer, QueuedTask, SlurmBusy, TooManyTasks, read_queue
from recipes.run.slurm.stopping import stop_jobs
from recipes.run.slurm.submissions import name_of, place_of
from recipes.run.slurm.submitter import Submitter
from recipes.run.states import read_state
from recipes.study.slurm_section import SlurmEntry

DEFAULT_JOBS = 1000
"""Default number of a study's runs in Slurm's queue at a time."""


class SlurmEngine:
    """Runs jobs on a cluster; at most `slots` of a study are in its queue at a time.

    A run that is in the queue already is followed, not submitted again. Results are those of the runs' folders, which the nodes
    share with this machine; no accounting database is asked.
    """

    has_queue = True

    def __init__(
        self,
        entry: SlurmEntry,
        command: TaskCommand,
        slots: int = DEFAULT_JOBS,
        *,
        poll_seconds: float = 10.0,
        visible_seconds: float = VISIBLE_SECONDS,
        print_line: Callable[[str], None] = print,
    ) -> None:
        """Take what jobs ask for; `visible_seconds` is how long a result, or an array that Slurm took, may take to be seen."""
        self.slots, self.submitter = slots, Submitter(entry, command)
        self.poll_seconds, self.visible_seconds, self.print_line = poll_seconds, visible_seconds, print_line
        self._followed: dict[Path, FollowedJob] = {}
        self._listing = Listing()
        self._read_at: float | None = None
        self._start_after = self._submit_after = 0.0
        """When jobs are started again, and when those that are not in the queue are."""
        self._said: set[type[SlurmBusy]] = set()
        """What was printed: that Slurm does not answer, that it takes no more jobs."""
        self._said_held: set[str] = set()
        """The reasons, which do not pass by themselves, that were printed."""
        self._has_answered = False

    def start(self, jobs: Iterable[Job]) -> list[tuple[Job, bool]]:
        """Submit jobs, or follow those that are in the queue; return those that were taken, with False for a folder in use."""
        now = time.monotonic()
        if now < self._start_after:
            return []
        taken: list[tuple[Job, bool]] = []
        new: list[Job] = []
        remaining = iter(jobs)
        try:
            queues = dict[Path, dict[Path, ListedRun]]()
            while len(self._followed) + len(new) < self.slots and (job := next(remaining, None)) is not None:
                place = place_of(job.folder)
                if place not in queues:
                    queues[place] = self.read([job.folder])
                if _is_live(job, queues[place]):
                    self._followed[job.folder] = FollowedJob(job)
                    taken.append((job, True))
                elif now < self._submit_after:
                    self._start_after = now + self.poll_seconds
                elif is_folder_in_use(job.folder):
                    taken.append((job, False))
                else:
                    new.append(job)
            submitted = self.submit(new)
            for job in submitted:
                self._followed[job.folder] = FollowedJob(job)
                taken.append((job, True))
            if len(submitted) < len(new) or not all(is_started for _, is_started in taken):
                self._start_after = time.monotonic() + self.poll_seconds
        except SlurmBusy as error:
            if not self._has_answered:
                raise UserError(f"--engine slurm: Slurm does not answer: {error}") from error
            self._say_busy(error)
            self._start_after = time.monotonic() + self.poll_seconds
        return taken

    def submit(self, jobs: Sequence[Job]) -> list[Job]:
        """Submit jobs that are not in the queue, as arrays of those that ask for the same; return those that Slurm took.

        Another process that submits runs of the same study is waited for. Jobs that are done or in the queue by then are not
        returned, nor are those that Slurm does not take for now.

        Raise SlurmBusy where Slurm takes none of the jobs for now.
        """
        submitted: list[Job] = []
        if not jobs:
            return submitted
        with self.locked([job.folder for job in jobs]) as queue:
            new = [job for job in jobs if not _is_live(job, queue) and read_state(job.folder) != "done"]
            try:
                for job, _ in self.submitter.submit(new):
                    submitted.append(job)
            except SlurmBusy as error:
                if isinstance(error, NoAnswer):  # the array may be listed later: its runs are not to be submitted twice
                    self._submit_after = time.monotonic() + self.visible_seconds
                if not submitted:
                    raise
                self._say_busy(error)
        return submitted

    @contextmanager
    def locked(self, folders: Sequence[Path]) -> Iterator[dict[Path, ListedRun]]:
        """Lock the submissions of the studies that have runs; yield the runs in the queue, to which no other process adds any.

        Raise SlurmBusy if Slurm does not answer.
        """
        with ExitStack() as stack:
            for place in sorted(places_of(folders)):  # in one order, so that two processes do not wait for each other
                place.mkdir(parents=True, exist_ok=True)
                stack.callback(os.close, _wait_for_lock(place / "lock"))
            yield self.read(folders)

    def read(self, folders: Iterable[Path]) -> dict[Path, ListedRun]:
        """Return the runs in Slurm's queue by their folders without links; raise SlurmBusy if it does not answer."""
        found = self._listing.read(places_of(folders))
        self._has_answered = True
        for listed in found.values():
            self.submitter.note_taken(listed.submission, listed.queued.array)
        return found

    def finished(self) -> list[JobEnd]:
        """Return the jobs that ended since the last call; Slurm is asked every `poll_seconds`."""
        now = time.monotonic()
        if not self._followed or (self._read_at is not None and now - self._read_at < self.poll_seconds):
            return []
        self._read_at = now
        try:
            queue = self.read(self._followed)
        except SlurmBusy as error:
            self._say_busy(error)
            return []
        self._said &= {TooManyTasks}
        looks = [(followed, queue.get(folder.resolve())) for folder, followed in self._followed.items()]
        ends = [end for followed, listed in looks if (end := self._look(followed, listed)) is not None]
        for end in ends:
            del self._followed[end.job.folder]
        self._say_held(listed.queued for _, listed in looks if listed is not None)
        return ends

    def _say_held(self, tasks: Iterable[QueuedTask]) -> None:
        """Print, once for each reason, which tasks wait for something that does not come by itself."""
        for reason, line in describe_held(tasks):
            if reason not in self._said_held:
                self.print_line(line)
                self._said_held.add(reason)

    def _look(self, followed: FollowedJob, listed: ListedRun | None) -> JobEnd | None:
        """Return the end of a job, or None while it is in the queue or is submitted again."""
        end = followed.look(listed, self.visible_seconds)
        if end is None or not end.is_lost:
            return JobEnd(followed.job, end.how) if end is not None else None
        self.print_line(f"{followed.job.folder.name}: {end.how}; submitted again")
        self._submit_again(followed)
        return None

    def _submit_again(self, followed: FollowedJob) -> None:
        """Submit a job whose run was lost. If Slurm does not take it, it counts as lost until it does."""
        try:
            self.submit([followed.job])
        except SlurmBusy as error:
            self._say_busy(error)
            followed.not_submitted()

    def stop(self, grace_seconds: float) -> None:
        """Stop the jobs that this process submitted, followed or not: waiting ones are cancelled, running ones save first.

        They have `grace_seconds` for that.
        """
        submitter = self.submitter
        try:
            if submitter.submissions:
                stop_jobs(self._own_jobs, grace_seconds, min(2.0, self.poll_seconds))
            queue = self.read(self._followed) if self._followed else {}
            left = [listed for job in self._followed if (listed := queue.get(job.resolve())) and listed.queued.is_live]
            if foreign := sum(listed.submission not in submitter.submissions for listed in left):
                self.print_line(
                    f"{foreign} runs that another process submitted stay in Slurm's queue; scancel removes them"
                )
        except SlurmBusy as error:
            self.print_line(f"Slurm does not answer ({error}); its jobs stay in the queue, and scancel removes them")
        except UserError as error:  # what it submitted is stopped; what else is in the queue is not known
            self.print_line(str(error))
        finally:
            self.print_unanswered()

    def print_unanswered(self) -> None:
        """Print how to remove the arrays that Slurm may still take: sbatch gave no answer."""
        for name in sorted(map(name_of, self.submitter.unanswered)):
            self.print_line(
                f"sbatch gave no answer: Slurm may still take an array; scancel --name={name} removes it then"
            )

    def _own_jobs(self) -> dict[str, str]:
        """Return Slurm's ids and states of the live tasks that this process submitted; they are known by their names alone."""
        own = {name_of(submission): submission for submission in self.submitter.submissions}
        tasks = [task for task in read_queue() if task.name in own]
        for task in tasks:
            self.submitter.note_taken(own[task.name], task.array)
        return {task.job: task.state for task in tasks if task.is_live}

    def _say_busy(self, error: SlurmBusy) -> None:
        """Print once that Slurm does not answer, or takes no more jobs for now; it is asked again."""
        kind = TooManyTasks if isinstance(error, TooManyTasks) else SlurmBusy
        is_unanswered = time.monotonic() < self._submit_after
        again = (
            f"in {self.visible_seconds:.0f} s if it has not taken them"
            if is_unanswered
            else f"every {self.poll_seconds:.0f} s"
        )
        if kind not in self._said:
            self.print_line(f"Slurm: {error}; trying again {again}")
        self._said.add(kind)


def _is_live(job: Job, queue: Mapping[Path, ListedRun]) -> bool:
    """Return whether a run is in Slurm's queue."""
    listed = queue.get(job.folder.resolve())
    return listed is not None and listed.queued.is_live


def _wait_for_lock(path: Path, seconds: float = 120.0) -> int:
    """Lock the submissions of a study and return the descriptor; raise UserError if another process holds them for long."""
    deadline = time.monotonic() + seconds
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise UserError(
                f"{path}: another process has been submitting runs of this study for {seconds:.0f} s. End it there."
            )
        time.sleep(0.2)
    return lock
