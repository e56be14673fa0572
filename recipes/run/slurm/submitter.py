"""Gives jobs to Slurm: those that ask for the same are one array, or several where it takes no larger ones."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from recipes.run.engine import Job, TaskCommand
from recipes.run.slurm.array_sizes import ArraySizes
from recipes.run.slurm.programs import NoAnswer
from recipes.run.slurm.submissions import new_submission, place_of, submit_tasks, write_job, write_task
from recipes.study.resources import Resources, resources_of
from recipes.study.slurm_section import SlurmEntry

IndexedJob = tuple[int | None, Job]
"""A job and its index in the array; None: its place there."""


class Submitter:
    """Submits jobs of a study; whether they are in the queue already is known to its caller."""

    def __init__(self, entry: SlurmEntry, command: TaskCommand) -> None:
        """Take what jobs ask for, and what builds their commands."""
        self.entry, self.command = entry, command
        self.submissions: set[Path] = set()
        """Every submission that was tried, whatever Slurm said about it."""
        self.unanswered: set[Path] = set()
        """Those that Slurm may have taken, or may take later."""
        self._sizes = ArraySizes()

    def submit(self, jobs: Sequence[Job], after: Mapping[Job, str] = MappingProxyType({})) -> Iterator[tuple[Job, str]]:
        """Submit jobs; yield each with its id in Slurm, `<array>_<index>`, as it is submitted.

        `after` has the ids of jobs in the queue: a job starts once the one that it has there has succeeded. Raise SlurmBusy where
        Slurm takes no more jobs for now, or does not answer.
        """
        groups: dict[tuple[Path, Resources], list[Job]] = {}
        for job in jobs:
            groups.setdefault((place_of(job.folder), resources_of(self.entry, job.stage)), []).append(job)
        for (place, resources), alike in groups.items():
            for dependency, array in divide(alike, after):
                yield from self._submit_array(array, place, resources, dependency)

    def _submit_array(
        self, jobs: Sequence[IndexedJob], place: Path, resources: Resources, dependency: str
    ) -> Iterator[tuple[Job, str]]:
        """Submit jobs that may be one array; yield each with its id in Slurm."""

        def submit_part(part: Sequence[IndexedJob]) -> str:
            """Submit a part of them as one array; return its id."""
            jobs = _by_index(part).items()
            tasks = {index: write_task(job, self.command(job, resources), resources) for index, job in jobs}
            submission = new_submission(place)
            self.submissions.add(submission)
            try:
                return submit_tasks(submission, tasks, resources, self.entry, dependency)
            except NoAnswer:
                self.unanswered.add(submission)
                raise

        for array, part in self._sizes.submit(jobs, submit_part):
            yield from ((job, f"{array}_{index}") for index, job in _by_index(part).items())

    def note_taken(self, submission: Path, array: str) -> None:
        """Note that a submission is in Slurm's queue as `array`: that answers what sbatch did not."""
        if submission in self.unanswered:
            write_job(submission, array)
            self.unanswered.remove(submission)


def divide(jobs: Sequence[Job], after: Mapping[Job, str]) -> Iterator[tuple[str, list[IndexedJob]]]:
    """Yield the arrays of jobs that ask for the same, each as what it waits for, an option --dependency or nothing, and its jobs.

    Jobs that start after tasks of one array are an array for each task (`afterok`), or arrays of one job for each task, with the
    tasks' indices (`aftercorr`): whichever are fewer.
    """
    if free := [job for job in jobs if job not in after]:
        yield "", [(None, job) for job in free]
    arrays: dict[str, dict[int, list[Job]]] = {}
    for job in jobs:
        if job in after:
            array, _, index = after[job].partition("_")
            arrays.setdefault(array, {}).setdefault(int(index), []).append(job)
    for array, by_task in arrays.items():
        most = max(map(len, by_task.values()))
        if most < len(by_task):
            for number in range(most):
                column = [(task, own[number]) for task, own in sorted(by_task.items()) if number < len(own)]
                yield f"aftercorr:{array}", [*column]
        else:
            for task, own in by_task.items():
                yield f"afterok:{array}_{task}", [(None, job) for job in own]


def _by_index(part: Sequence[IndexedJob]) -> dict[int, Job]:
    """Return the jobs of an array by their indices."""
    return {place if index is None else index: job for place, (index, job) in enumerate(part)}
