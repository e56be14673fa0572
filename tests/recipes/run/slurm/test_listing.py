"""Submissions that are read while others are refused, damaged, or of an earlier version."""

import json
import shutil
from pathlib import Path

import pytest

from common.errors import UserError
from recipes.run.slurm import listing
from recipes.run.slurm.listing import Listing
from recipes.run.slurm.programs import QueuedTask
from recipes.run.slurm.tasks import JOB, TASKS, Task, read_tasks
from recipes.run.status import read_statuses

NAMES = ("0000000a", "0000000b", "0000000c")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the submissions of a study: three of one run each, which are in the queue."""
    place = tmp_path / "study" / "slurm"
    for name in NAMES:
        (tmp_path / "study" / "runs" / name).mkdir(parents=True)
        (place / name).mkdir(parents=True)
        (place / name / TASKS).write_text(json.dumps({"3": entry(place.parent, name)}))
        (place / name / JOB).write_text("12\n")
    queue = [QueuedTask(str(12 + at), 3, "PENDING", "None", "", "", f"study-{name}") for at, name in enumerate(NAMES)]
    monkeypatch.setattr(listing, "read_queue", lambda: queue)
    monkeypatch.setattr("recipes.run.status.shutil.which", lambda name: name)
    return place


def entry(study: Path, name: str) -> dict[str, object]:
    """Return a task as a submission has it."""
    folder = str(study / "runs" / name)
    return {"folder": folder, "command": ["a"], "needs": None, "nodes": 1, "cpus_per_process": 1, "on_cpu": False}


def names(found: dict[Path, object]) -> list[str]:
    """Return the names of the runs that were found."""
    return sorted(folder.name for folder in found)


def test_tasks_of_an_earlier_version_are_a_list(place: Path, tmp_path: Path) -> None:
    (place / NAMES[0] / TASKS).write_text(json.dumps([entry(place.parent, name) for name in NAMES]))
    tasks = read_tasks(place / NAMES[0])
    assert list(tasks) == [0, 1, 2]
    assert tasks[2] == Task(str(place.parent / "runs" / NAMES[2]), ("a",), None, 1, 1, False)


def test_a_submission_that_is_removed_before_it_is_looked_at_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = listing.path_exists

    def exists_for_the_last_time(path: Path) -> bool:
        answer = exists(path)
        shutil.rmtree(place / NAMES[1], ignore_errors=True)
        return answer

    monkeypatch.setattr(listing, "path_exists", exists_for_the_last_time)
    problems: list[str] = []
    assert names({**Listing(problems).last_tasks([place])}) == [NAMES[0], NAMES[2]] and problems == []


def test_a_submission_that_is_removed_before_it_is_read_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove_and_read(submission: Path) -> dict[int, Task]:
        shutil.rmtree(place / NAMES[1], ignore_errors=True)
        return read_tasks(submission)

    monkeypatch.setattr(listing, "read_tasks", remove_and_read)
    problems: list[str] = []
    assert names({**Listing(problems).last_tasks([place])}) == [NAMES[0], NAMES[2]] and problems == []
    assert names({**Listing().read([place])}) == [NAMES[0], NAMES[2]]


@pytest.mark.parametrize("content", ["", "[1]", '{"x": {}}', "7", '{"3": {"command": []}}'])
def test_a_damaged_submission_is_one_line_of_the_status(place: Path, tmp_path: Path, content: str) -> None:
    (place / NAMES[1] / TASKS).write_text(content)
    statuses, problem = read_statuses({place.parent / "runs" / name: None for name in NAMES})
    assert [status.state for status in statuses] == ["queued", "waiting", "queued"]
    assert problem.startswith(f"{place / NAMES[1] / TASKS}: damaged (") and "\n" not in problem
    assert f"Cancel the job whose name ends in -{NAMES[1]} with scancel" in problem


def test_the_queue_and_the_submissions_are_read_once_for_the_status(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def read_and_note(submission: Path) -> dict[int, Task]:
        read.append(submission.name)
        return read_tasks(submission)

    monkeypatch.setattr(listing, "read_tasks", read_and_note)
    statuses, _ = read_statuses({place.parent / "runs" / name: None for name in NAMES})
    assert [status.state for status in statuses] == ["queued"] * 3 and sorted(read) == list(NAMES)


@pytest.mark.parametrize(
    "name", ["other-0000000a", "a-study-0000000a", "0000000a", "study-", "study-0000000x", "study-.."]
)
def test_a_job_with_the_name_of_no_submission_of_the_study_is_not_looked_for(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(listing, "read_tasks", lambda submission: pytest.fail(f"{submission} is read"))
    monkeypatch.setattr(listing, "read_queue", lambda: [QueuedTask("12", 3, "PENDING", "None", "", "", name)])
    assert Listing().read([place]) == {}


def test_a_damaged_submission_in_the_queue_is_an_error_for_who_submits(place: Path) -> None:
    (place / NAMES[1] / TASKS).write_text("")
    with pytest.raises(UserError, match="damaged"):
        Listing().read([place])
