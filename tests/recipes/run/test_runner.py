"""Runner of a plan: order, failures, statuses, locks, signals, and resuming after a kill."""

import fcntl
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from recipes.result import read_result
from recipes.run.engines import LocalSlots
from recipes.run.runner import StudyOutcome, StudyRunner, format_duration
from recipes.run.states import lock_run_folder, read_state
from recipes.study.plan import Plan, PlannedRun

SetBehavior = Callable[..., list[str]]
Slots = Callable[[int], LocalSlots]


@pytest.fixture
def small(plan: Plan) -> list[PlannedRun]:
    """Return six runs: a pre-training, its four fine-tunings, and one training from scratch."""
    selected = [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]
    assert [run.stage for run in selected] == ["pretrain"] + 5 * ["finetune"]
    return selected


class Running:
    """Runs that use the fake stage, and the printed lines."""

    def __init__(self, runs: list[PlannedRun], folder: Path, slots: Slots) -> None:
        self.runs, self.folder, self.slots, self.lines = runs, folder, slots, list[str]()

    def run(self, jobs: int = 2) -> StudyOutcome:
        """Run them; return the outcome."""
        self.lines.clear()
        return StudyRunner(self.runs, self.folder, self.slots(jobs), self.lines.append, "test_top1", 0.01).run()

    def line_with(self, part: str) -> str:
        """Return the only line that contains `part`."""
        (line,) = [line for line in self.lines if part in line]
        return line


@pytest.fixture
def running(small: list[PlannedRun], tmp_path: Path, slots: Slots) -> Running:
    """Return the six runs with the fake stage."""
    return Running(small, tmp_path / "runs", slots)


def test_everything_runs_once_and_first_stages_come_first(running: Running, fake_stage: SetBehavior) -> None:
    outcome = running.run()
    assert outcome.exit_code == 0
    assert sorted(fake_stage()) == sorted(run.id for run in running.runs)
    assert all(read_state(running.folder / run.id) == "done" for run in running.runs)
    assert running.lines[0] == "6 runs: 0 done, 6 remaining, 2 at a time"
    assert len([line for line in running.lines if line.startswith("[")]) == 6
    assert running.lines[-1].startswith("[6/6] finished")
    assert "test_top1 90.0" in running.lines[-1]


def test_remaining_time_is_known_from_the_first_finished_run_on(running: Running, fake_stage: SetBehavior) -> None:
    running.runs = [replace(run, macs=1e6) for run in running.runs]
    running.run()
    left = [line for line in running.lines if "left)" in line]
    assert len(left) == 5 and not [line for line in left if "unknown time" in line]


def test_split_of_the_accuracy_of_a_pretraining_is_named(
    running: Running, fake_stage: SetBehavior, tmp_path: Path
) -> None:
    script = tmp_path / "fake_stage.py"
    script.write_text(script.read_text().replace('"test_top1": 90.0', '"knn_top1": 95.3'))
    running.run()
    assert "validation knn_top1 95.3" in running.line_with("] finished  pretrain")


def test_what_is_done_is_not_repeated(running: Running, fake_stage: SetBehavior) -> None:
    running.run()
    before = fake_stage()
    assert running.run().exit_code == 0
    assert fake_stage() == before
    assert running.lines == ["6 runs: 6 done, 0 remaining, 2 at a time"]


def test_a_failed_run_is_reported_with_the_end_of_its_log_and_the_others_continue(
    running: Running, fake_stage: SetBehavior
) -> None:
    fake_stage(**{"TST-fraction0.5": "fail"})
    outcome = running.run()
    assert outcome.exit_code == 1
    assert len(outcome.failed) == 1
    assert len(fake_stage()) == 6
    assert "exit code 3" in running.line_with("FAILED")
    assert "the last line of a failing run" in "\n".join(running.lines)
    fake_stage()
    assert running.run().exit_code == 0
    assert len(fake_stage()) == 7


def test_runs_that_need_a_failed_run_are_skipped(running: Running, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="fail")
    outcome = running.run()
    assert outcome.exit_code == 1
    assert len(outcome.skipped) == 4
    assert len(fake_stage()) == 2


def test_divergence_is_a_result_and_runs_that_need_it_are_skipped(running: Running, fake_stage: SetBehavior) -> None:
    fake_stage(pretrain="diverge")
    outcome = running.run()
    assert outcome.exit_code == 0
    assert len(outcome.skipped) == 4
    assert "at step 7: the loss was nan" in running.line_with("] diverged ")
    assert len([line for line in running.lines if "no weights to start from" in line]) == 4
    assert running.run().exit_code == 0
    assert len(fake_stage()) == 2  # a diverged run is not repeated


def test_an_interrupted_run_is_resumed(running: Running, fake_stage: SetBehavior) -> None:
    fake_stage(**{"TST-fraction0.5": "sleep"})
    stopper = threading.Thread(target=_stop_when_started, args=(running.folder,))
    stopper.start()
    outcome = running.run()
    stopper.join()
    assert outcome.exit_code == 128 + signal.SIGTERM
    (interrupted,) = [path.parent for path in running.folder.glob("*/started")]
    assert read_state(interrupted) == "interrupted"
    result = read_result(interrupted)
    assert result is not None
    assert result.reason == "stopped by SIGTERM"
    done = [run.id for run in running.runs if read_state(running.folder / run.id) == "done"]
    before = fake_stage()
    assert running.run().exit_code == 0
    assert not set(done) & set(fake_stage()[len(before) :])
    assert interrupted.name in fake_stage()[len(before) :]


def _stop_when_started(folder: Path) -> None:
    """Send SIGTERM to this process as soon as a sleeping run has started."""
    _wait_for_start(folder)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_start(folder: Path) -> Path:
    """Wait until a sleeping run has started; return the file that it wrote."""
    deadline = time.monotonic() + 20
    while not (found := [path for path in folder.glob("*/started") if path.read_text()]):
        assert time.monotonic() < deadline, "no run started"
        time.sleep(0.01)
    return found[0]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_signals_that_stop_a_run_stop_a_study(running: Running, number: int) -> None:
    runner = StudyRunner(running.runs, running.folder, LocalSlots(1, lambda job: []), running.lines.append, "test_top1")
    with runner._handle_signals():
        os.kill(os.getpid(), number)
    assert runner.outcome.exit_code == 128 + number


def test_signal_handlers_are_restored_after_a_study(running: Running, fake_stage: SetBehavior) -> None:
    before = signal.getsignal(signal.SIGINT)
    running.run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_killed_study_resumes_and_repeats_nothing(running: Running, fake_stage: SetBehavior) -> None:
    fake_stage(**{"TST-fraction0.5": "sleep"})
    process = multiprocessing.get_context("fork").Process(target=running.run)
    process.start()
    started = _wait_for_start(running.folder)
    process.kill()
    process.join()
    assert read_state(started.parent) == "running"  # the orphan still runs
    os.kill(int(started.read_text()), signal.SIGTERM)
    done = [run.id for run in running.runs if read_state(running.folder / run.id) == "done"]
    before = fake_stage()
    assert started.parent.name in before
    assert running.run().exit_code == 0
    assert not set(done) & set(fake_stage()[len(before) :])
    assert all(read_state(running.folder / run.id) == "done" for run in running.runs)


def test_a_folder_that_another_process_uses_is_waited_for(running: Running, fake_stage: SetBehavior) -> None:
    run = running.runs[0]
    code = (
        "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
        "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); time.sleep(0.5)"
    )
    lock = str(_lock(running.folder / run.id))
    holder = subprocess.Popen([sys.executable, "-S", "-c", code, lock], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert running.run().exit_code == 0
    assert "its folder is in use by another process" in running.line_with("waiting for it")
    assert len(fake_stage()) == 6
    holder.communicate()


def _lock(folder: Path) -> Path:
    """Create a run's folder; return its lock file."""
    descriptor = lock_run_folder(folder)
    assert descriptor is not None
    os.close(descriptor)
    return folder / "lock"


def test_a_run_started_without_a_study_is_running(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    assert read_state(tmp_path) == "interrupted"
    with (tmp_path / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_state(tmp_path) == "running" and lock_run_folder(tmp_path) is None
    descriptor = lock_run_folder(tmp_path)
    assert descriptor is not None
    os.close(descriptor)


def test_an_invalid_result_is_an_error_that_names_the_file(running: Running, fake_stage: SetBehavior) -> None:
    running.run()
    path = running.folder / running.runs[0].id / "result.json"
    path.write_text('{"status": "finished"}')
    with pytest.raises(ValueError, match="result.json: not the result of a run"):
        running.run()


def test_metrics_that_are_not_finite_numbers_are_not_read(running: Running, fake_stage: SetBehavior) -> None:
    running.run()
    path = running.folder / running.runs[0].id / "result.json"
    content = json.loads(path.read_text())
    content["metrics"] = {"test_top1": 90, "per_class": {"0": 1.0}, "invalid": float("nan")}
    path.write_text(json.dumps(content))
    result = read_result(path.parent)
    assert result is not None
    assert result.metrics == {"test_top1": 90.0}


@pytest.mark.parametrize(("seconds", "text"), [(40, "40 s"), (700, "12 min"), (9000, "2.5 h")])
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
