"""Running a plan: order, failures, verdicts, locks, signals, and going on after a kill."""

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
from pathlib import Path

import pytest

from recipes.result import read_result
from recipes.run.engines import LocalSlots
from recipes.run.runner import Outcome, StudyRunner, in_words
from recipes.run.states import acquire, read_state
from recipes.study.plan import Plan, PlannedRun

Behave = Callable[..., list[str]]
Slots = Callable[[int], LocalSlots]


@pytest.fixture
def small(plan: Plan) -> list[PlannedRun]:
    """Return six runs: one pre-training, its four fine-tunings, and one from scratch."""
    chosen = [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]
    assert [run.stage for run in chosen] == ["pretrain"] + 5 * ["finetune"]
    return chosen


class Running:
    """Runs some runs with the fake stage and remembers what was said."""

    def __init__(self, runs: list[PlannedRun], folder: Path, slots: Slots) -> None:
        self.runs, self.folder, self.slots, self.lines = runs, folder, slots, list[str]()

    def run(self, jobs: int = 2) -> Outcome:
        """Run them; return the outcome."""
        self.lines.clear()
        return StudyRunner(self.runs, self.folder, self.slots(jobs), self.lines.append, "test_top1", 0.01).run()

    def said(self, part: str) -> str:
        """Return the one line that holds `part`."""
        (line,) = [line for line in self.lines if part in line]
        return line


@pytest.fixture
def running(small: list[PlannedRun], tmp_path: Path, slots: Slots) -> Running:
    """Return the six runs, ready to run."""
    return Running(small, tmp_path / "runs", slots)


def test_everything_runs_once_and_first_stages_come_first(running: Running, fake_stage: Behave) -> None:
    outcome = running.run()
    assert outcome.exit_code == 0
    assert sorted(fake_stage()) == sorted(run.id for run in running.runs)
    assert all(read_state(running.folder / run.id) == "done" for run in running.runs)
    assert running.lines[0] == "6 runs: 0 done, 6 to go, 2 at a time"
    assert len([line for line in running.lines if line.startswith("[")]) == 6
    assert running.lines[-1].startswith("[6/6] finished")
    assert "test_top1 90.0" in running.lines[-1]


def test_what_is_done_is_not_repeated(running: Running, fake_stage: Behave) -> None:
    running.run()
    before = fake_stage()
    assert running.run().exit_code == 0
    assert fake_stage() == before
    assert running.lines == ["6 runs: 6 done, 0 to go, 2 at a time"]


def test_a_failing_run_is_told_with_its_last_words_and_the_others_go_on(running: Running, fake_stage: Behave) -> None:
    fake_stage(**{"TST-fraction0.5": "fail"})
    outcome = running.run()
    assert outcome.exit_code == 1
    assert len(outcome.failed) == 1
    assert len(fake_stage()) == 6
    assert "exit code 3" in running.said("FAILED")
    assert "the last words of a failing run" in "\n".join(running.lines)
    fake_stage()
    assert running.run().exit_code == 0
    assert len(fake_stage()) == 7


def test_what_needs_a_failed_run_is_skipped(running: Running, fake_stage: Behave) -> None:
    fake_stage(pretrain="fail")
    outcome = running.run()
    assert outcome.exit_code == 1
    assert len(outcome.skipped) == 4
    assert len(fake_stage()) == 2


def test_a_crash_is_a_result_and_what_needs_it_is_skipped(running: Running, fake_stage: Behave) -> None:
    fake_stage(pretrain="crash")
    outcome = running.run()
    assert outcome.exit_code == 0
    assert len(outcome.skipped) == 4
    assert "at step 7: the loss was nan" in running.said("] crash ")
    assert len([line for line in running.lines if "no weights to start from" in line]) == 4
    assert running.run().exit_code == 0
    assert len(fake_stage()) == 2  # a crash is not tried again


def test_an_interrupted_run_goes_on(running: Running, fake_stage: Behave) -> None:
    fake_stage(**{"TST-fraction0.5": "sleep"})
    stopper = threading.Thread(target=_send_when_begun, args=(running.folder,))
    stopper.start()
    outcome = running.run()
    stopper.join()
    assert outcome.exit_code == 128 + signal.SIGTERM
    (begun,) = [path.parent for path in running.folder.glob("*/begun")]
    assert read_state(begun) == "interrupted"
    result = read_result(begun)
    assert result is not None
    assert result.reason == "stopped by SIGTERM"
    done = [run.id for run in running.runs if read_state(running.folder / run.id) == "done"]
    before = fake_stage()
    assert running.run().exit_code == 0
    assert not set(done) & set(fake_stage()[len(before) :])
    assert begun.name in fake_stage()[len(before) :]


def _send_when_begun(folder: Path) -> None:
    """Send SIGTERM to this process as soon as a sleeping run has begun."""
    _wait_for_begun(folder)
    os.kill(os.getpid(), signal.SIGTERM)


def _wait_for_begun(folder: Path) -> Path:
    """Return the file a sleeping run has written, once it is there."""
    deadline = time.monotonic() + 20
    while not (found := [path for path in folder.glob("*/begun") if path.read_text()]):
        assert time.monotonic() < deadline, "no run began"
        time.sleep(0.01)
    return found[0]


def test_signals_work_as_before_after_a_study(running: Running, fake_stage: Behave) -> None:
    before = signal.getsignal(signal.SIGINT)
    running.run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_study_killed_outright_goes_on_and_repeats_nothing(running: Running, fake_stage: Behave) -> None:
    fake_stage(**{"TST-fraction0.5": "sleep"})
    process = multiprocessing.get_context("fork").Process(target=running.run)
    process.start()
    begun = _wait_for_begun(running.folder)
    process.kill()
    process.join()
    assert read_state(begun.parent) == "running"  # the orphan still works in its folder
    os.kill(int(begun.read_text()), signal.SIGTERM)
    done = [run.id for run in running.runs if read_state(running.folder / run.id) == "done"]
    before = fake_stage()
    assert begun.parent.name in before
    assert running.run().exit_code == 0
    assert not set(done) & set(fake_stage()[len(before) :])
    assert all(read_state(running.folder / run.id) == "done" for run in running.runs)


def test_a_folder_in_which_another_process_works_is_waited_for(running: Running, fake_stage: Behave) -> None:
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
    assert "another process works in its folder" in running.said("waiting for it")
    assert len(fake_stage()) == 6
    holder.communicate()


def _lock(folder: Path) -> Path:
    """Return the lock of a run's folder, which is made."""
    descriptor = acquire(folder)
    assert descriptor is not None
    os.close(descriptor)
    return folder / "lock"


def test_a_run_that_was_started_by_hand_is_running(tmp_path: Path) -> None:
    (tmp_path / "run.lock").touch()
    assert read_state(tmp_path) == "interrupted"
    with (tmp_path / "run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_state(tmp_path) == "running" and acquire(tmp_path) is None
    descriptor = acquire(tmp_path)
    assert descriptor is not None
    os.close(descriptor)


def test_a_broken_result_is_named(running: Running, fake_stage: Behave) -> None:
    running.run()
    path = running.folder / running.runs[0].id / "result.json"
    path.write_text('{"verdict": "finished"}')
    with pytest.raises(ValueError, match="result.json: not the result of a run"):
        running.run()


def test_metrics_that_are_no_numbers_stay_in_the_file(running: Running, fake_stage: Behave) -> None:
    running.run()
    path = running.folder / running.runs[0].id / "result.json"
    content = json.loads(path.read_text())
    content["metrics"] = {"test_top1": 90, "per_class": {"0": 1.0}, "lost": float("nan")}
    path.write_text(json.dumps(content))
    result = read_result(path.parent)
    assert result is not None
    assert result.metrics == {"test_top1": 90.0}


def test_time_left_is_that_of_the_runs_most_alike(plan: Plan, tmp_path: Path, slots: Slots) -> None:
    runner = StudyRunner(plan.runs, tmp_path, slots(1), print, "test_top1")
    long, short, like_long = (
        next(run for run in plan.runs if run.id.startswith(f"finetune-conv-OST-fraction{fraction}-seed{seed}"))
        for fraction, seed in (("1", "0"), ("0.1", "0"), ("1", "1"))
    )
    assert runner._expected_seconds(like_long) is None
    runner.seconds = {long.id: 100.0, short.id: 1.0}
    assert runner._expected_seconds(like_long) == 100.0


@pytest.mark.parametrize(("seconds", "words"), [(40, "40 s"), (700, "12 min"), (9000, "2.5 h")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
