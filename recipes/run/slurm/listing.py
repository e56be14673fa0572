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
    """Reads the queue, and knows which submissions its tasks belong to."""

    problems: list[str] | None = None
    """Takes a line about each submission that cannot be read, whose tasks are left out; None: that is an error."""
    _tasks: dict[Path, dict[int, Task]] = field(default_factory=dict)
    """Tasks of the submissions that were read."""
    _submissions: dict[tuple[str, Path], Path] = field(default_factory=dict)
    """Submissions by the name of a job and the place of a study's submissions; those that were not found may be seen later."""

    def read(self, places: Iterable[Path]) -> dict[Path, ListedRun]:
        """Return the tasks of the submissions in `places`, by the folders of their runs, without links.

        Of several tasks of a run the live one counts, then the one that was submitted last.

        Raise SlurmBusy if Slurm does not answer, UserError or OSError for a submission that cannot be read.
        """
        found: dict[Path, ListedRun] = {}
        places, absent = tuple(places), set[tuple[str, Path]]()
        for queued in sorted(read_queue(), key=lambda task: (task.is_live, int(task.array), task.index)):
            for place in places:
                submission = self._submission(queued, place, absent)
                if submission is not None and queued.index in self._tasks[submission]:
                    found[Path(self._tasks[submission][queued.index].folder)] = ListedRun(queued, submission)
        return found

    def _submission(self, queued: QueuedTask, place: Path, absent: set[tuple[str, Path]]) -> Path | None:
        """Return the submission of a queued task, with its tasks read; None if it belongs to no submission in `place`.

        `absent` has what was not found by this reading of the queue: each is looked for once.
        """
        key = queued.name, place
        if key not in self._submissions and key not in absent:
            submission = submission_of(queued, place)
            tasks = _tasks_of(submission, self.problems) if submission is not None else None
            if submission is not None and tasks is not None:
                self._submissions[key], self._tasks[submission] = submission, tasks
            else:
                absent.add(key)
        return self._submissions.get(key)


def places_of(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Return the places of the submissions of runs, each once."""
    return tuple(dict.fromkeys(place_of(folder) for folder in folders))


def last_tasks(places: Iterable[Path], problems: list[str]) -> dict[Path, tuple[Path, int]]:
    """Return the last task of each run that Slurm took, as its submission and index, by the folders of the runs, without links.

    A submission without the number of its job was not taken, unless a job has written about it: its study was killed meanwhile, or
    sbatch gave no answer. `problems` takes a line about each submission that cannot be read.
    """
    found: dict[Path, tuple[Path, int]] = {}
    for place in places:
        for submission in _by_age(place):
            was_taken = path_exists(submission / JOB)
            for index, task in (_tasks_of(submission, problems) or {}).items():
                if was_taken or path_exists(record_path(submission, index)):
                    found[Path(task.folder)] = submission, index
    return found


def _by_age(place: Path) -> list[Path]:
    """Return the submissions in a place, the oldest first."""
    written: dict[Path, int] = {}
    for entry in list_folder(place, "[0-9a-f]{8}"):
        with suppress(FileNotFoundError, NotADirectoryError):  # one that Slurm has refused meanwhile
            written[Path(entry.path)] = (Path(entry.path) / TASKS).stat().st_mtime_ns
    return sorted(written, key=written.__getitem__)


def _tasks_of(submission: Path, problems: list[str] | None) -> dict[int, Task] | None:
    """Return the tasks of a submission; None if it is missing, as one that Slurm has refused meanwhile.

    Of one that cannot be read, raise UserError or OSError, or return None and append a line to `problems`.
    """
    try:
        return read_tasks(submission)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (UserError, OSError) as error:
        if problems is None:
            raise
        problems.append(str(error))
        return None
