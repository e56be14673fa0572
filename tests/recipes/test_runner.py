"""Running a plan: order, failures, verdicts, locks, signals, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.engines import LocalSlots
from recipes.plan import Plan, PlannedRun
from recipes.runner import Outcome, StudyRunner, in_words
from recipes.states import acquire, read_result, read_state

Behave = Callable[..., list[str]]
Slots = Callable[[int], LocalSlots]


@pytest.fixture
def small(plan: Plan) -> list[PlannedRun]:
    """Return six runs: one pre-training, its four fine-tunings, and one from scratch."""
    chosen = [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]
    assert [run.stage for run in chosen] == ["pretrain"] + 5 * ["finetune"]
    return chosen


class Study:
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
def study(small: list[PlannedRun], tmp_path: Path, slots: Slots) -> Study:
    """Return the six runs, ready to run."""
    return Study(small, tmp_path / "runs", slots)


def test_everything_runs_once_and_first_stages_come_first(study: Study, fake_stage: Behave) -> None:
    outcome = study.run()
    assert outcome.exit_code == 0
    assert sorted(fake_stage()) == sorted(run.id for run in study.runs)
    assert all(read_state(study.folder / run.id) == "done" for run in study.runs)
    assert study.lines[0] == "6 runs: 0 done, 6 to go, 2 at a time"
    assert len([line for line in study.lines if line.startswith("[")]) == 6
    assert study.lines[-1].startswith("[6/6] finished")
    assert "test_top1 90.0" in study.lines[-1]


def test_what_is_done_is_not_repeated(study: Study, fake_stage: Behave) -> None:
    study.run()
    before = fake_stage()
    assert study.run().exit_code == 0
    assert fake_stage() == before
    assert study.lines == ["6 runs: 6 done, 0 to go, 2 at a time"]


def test_a_failing_run_is_told_with_its_last_words_and_the_others_go_on(study: Study, fake_stage: Behave) -> None:
    fake_stage(**{"TST-fraction0.5": "fail"})
    outcome = study.run()
    assert outcome.exit_code == 1
    assert len(outcome.failed) == 1
    assert len(fake_stage()) == 6
    assert "exit code 3" in study.said("FAILED")
    assert "the last words of a failing run" in "\n".join(study.lines)
    fake_stage()
    assert study.run().exit_code == 0
    assert len(fake_stage()) == 7


def test_what_needs_a_failed_run_is_skipped(study: Study, fake_stage: Behave) -> None:
    fake_stage(pretrain="fail")
    outcome = study.run()
    assert outcome.exit_code == 1
    assert len(outcome.skipped) == 4
    assert len(fake_stage()) == 2


def test_a_crash_is_a_result_and_what_needs_it_is_skipped(study: Study, fake_stage: Behave) -> None:
    fake_stage(pretrain="crash")
    outcome = study.run()
    assert outcome.exit_code == 0
    assert len(outcome.skipped) == 4
    assert "at step 7: the loss was nan" in study.said("] crash ")
    assert "no weights to start from" in study.lines[-1]
    assert study.run().exit_code == 0
    assert len(fake_stage()) == 2  # a crash is not tried again


def test_an_interrupted_run_goes_on(study: Study, fake_stage: Behave) -> None:
    fake_stage(**{"TST-fraction0.5": "sleep"})
    stopper = threading.Thread(target=_send_when_begun, args=(study.folder,))
    stopper.start()
    outcome = study.run()
    stopper.join()
    assert outcome.exit_code == 128 + signal.SIGTERM
    (begun,) = [path.parent for path in study.folder.glob("*/begun")]
    assert read_state(begun) == "interrupted"
    result = read_result(begun)
    assert result is not None
    assert result.reason == "stopped by SIGTERM"
    done = [run.id for run in study.runs if read_state(study.folder / run.id) == "done"]
    before = fake_stage()
    assert study.run().exit_code == 0
    assert not set(done) & set(fake_stage()[len(before) :])
    assert begun.name in fake_stage()[len(before) :]


def _send_when_begun(folder: Path) -> None:
    """Send SIGTERM to this process as soon as a sleeping run has begun."""
    deadline = time.monotonic() + 20
    while not list(folder.glob("*/begun")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_signals_work_as_before_after_a_study(study: Study, fake_stage: Behave) -> None:
    before = signal.getsignal(signal.SIGINT)
    study.run()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_killed_study_loses_nothing_and_its_orphan_is_waited_for(study: Study, fake_stage: Behave) -> None:
    run = study.runs[0]
    holder = subprocess.Popen(
        [sys.executable, "-S", "-c", "import fcntl, os, sys, time; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); "
         "fcntl.flock(fd, fcntl.LOCK_EX); print('held', flush=True); time.sleep(0.5)", str(_lock(study.folder / run.id))],
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert study.run().exit_code == 0
    assert "another process works in its folder" in study.said("waiting for it")
    assert len(fake_stage()) == 6
    holder.communicate()


def _lock(folder: Path) -> Path:
    """Return the lock of a run's folder, which is made."""
    descriptor = acquire(folder)
    assert descriptor is not None
    os.close(descriptor)
    return folder / "lock"


def test_a_broken_result_is_named(study: Study, fake_stage: Behave) -> None:
    study.run()
    path = study.folder / study.runs[0].id / "result.json"
    path.write_text('{"verdict": "finished"}')
    with pytest.raises(ValueError, match="result.json: not the result of a run"):
        study.run()


def test_metrics_that_are_no_numbers_stay_in_the_file(study: Study, fake_stage: Behave) -> None:
    study.run()
    path = study.folder / study.runs[0].id / "result.json"
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
