"""Submissions that sbatch refuses or gives no answer about: arrays that Slurm takes late are known, followed and stopped."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from mini_slurm import wait_for

from common.errors import UserError
from recipes.run.engine import Job
from recipes.run.runner import StudyRunner, job_of
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.listing import Listing
from recipes.run.slurm.programs import QueuedTask
from recipes.run.slurm.tasks import JOB, TASKS
from recipes.run.states import read_state
from recipes.study.plan import Plan, PlannedRun

SetBehavior = Callable[..., list[str]]
BuildEngine = Callable[..., SlurmEngine]
ReplaceProgram = Callable[[str, str], str]

TIMED_OUT = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
SILENT = f"#!/bin/sh\necho '{TIMED_OUT}' >&2\nexit 1\n"
LIVE = {"PENDING", "RUNNING", "COMPLETING"}


@pytest.fixture
def runs(plan: Plan) -> list[PlannedRun]:
    """Return six runs: a pre-training, its four fine-tunings, and one training from scratch."""
    return [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the runs."""
    return tmp_path / "study" / "runs"


@pytest.fixture
def jobs(plan: Plan, folder: Path) -> list[Job]:
    """Return the jobs of six pre-trainings."""
    return [job_of(run, folder) for run in plan.select("fraction0.1") if run.stage == "pretrain"]


def submissions(folder: Path) -> list[Path]:
    """Return the submissions of a study."""
    return sorted((folder.parent / "slurm").glob("*/"))


def run_all(runs: list[PlannedRun], folder: Path, engine: SlurmEngine) -> list[str]:
    """Run a study until everything is done; return the printed lines."""
    lines: list[str] = []
    engine.print_line = lines.append
    assert StudyRunner(runs, folder, engine, lines.append, "test_top1", 0.02).run().exit_code == 0
    assert all(read_state(folder / run.id) == "done" for run in runs)
    return lines


def late(sbatch: str, seconds: float) -> str:
    """Return an sbatch that gives no answer, and whose array is in the queue only some seconds later."""
    background = sbatch.replace("exec ", f"(sleep {seconds}; ").rstrip() + ") >/dev/null 2>&1 &\n"
    return f"{background}echo '{TIMED_OUT}' >&2\nexit 1\n"


def states(slurm: FakeSlurm) -> set[str]:
    """Return the states of all tasks."""
    return {task["state"] for task in slurm.tasks().values()}


def test_jobs_that_slurm_took_without_an_answer_are_followed(
    runs: list[PlannedRun],
    folder: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    replace_program: ReplaceProgram,
) -> None:
    sbatch = replace_program("sbatch", SILENT)
    replace_program("sbatch", sbatch.replace("exec ", "") + f"echo '{TIMED_OUT}' >&2\nexit 1\n")
    run_all(runs, folder, cluster())
    assert len(fake_stage()) == len(fake_slurm.tasks()) == 6
    assert all((submission / JOB).is_file() for submission in submissions(folder))


def test_jobs_that_slurm_takes_after_sbatch_gave_up_are_followed_and_not_submitted_again(
    runs: list[PlannedRun],
    folder: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    replace_program: ReplaceProgram,
) -> None:
    replace_program("sbatch", late(replace_program("sbatch", SILENT), 1.0))
    run_all(runs, folder, cluster())
    assert len(fake_stage()) == len(fake_slurm.tasks()) == 6
    assert states(fake_slurm) == {"COMPLETED"}
    arrays = {task["array"] for task in fake_slurm.tasks().values()}
    assert {(submission / JOB).read_text().strip() for submission in submissions(folder)} == arrays


def test_a_stopped_study_cancels_what_slurm_has_taken_late(
    jobs: list[Job],
    folder: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    replace_program: ReplaceProgram,
) -> None:
    fake_stage(pretrain="sleep")
    engine, lines = cluster(), list[str]()
    engine.print_line = lines.append
    replace_program("sbatch", late(replace_program("sbatch", SILENT), 1.0))
    assert engine.start(jobs) == []
    wait_for(lambda: len(list(folder.glob("*/started"))) == 4, "not on each of four nodes")
    engine.stop(60)
    assert len(fake_slurm.tasks()) == 6 and not states(fake_slurm) & LIVE
    assert len(lines) == 1 and lines[0].startswith("Slurm: ")  # nothing is left to be cancelled by hand


def test_a_stopped_study_names_what_slurm_may_still_take(
    jobs: list[Job], folder: Path, fake_slurm: FakeSlurm, cluster: BuildEngine, replace_program: ReplaceProgram
) -> None:
    engine, lines = cluster(), list[str]()
    engine.print_line = lines.append
    replace_program("sbatch", SILENT)
    assert engine.start(jobs) == []
    engine.stop(60)
    assert "trying again in 5 s if it has not taken them" in lines[0]
    (submission,) = submissions(folder)
    assert f"scancel --name=study-{submission.name} removes it" in lines[-1]


def test_a_refusal_of_a_later_array_does_not_leave_the_earlier_ones(
    jobs: list[Job],
    folder: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    replace_program: ReplaceProgram,
    tmp_path: Path,
) -> None:
    fake_stage(pretrain="sleep")
    fake_slurm.limit(array_size=4)
    marker, refusal = tmp_path / "taken", "echo 'sbatch: error: Invalid account' >&2; exit 1"
    working = replace_program("sbatch", SILENT).replace("exec ", f"[ -e {marker} ] && {{ {refusal}; }}\n")
    replace_program("sbatch", f"{working.rstrip()} && touch {marker}\n")
    engine = cluster()
    with pytest.raises(UserError, match="Invalid account"):
        engine.start(jobs)
    assert len(fake_slurm.tasks()) == 3
    engine.stop(60)
    assert not states(fake_slurm) & LIVE


def test_a_damaged_submission_ends_a_study_whose_jobs_are_stopped(
    jobs: list[Job], folder: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    fake_stage(pretrain="sleep")
    cluster().submit(jobs[:1])
    (damaged,) = submissions(folder)
    engine, lines = cluster(), list[str]()
    engine.print_line = lines.append
    engine.start(jobs[1:])
    (damaged / TASKS).write_text("")
    engine._listing = Listing()
    with pytest.raises(UserError, match="damaged"):
        engine.finished()
    engine.stop(60)
    assert "damaged" in lines[-1]
    assert {name for name, task in fake_slurm.tasks().items() if task["state"] in LIVE} <= {"1_0"}


def test_a_stopped_study_leaves_what_another_process_submitted(
    jobs: list[Job], folder: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    fake_stage(pretrain="sleep")
    cluster().submit(jobs[:2])
    engine, lines = cluster(), list[str]()
    engine.print_line = lines.append
    assert len(engine.start(jobs)) == 6
    engine.stop(60)
    assert lines == ["2 runs that another process submitted stay in Slurm's queue; scancel removes them"]
    assert {name for name, task in fake_slurm.tasks().items() if task["state"] in LIVE} == {"1_0", "1_1"}


@pytest.mark.parametrize(
    ("message", "left"), [("Unable to contact slurm controller", 0), ("Socket timed out on send/recv operation", 1)]
)
def test_an_attempt_leaves_a_submission_only_if_slurm_may_have_taken_it(
    runs: list[PlannedRun],
    folder: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    replace_program: ReplaceProgram,
    message: str,
    left: int,
) -> None:
    working = replace_program("sbatch", f"#!/bin/sh\necho 'sbatch: error: {message}' >&2\nexit 1\n")
    engine = cluster()
    for _ in range(3):
        assert engine.start([job_of(runs[0], folder)]) == []
        time.sleep(0.2)
    assert len(submissions(folder)) == left
    replace_program("sbatch", working)
    run_all(runs, folder, engine)
    assert len([submission for submission in submissions(folder) if not (submission / JOB).exists()]) == left


def test_a_submission_that_is_seen_late_is_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    queued = QueuedTask("12", 0, "PENDING", "Priority", "", "1:00", "study-0000000a")
    monkeypatch.setattr("recipes.run.slurm.listing.read_queue", lambda: [queued])
    listing, place = Listing(), tmp_path / "study" / "slurm"
    assert listing.read([place]) == {}
    submission = place / "0000000a"
    submission.mkdir(parents=True)
    task = '{"folder": "/runs/a", "command": [], "needs": null, "nodes": 1, "cpus_per_process": 1, "on_cpu": false}'
    (submission / TASKS).write_text(f'{{"0": {task}}}')
    assert listing.read([place])[Path("/runs/a")].submission == submission
