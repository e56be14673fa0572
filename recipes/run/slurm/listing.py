"""Which runs are in Slurm's queue: its tasks by the folders of their runs."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import UserError
from common.files import list_folder, path_exists
from recipes.run.slurm.programs import QueuedTask, read_queue
from recipes.run.slurm.submissions import place_of, submission_of
from recipes.run.slurm.tasks import JOB, TASKS, Task, TaskRecord, read_record, read_tasks, record_path


@dataclass(frozen=True)
class ListedRun:
    """A task in Slurm's queue, or one that has just ended, with the submission that it belongs to."""

    queued: QueuedTask
    submission: Path

    def record(self) -> TaskRecord | None:
        """Return what its job wrote about it."""
        return read_record(self.submission, self.queued.index)


@dataclass
class Listing:
    """Reads the queue and the submissions, each of these once, and knows which submissions the queue's tasks belong to."""

    problems: list[str] | None = None
    """Takes a line about each submission that cannot be read, whose tasks are left out; None: that is an error."""
    _tasks: dict[Path, dict[int, Task]] = field(default_factory=dict)
    """Tasks of the submissions that were read, none of those that cannot be; those that were missing may be seen later."""

    def read(self, places: Iterable[Path]) -> dict[Path, ListedRun]:
        """Return the tasks of the submissions in `places`, by the folders of their runs, without links.

        Of several tasks of a run the live one counts, then the one that was submitted last.

        Raise SlurmBusy if Slurm does not answer, UserError or OSError for a submission that cannot be read.
        """
        found: dict[Path, ListedRun] = {}
        places, tasks = tuple(places), dict[Path, dict[int, Task]]()
        for queued in sorted(read_queue(), key=lambda task: (task.is_live, int(task.array), task.index)):
            for submission in filter(None, (submission_of(queued, place) for place in places)):
                if submission not in tasks:
                    tasks[submission] = self._tasks_of(submission)
                if (task := tasks[submission].get(queued.index)) is not None:
                    found[Path(task.folder)] = ListedRun(queued, submission)
        return found

    def last_tasks(self, places: Iterable[Path]) -> dict[Path, tuple[Path, int]]:
        """Return the last task of each run that Slurm took, as its submission and index, by the runs' folders without links.

        A submission without the number of its job was not taken, unless a job has written about it: its study was killed meanwhile,
        or sbatch gave no answer.

        Raise UserError or OSError for a submission that cannot be read.
        """
        found: dict[Path, tuple[Path, int]] = {}
        for place in places:
            for submission in _by_age(place):
                was_taken = path_exists(submission / JOB)
                for index, task in self._tasks_of(submission).items():
                    if was_taken or path_exists(record_path(submission, index)):
                        found[Path(task.folder)] = submission, index
        return found

    def _tasks_of(self, submission: Path) -> dict[int, Task]:
        """Return the tasks of a submission; none if it is missing, as one that Slurm has refused meanwhile, or cannot be read."""
        if submission not in self._tasks:
            try:
                self._tasks[submission] = read_tasks(submission)
            except (FileNotFoundError, NotADirectoryError):
                return {}
            except (UserError, OSError) as error:
                if self.problems is None:
                    raise
                self.problems.append(str(error))
                self._tasks[submission] = {}
        return self._tasks[submission]


def places_of(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the places of the submissions of runs, each once."""
    return tuple(dict.fromkeys(place_of(folder) for folder in folders))


def _by_age(place: Path) -> list[Path]:
    """Return the submissions in a place, the oldest first."""
    written: dict[Path, int] = {}
    for entry in list_folder(place, "[0-9a-f]{8}"):
        with suppress(FileNotFoundError, NotADirectoryError):  # one that Slurm has refused meanwhile
            written[Path(entry.path)] = (Path(entry.path) / TASKS).stat().st_mtime_ns
    return sorted(written, key=written.__getitem__)
