"""The Ray engine, with a fake Ray: order, failures, lost nodes, a study that is stopped or killed, runs that others started."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_ray import FakeRay, processes_of
from mini_slurm import wait_for

from recipes.result import read_result
from recipes.run.ray.capacity import Node
from recipes.run.ray.client import RayBusy
from recipes.run.ray.engine import RayEngine
from recipes.run.ray.tasks import read_record
from recipes.run.runner import StudyOutcome, StudyRunner, job_of
from recipes.run.states import lock_run_folder, read_state
from recipes.study.plan import Plan, PlannedRun
from recipes.study.ray_section import RayEntry
from recipes.study.resources import Resources

SetBehavior = Callable[..., list[str]]


class Study:
    """Runs of the fake stage, a fake Ray, and the printed lines."""

    def __init__(self, runs: list[PlannedRun], folder: Path, client: FakeRay, stage: Path) -> None:
        self.runs, self.folder, self.client, self.stage = runs, folder, client, stage
        self.lines: list[str] = []

    def engine(self, slots: int = 1000, **keys: Any) -> RayEngine:
        """Return an engine; `keys` are those of the section ray."""
        return RayEngine(
            RayEntry(**keys),
            lambda job, _: [sys.executable, "-S", str(self.stage), job.module, *job.arguments],
            self.client,
            slots,
            poll_seconds=0.05,
            visible_seconds=0.5,
            print_line=self.lines.append,
        )

    def run(self, slots: int = 1000, **keys: Any) -> StudyOutcome:
        """Run them; return the outcome."""
        self.lines.clear()
        return self._run(self.engine(slots, **keys))

    def start(self, **keys: Any) -> threading.Thread:
        """Run them in a thread."""
        engine = self.engine(**keys)
        thread = threading.Thread(target=self._run, args=(engine, False), daemon=True)
        thread.start()
        return thread

    def _run(self, engine: RayEngine, has_signals: bool = True) -> StudyOutcome:
        runner = StudyRunner(self.runs, self.folder, engine, self.lines.append, "test_top1", 0.02)
        if not has_signals:
            runner._handle_signals = _no_signals  # type: ignore[method-assign]
        return runner.run()

    def sleeping(self) -> tuple[str, Path]:
        """Wait until a run sleeps; return the name of its actor and its folder."""
        wait_for(lambda: list(self.folder.glob("*/started")), "nothing sleeps", 60)
        (folder,) = [path.parent for path in self.folder.glob("*/started")]
        (name,) = [name for name in self.client.names() if name.startswith(folder.name)]
        return name, folder

    def is_done(self) -> bool:
        """Return whether all runs are done."""
        return all(read_state(self.folder / run.id) == "done" for run in self.runs)


class _no_signals:
    """Handle no signals: a thread cannot."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def study(plan: Plan, tmp_path: Path) -> Iterator[Study]:
    """Return six runs: a pre-training, its four fine-tunings, and one training from scratch."""
    runs = [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]
    client = FakeRay(tmp_path / "ray")
    yield Study(runs, tmp_path / "study" / "runs", client, tmp_path / "fake_stage.py")
    client.shutdown()


def test_everything_runs_once_and_a_line_names_the_node(study: Study, fake_stage: SetBehavior) -> None:
    assert study.run().exit_code == 0
    assert sorted(fake_stage()) == sorted(run.id for run in study.runs)
    assert study.is_done() and not study.client.names()
    lines = [line for line in study.lines if "finished" in line]
    assert len(lines) == 6 and all("  on n" in line for line in lines)
    assert study.run().exit_code == 0 and len(fake_stage()) == 6  # what is done is not given to Ray


def test_a_run_folder_has_the_same_files_as_on_this_machine(
    study: Study, fake_stage: SetBehavior, slots: Callable[[int], object]
) -> None:
    study.run()
    local = study.folder.parent.parent / "local" / "runs"
    StudyRunner(study.runs, local, slots(2), lambda line: None, "test_top1", 0.01).run()  # type: ignore[arg-type]
    for run in study.runs:
        there, here = study.folder / run.id, local / run.id
        assert {path.name for path in there.iterdir()} == {path.name for path in here.iterdir()}


def test_a_failed_run_is_reported_with_exit_code_and_node_and_the_others_continue(
    study: Study, fake_stage: SetBehavior
) -> None:
    fake_stage(**{"TST-fraction0.5": "fail"})
    outcome = study.run()
    assert outcome.exit_code == 1 and len(outcome.failed) == 1
    (line,) = [line for line in study.lines if "FAILED" in line]
    assert "exit code 3  on n" in line
    assert "the last line of a failing run" in "\n".join(study.lines)
    fake_stage()
    assert study.run().exit_code == 0 and len(fake_stage()) == 7


def test_divergence_is_a_result_and_runs_that_need_it_are_skipped(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="diverge")
    outcome = study.run()
    assert outcome.exit_code == 0 and len(outcome.skipped) == 4 and len(fake_stage()) == 2


def test_a_run_whose_node_is_lost_resumes_on_another(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    name, folder = study.sleeping()
    (folder / "checkpoint").write_text("saved")
    study.client.lose(name)
    thread.join(120)
    assert study.is_done() and len(fake_stage()) == 7
    assert any(folder.name in line and ", start 2" in line for line in study.lines)


def test_a_run_whose_worker_alone_is_lost_saves_before_it_resumes(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    name, folder = study.sleeping()
    study.client.lose(
        name, with_run=False
    )  # its guard sends SIGTERM; the lock keeps the next start away until it has ended
    thread.join(120)
    assert study.is_done() and len(fake_stage()) == 7
    assert (folder / "checkpoint").read_text() == "saved"


def test_a_run_that_ray_forgets_is_started_again(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    name, folder = study.sleeping()
    (folder / "checkpoint").write_text("saved")
    study.client.lose(name, is_forgotten=True)
    thread.join(120)
    assert study.is_done() and len(fake_stage()) == 7
    assert any("its actor is gone" in line for line in study.lines)


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_run_that_is_lost_again_and_again_without_a_checkpoint_fails(
    study: Study, fake_stage: SetBehavior, is_forgotten: bool
) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start(retries=1)
    for _ in range(2):
        name, folder = study.sleeping()
        (folder / "started").unlink()
        study.client.lose(name, is_forgotten=is_forgotten)
    thread.join(120)
    (line,) = [line for line in study.lines if "FAILED" in line]
    assert "lost" in line and "2 times in a row without a new checkpoint" in line
    assert not study.client.names()


def test_a_run_that_is_lost_with_new_checkpoints_is_started_again(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start(retries=1)
    for number in range(4):
        name, folder = study.sleeping()
        (folder / "checkpoints" / f"step-{number}").mkdir(parents=True)
        (folder / "started").unlink()
        if number == 3:
            (folder / "checkpoint").write_text("saved")  # with it the fake stage does not sleep
        study.client.lose(name)
    thread.join(120)
    assert study.is_done() and len(fake_stage()) == 10


def test_a_stopped_study_saves_its_runs_and_removes_what_waits(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    stopper = threading.Thread(target=lambda: (study.sleeping(), os.kill(os.getpid(), signal.SIGTERM)))
    stopper.start()
    outcome = study.run()
    stopper.join()
    assert outcome.exit_code == 128 + signal.SIGTERM
    assert not study.client.names()
    (folder,) = [path.parent for path in study.folder.glob("*/started")]
    result, record = read_result(folder), read_record(folder)
    assert result is not None and result.status == "interrupted"
    assert record is not None and record.state == "stopped"
    assert study.run().exit_code == 0 and study.is_done()


def test_a_second_study_process_follows_what_the_first_has_started(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    first = study.start()
    _, folder = study.sleeping()
    second = study.start()
    time.sleep(0.3)
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)  # saves, and is started again there
    first.join(120), second.join(120)
    assert study.is_done() and len(fake_stage()) == 7


def test_a_run_that_this_machine_works_on_is_waited_for(study: Study, fake_stage: SetBehavior) -> None:
    lock = lock_run_folder(study.folder / study.runs[0].id)
    assert lock is not None
    thread = study.start()
    wait_for(lambda: any("in use by another process" in line for line in study.lines), "not waited for", 60)
    assert study.runs[0].id not in fake_stage()
    os.close(lock)
    thread.join(120)
    assert study.is_done()


def test_an_actor_that_finds_its_folder_in_use_waits(study: Study, fake_stage: SetBehavior) -> None:
    job = job_of(study.runs[0], study.folder)
    engine = study.engine()
    lock = lock_run_folder(job.folder)
    assert lock is not None
    task = engine._task(job, Resources())
    (study.folder.parent / "ray").mkdir()
    study.client.submit(task, Resources())
    time.sleep(0.5)
    assert fake_stage() == [] and study.client.names() == {task.name}
    os.close(lock)
    wait_for(lambda: not study.client.names(), "does not end", 60)
    assert fake_stage() == [job.folder.name]


def test_a_ray_that_does_not_answer_is_asked_again(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    _, folder = study.sleeping()
    study.client.is_silent = True
    wait_for(lambda: any("no answer; trying again" in line for line in study.lines), "no warning", 60)
    time.sleep(0.3)
    study.client.is_silent = False
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)
    thread.join(120)
    assert study.is_done()
    assert len([line for line in study.lines if "no answer" in line]) == 1


def test_an_actor_that_cannot_begin_is_a_failed_run_with_the_reason(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    thread = study.start()
    name, _ = study.sleeping()
    study.client.problems[name] = "RuntimeError: n2: sees no /clone."
    study.client.lose(name, is_forgotten=True)
    thread.join(120)
    (line,) = [line for line in study.lines if "FAILED" in line]
    assert "n2: sees no /clone" in line


def test_resources_that_no_node_has_are_said_once(study: Study, fake_stage: SetBehavior) -> None:
    study.run(gpus_per_node=8, processes_per_node=1)
    (line,) = [line for line in study.lines if "8 GPUs" in line]
    assert line == "no node of Ray has 1 CPU with 8 GPUs now: runs that ask for it wait until one joins"
    assert study.client.questions == 2  # with the first two runs, and with the four that start from one of them


def test_no_process_is_left(study: Study, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="sleep")
    engine = study.engine()
    pretraining = next(run for run in study.runs if run.stage == "pretrain")
    engine.start([job_of(pretraining, study.folder)])
    _, folder = study.sleeping()
    engine.stop(0.0)
    wait_for(lambda: not processes_of(folder), "processes are left", 60)
    assert read_state(folder) != "running"


def test_a_ray_that_does_not_say_what_its_nodes_have_is_asked_again_and_said_once(
    study: Study, fake_stage: SetBehavior, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_stage(pretrain="sleep")
    known = study.client.nodes

    def fail() -> list[Node]:
        raise RayBusy("no answer about nodes")

    monkeypatch.setattr(study.client, "nodes", fail)
    thread = study.start(gpus_per_node=8, processes_per_node=1)
    _, folder = study.sleeping()
    time.sleep(0.5)
    assert len([line for line in study.lines if "no answer about nodes" in line]) == 1
    monkeypatch.setattr(study.client, "nodes", known)
    wait_for(lambda: any("8 GPUs" in line for line in study.lines), "not said", 60)
    os.kill(int((folder / "started").read_text()), signal.SIGTERM)
    thread.join(120)
    assert study.is_done() and len(fake_stage()) == 7
