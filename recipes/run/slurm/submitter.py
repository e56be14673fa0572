"""Gives jobs to Slurm: those that ask for the same are one array, or several where it takes no larger ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from recipes.run.engine import Job, TaskCommand
from recipes.run.slurm.array_sizes import ArraySizes
from recipes.run.slurm.submissions import place_of, submit_tasks, write_task
from recipes.study.resources import Resources, resources_of
from recipes.study.slurm_section import SlurmEntry


class Submitter:
    """Submits jobs of a study; whether they are in the queue already is known to its caller."""

    def __init__(self, entry: SlurmEntry, command: TaskCommand) -> None:
        """Take what jobs ask for, and what builds their commands."""
        self.entry, self.command = entry, command
        self._sizes = ArraySizes()

    def submit(self, jobs: Sequence[Job], after: str | None = None) -> Iterator[tuple[Job, str]]:
        """Submit jobs, which start once the job `after` has succeeded; yield each with its id in Slurm as it is submitted.

        Raise SlurmBusy where Slurm takes no more jobs for now, or does not answer.
        """
        groups: dict[tuple[Path, Resources], list[Job]] = {}
        for job in jobs:
            groups.setdefault((place_of(job.folder), resources_of(self.entry, job.stage)), []).append(job)
        for (place, resources), alike in groups.items():
            yield from self._submit_alike(alike, place, resources, after)

    def _submit_alike(
        self, jobs: Sequence[Job], place: Path, resources: Resources, after: str | None
    ) -> Iterator[tuple[Job, str]]:
        """Submit jobs of one place that ask for the same; yield each with its id in Slurm."""

        def submit_array(part: Sequence[Job]) -> str:
            tasks = [write_task(job, self.command(job, resources), resources) for job in part]
            return submit_tasks(place, tasks, resources, self.entry, after)

        for array, part in self._sizes.submit(jobs, submit_array):
            yield from ((job, f"{array}_{index}") for index, job in enumerate(part))
