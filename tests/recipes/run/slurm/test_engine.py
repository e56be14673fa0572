"""The Slurm engine, with a fake Slurm: order, failures, lost jobs, the time limit, stopping, and runs that others submitted."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm
from mini_slurm import wait_for

from common.errors import UserError
from recipes.result import read_result
from recipes.run.runner import StudyOutcome, StudyRunner
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.states import lock_run_folder, read_state
from recipes.study.plan import Plan, PlannedRun

SetBehavior = Callable[..., list[str]]
BuildEngine = Callable[..., SlurmEngine]


class Study:
    """Runs that use the fake stage on a fake cluster, and the printed lines."""

    def __init__(self, runs: list[PlannedRun], folder: Path, cluster: BuildEngine) -> None:
        self.runs, self.folder, self.cluster, self.lines = runs, folder, cluster, list[str]()

    def run(self, slots: int = 1000) -> StudyOutcome:
        """Run them; return the outcome."""
        self.lines.clear()
        engine = self.cluster(slots)
        engine.print_line = self.lines.append
        return StudyRunner(self.runs, self.folder, engine, self.lines.append, "test_top1", 0.02).run()

    def start(self) -> threading.Thread:
        """Run them in a thread."""
        thread = threading.Thread(target=self._run_without_signals, daemon=True)
        thread.start()
        return thread

    def _run_without_signals(self) -> None:
        engine = self.cluster()
        engine.print_line = self.lines.append
        runner = StudyRunner(self.runs, self.folder, engine, self.lines.append, "test_top1", 0.02)
        while (runner.pending or runner.start_times) and runner.outcome.signal_number is None:
            runner._start_ready()
            for end in engine.finished():
                runner._finish(end)
            time.sleep(0.02)

    def is_done(self) -> bool:
        """Return whether all are done."""
        return all(read_state(self.folder / run.id) == "done" for run in self.runs)


@pytest.fixture
def study(plan: Plan, tmp_path: Path, cluster: BuildEngine) -> Study:
    """Return six runs: a pre-training, its four fine-tunings, and one training from scratch."""
    runs = [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]
    return Study(runs, tmp_path / "study" / "runs", cluster)


def sleeping_task(slurm: FakeSlurm, study: Study) -> str:
    """Wait until a sleeping run has started; return the id of its task, the last one where it was submitted several times."""
    wait_for(lambda: any(path.read_text() for path in study.folder.glob("*/started")), "no run started")
    name = next(path.parent.name for path in study.folder.glob("*/started"))
    (task,) = (
        key
        for key, entry in slurm.tasks().items()
        if entry["state"] == "RUNNING" and Path(_task_of(study, entry)["folder"]).name == name
    )
    return task


def _task_of(study: Study, entry: dict[str, Any]) -> dict[str, Any]:
    """Return what the study has written about a task of Slurm's."""
    (submission,) = (path for path in (study.folder.parent / "slurm").iterdir() if entry["name"].endswith(path.name))
    task: dict[str, Any] = json.loads((submission / "tasks.json").read_text())[str(entry["index"])]
    return task


def test_everything_runs_once_in_arrays_of_runs_that_are_alike(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    assert study.run().exit_code == 0
    assert sorted(fake_stage()) == sorted(run.id for run in study.runs)
    assert study.is_done()
    assert study.lines[-1].startswith("[6/6] finished")
    arrays = [task["array"] for task in fake_slurm.tasks().values()]
    assert sorted(map(arrays.count, set(arrays))) == [2, 4]  # the fine-tunings start together
    assert {task["state"] for task in fake_slurm.tasks().values()} == {"COMPLETED"}


def test_a_run_folder_has_the_same_files_as_on_this_machine(
    study: Study, fake_stage: SetBehavior, slots: Callable[[int], object], tmp_path: Path
) -> None:
    study.run()
    StudyRunner(study.runs, tmp_path / "local" / "runs", slots(2), lambda line: None, "test_top1", 0.01).run()  # type: ignore[arg-type]
    for run in study.runs:
        there, here = study.folder / run.id, tmp_path / "local" / "runs" / run.id
        assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}


def test_no_more_runs_than_slots_are_in_the_queue(study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm) -> None:
    assert study.run(slots=1).exit_code == 0
    assert len({task["array"] for task in fake_slurm.tasks().values()}) == 6


def test_what_is_done_is_not_submitted(study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm) -> None:
    study.run()
    before = fake_slurm.tasks().keys()
    assert study.run().exit_code == 0
    assert fake_slurm.tasks().keys() == before


def test_a_failed_run_is_reported_with_its_exit_code_and_the_others_continue(
    study: Study, fake_stage: SetBehavior
) -> None:
    fake_stage(**{"TST-fraction0.5": "fail"})
    outcome = study.run()
    assert outcome.exit_code == 1 and len(outcome.failed) == 1
    (line,) = [line for line in study.lines if "FAILED" in line]
    assert "exit code 3" in line
    assert "the last line of a failing run" in "\n".join(study.lines)
    assert len(fake_stage()) == 6
    assert study.run().exit_code == 0
    assert len(fake_stage()) == 7


def test_divergence_is_a_result_and_runs_that_need_it_are_skipped(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="diverge")
    outcome = study.run()
    assert outcome.exit_code == 0 and len(outcome.skipped) == 4
    assert len(fake_stage()) == 2


def test_a_run_that_reaches_its_time_limit_saves_is_requeued_and_resumes(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    task = sleeping_task(fake_slurm, study)
    fake_slurm.warn(task)
    thread.join(240)
    assert study.is_done()
    assert fake_slurm.tasks()[task]["starts"] == 2 and fake_slurm.tasks()[task]["state"] == "COMPLETED"
    assert len(fake_stage()) == 7


def test_every_task_of_an_array_requeues_itself_alone(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    """The last one, too, whose id is that of the array."""
    fake_stage(TST="sleep")
    thread = study.start()
    wait_for(lambda: len([path for path in study.folder.glob("*/started") if path.read_text()]) == 4, "not all started")
    tasks = [name for name, task in fake_slurm.tasks().items() if task["state"] == "RUNNING"]
    for name in sorted(tasks, reverse=True):
        fake_slurm.warn(name)
        wait_for(lambda: fake_slurm.tasks()[name]["state"] == "COMPLETED", "not resumed")  # noqa: B023
    thread.join(240)
    assert study.is_done()
    assert [fake_slurm.tasks()[name]["starts"] for name in tasks] == [2, 2, 2, 2]


@pytest.mark.parametrize("is_requeued", [True, False])
def test_a_run_whose_node_is_lost_resumes(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm, is_requeued: bool
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    task = sleeping_task(fake_slurm, study)
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    (folder / "checkpoint").write_text("saved")
    fake_slurm.lose(task, again=is_requeued)
    thread.join(240)
    assert study.is_done()
    assert len(fake_stage()) == 7
    assert ("node_fail" in "\n".join(study.lines)) is not is_requeued


def test_a_run_that_slurm_ends_again_and_again_without_a_checkpoint_fails(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    for _ in range(4):
        task = sleeping_task(fake_slurm, study)
        for path in study.folder.glob("*/started"):
            path.unlink()  # the next start writes it again
        fake_slurm.lose(task, "TIMEOUT")
    thread.join(240)
    (line,) = [line for line in study.lines if "FAILED" in line]
    assert "(timeout), 4 times without a new checkpoint" in line


def test_a_job_that_its_user_cancels_is_a_failed_run(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    os.system(f"scancel {sleeping_task(fake_slurm, study)}")
    thread.join(240)
    assert "Slurm ended its job: cancelled" in "\n".join(study.lines)
    assert len(fake_stage()) == 2


def test_a_stopped_study_saves_its_runs_and_cancels_what_waits(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    stopper = threading.Thread(target=lambda: (sleeping_task(fake_slurm, study), os.kill(os.getpid(), signal.SIGTERM)))
    stopper.start()
    outcome = study.run()
    stopper.join()
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert not {task["state"] for task in fake_slurm.tasks().values()} & {"PENDING", "RUNNING"}
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    result = read_result(folder)
    assert result is not None and result.status == "interrupted"
    assert study.run().exit_code == 0
    assert study.is_done()


def test_a_run_that_another_study_runner_has_submitted_is_followed(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    first = study.start()
    sleeping_task(fake_slurm, study)
    second = study.start()
    time.sleep(0.5)
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)  # saves; its job requeues itself
    first.join(240), second.join(240)
    assert study.is_done()
    assert len(fake_slurm.tasks()) == 6
    assert len(fake_stage()) == 7


def test_a_run_that_this_machine_works_on_is_waited_for(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    lock = lock_run_folder(study.folder / study.runs[0].id)
    assert lock is not None
    thread = study.start()
    wait_for(lambda: any("in use by another process" in line for line in study.lines), "not waited for")
    assert not any(study.runs[0].id in name for name in fake_stage())
    os.close(lock)
    thread.join(240)
    assert study.is_done()


def test_a_job_that_finds_its_folder_in_use_waits_and_one_that_finds_it_done_ends(
    study: Study, fake_stage: SetBehavior, cluster: BuildEngine, fake_slurm: FakeSlurm
) -> None:
    from recipes.run.runner import job_of

    job = job_of(study.runs[0], study.folder)
    lock = lock_run_folder(job.folder)
    assert lock is not None
    engine = cluster()
    engine.submit([job])
    output = study.folder.parent / "slurm"
    wait_for(lambda: any("waiting for it" in path.read_text() for path in output.glob("*/0.txt")), "does not wait")
    (job.folder / "result.json").write_text(
        '{"status": "finished", "reason": "", "step": 7, "metrics": {}, "seconds": 0.1, "images": 70, "images_per_second": 700,'
        ' "parameters": 5, "train_images": 10, "num_processes": 1}'
    )
    os.close(lock)
    wait_for(lambda: {task["state"] for task in fake_slurm.tasks().values()} == {"COMPLETED"}, "does not end")
    assert fake_stage() == []


def test_a_controller_that_does_not_answer_is_asked_again(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm, replace_program: Callable[[str, str], str]
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    sleeping_task(fake_slurm, study)
    working = replace_program(
        "squeue", "#!/bin/sh\necho 'slurm_load_jobs error: Unable to contact slurm controller' >&2\nexit 1\n"
    )
    wait_for(lambda: any("Unable to contact" in line for line in study.lines), "no warning")
    replace_program("squeue", working)
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)
    thread.join(240)
    assert study.is_done()
    assert len([line for line in study.lines if "Unable to contact" in line]) == 1


def test_a_refusal_says_what_was_asked_for_and_leaves_no_submission(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    message = "sbatch: error: CPU count per node can not be satisfied"
    (fake_slurm.folder / "sbatch").write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    with pytest.raises(UserError, match=f"{message}. Asked for: .*--cpus-per-task=1. Change the study's section slurm"):
        study.run()
    assert not any((study.folder.parent / "slurm").glob("*/"))


def submissions(study: Study) -> list[Path]:
    """Return the folders of submissions."""
    return sorted((study.folder.parent / "slurm").glob("*/"))


def test_what_a_limit_of_submitted_jobs_does_not_allow_is_submitted_later(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_stage(pretrain="sleep")
    fake_slurm.limit(submitted=1)
    thread = study.start()
    sleeping_task(fake_slurm, study)
    wait_for(lambda: any("Slurm: " in line for line in study.lines), "nothing is refused")
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)  # saves; its job requeues itself
    thread.join(240)
    assert study.is_done() and len(fake_stage()) == 7
    arrays = [task["array"] for task in fake_slurm.tasks().values()]
    assert len(arrays) == len(set(arrays)) == 6
    (line,) = [line for line in study.lines if "Slurm: " in line]
    assert "QOSMaxSubmitJobPerUserLimit" in line
    assert len(submissions(study)) == len(set(arrays))  # what was refused has left no folder


def test_arrays_are_as_large_as_the_cluster_has_them(
    study: Study, fake_stage: SetBehavior, fake_slurm: FakeSlurm
) -> None:
    fake_slurm.limit(array_size=3)
    assert study.run().exit_code == 0
    arrays = [task["array"] for task in fake_slurm.tasks().values()]
    assert len(arrays) == 6 and max(map(arrays.count, arrays)) == 2
    assert not any("Slurm: " in line for line in study.lines) and len(submissions(study)) == len(set(arrays))
