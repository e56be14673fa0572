"""Status of the runs of a study: where they are, how far, and why they failed."""

import io
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recipes.run.slurm.listing import ListedRun, Listing
from recipes.run.slurm.programs import QueuedTask
from recipes.run.slurm.tasks import JOB, TASKS, TaskRecord, write_record
from recipes.run.states import lock_run_folder, log_tail, note_end
from recipes.run.status import print_status, read_statuses, status_of
from recipes.study.plan import Plan, PlannedRun
from recipes.study.stored_plan import write_plan

LOG = """$ python -m pretrain
step 136 of 476, 540 images/s, 40 s left: loss 4.205
$ python -m pretrain
step 272 of 476, 537 images/s, 24 s left: loss 3.716
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run that has logged 272 steps."""
    place = tmp_path / "runs" / "pretrain-1"
    place.mkdir(parents=True)
    (place / "log.txt").write_text(LOG)
    return place


def queued(folder: Path, state: str, reason: str = "None") -> dict[Path, ListedRun]:
    """Return a queue with the run."""
    task = QueuedTask("12", 3, state, reason, "n1" if state == "RUNNING" else "", "1:00", "study-00000000")
    return {folder.resolve(): ListedRun(task, folder)}


def test_progress_is_that_since_the_last_start(folder: Path) -> None:
    progress = status_of(folder, None, {}).progress
    assert progress is not None and (progress.step, progress.steps, progress.images_per_second) == (272, 476, 537)
    with (folder / "log.txt").open("a") as log:
        log.write("$ python -m pretrain\n")
    assert status_of(folder, None, {}).progress is None


def test_a_run_in_the_queue_has_its_node_or_what_it_waits_for(folder: Path) -> None:
    status = status_of(folder, None, queued(folder, "RUNNING"))
    assert (status.state, status.detail) == ("running", "on n1, job 12_3, running")
    status = status_of(folder, "pretrain-0", queued(folder, "PENDING", "Priority"))
    assert (status.state, status.detail) == ("queued", "job 12_3 waits: Priority")
    status = status_of(folder, "pretrain-0", queued(folder, "PENDING", "Dependency"))
    assert status.detail == "job 12_3 waits: for pretrain-0"


def test_a_run_on_this_machine_is_running_where_its_lock_says(folder: Path) -> None:
    lock = lock_run_folder(folder)
    assert lock is not None
    (folder / "run.lock").write_text("process 7 on here, boot 1, id 2, beat 000000000003\n")
    status = status_of(folder, None, {})
    assert (status.state, status.detail) == ("running", "process 7 on here")
    os.close(lock)
    assert status_of(folder, None, {}).state == "interrupted"


def test_a_failed_run_has_its_exit_code_and_its_error_until_it_is_started_again(folder: Path) -> None:
    with (folder / "log.txt").open("a") as log:
        log.write("error: data.source = nowhere: no such folder\n")
    note_end(folder, "exit code 2")
    status = status_of(folder, None, {})
    assert (status.state, status.detail) == ("failed", "exit code 2: error: data.source = nowhere: no such folder")
    with (folder / "log.txt").open("a") as log:
        log.write("$ python -m pretrain\n")
    assert status_of(folder, None, {}).state != "failed"


def test_an_error_before_the_last_start_is_none_of_it(folder: Path) -> None:
    with (folder / "log.txt").open("a") as log:
        log.write("error: of an earlier start\n$ python -m pretrain\nstarted\n")
    note_end(folder, "killed by SIGKILL")
    assert status_of(folder, None, {}).detail == "killed by SIGKILL"
    assert log_tail(folder) == "    $ python -m pretrain\n    started\n    # failed: killed by SIGKILL"


def test_of_a_long_log_only_whole_lines_of_its_end_are_read(folder: Path) -> None:
    begin, failed = "ValueError: in the middle of a line\n", "# failed: exit code 1\n"
    rest = begin + "x" * (2**16 - len(begin) - len(failed) - 1) + "\n" + failed
    (folder / "log.txt").write_text(f"$ python -m pretrain\nafter a {rest}")
    assert status_of(folder, None, {}).detail == "exit code 1"
    assert len(log_tail(folder)) < 2**16


def submit(folder: Path, number: int, names: list[str]) -> Path:
    """Write a submission of runs to a study's folder as the engine does; return it."""
    submission = folder / "slurm" / f"{number:08x}"
    submission.mkdir(parents=True)
    task = {"command": ["python"], "needs": None, "nodes": 1, "cpus_per_process": 1, "on_cpu": False}
    tasks = {index: {"folder": str(folder.resolve() / "runs" / name), **task} for index, name in enumerate(names)}
    (submission / TASKS).write_text(json.dumps(tasks))
    (submission / JOB).write_text(f"{number}\n")
    os.utime(submission / TASKS, (number, number))
    return submission


def test_what_became_of_a_run_is_what_its_last_job_wrote(tmp_path: Path, folder: Path) -> None:
    write_record(submit(tmp_path, 1, ["other", folder.name]), 1, TaskRecord("failed", "of the first job", "n1", "7"))
    second = submit(tmp_path, 2, [folder.name])
    assert (
        status_of(folder, None, {}, Listing().last_tasks([tmp_path / "slurm"])).state == "interrupted"
    )  # it has not started
    (second / JOB).unlink()  # Slurm has not taken it
    assert status_of(folder, None, {}, Listing().last_tasks([tmp_path / "slurm"])).detail == "of the first job"
    write_record(second, 0, TaskRecord("failed", "of the second job", "n1", "8"))
    assert status_of(folder, None, {}, Listing().last_tasks([tmp_path / "slurm"])).detail == "of the second job"


def test_the_status_of_a_thousand_runs_reads_each_log_and_each_submission_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"pretrain-{number:04}" for number in range(1000)]
    for name in names:
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "log.txt").write_text(LOG)
    for number in range(20):
        submit(tmp_path, number, names[50 * number : 50 * number + 50])
    opened, original = Counter[str](), io.open

    def count(file: Any, *words: Any, **options: Any) -> Any:
        opened[os.fspath(file)] += 1
        return original(file, *words, **options)

    monkeypatch.setattr(io, "open", count)
    monkeypatch.setattr("recipes.run.status.shutil.which", lambda _: None)
    statuses, _ = read_statuses({tmp_path / "runs" / name: None for name in names})
    assert Counter(status.state for status in statuses) == {"interrupted": 1000}
    assert max(opened.values()) == 1 and len(opened) == len(names) + 20


def test_the_status_of_a_study_has_a_line_for_every_run(
    plan: Plan, study_folder: Path, run_of: Callable[..., PlannedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    pretraining = run_of("pretrain", stem="conv", seed="0")
    finetuning = run_of("finetune", stem="conv", seed="0", training="TST", fraction="0.1")
    for run in (pretraining, finetuning):
        place = study_folder / "runs" / run.id
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()
    write_plan(plan, study_folder)
    assert print_status(study_folder) == 0
    printed = capsys.readouterr().out
    assert f"for {pretraining.id}" in printed and "54 runs: 52 done, 2 waiting" in printed
