"""Signals: the step is completed, the state saved, the result records it, all processes agree; the same command resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, fork_run, read_log

from common.command import INTERRUPTED_TWICE
from common.interruption import WaitInterrupted, interruptible, set_stop_requested, stop_signals
from common.training.run import INTERRUPTED
from common.training.signals import StopSignals


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the uninterrupted run; workers do not change it."""
    out = tmp_path_factory.mktemp("signals") / "uninterrupted"
    assert fork_run("finetune", out, "model.drop_path=0.2") == 0, read_log(out)
    return out


@pytest.mark.parametrize(
    ("what", "workers"),
    [
        ("SIGTERM", 0),
        ("SIGINT", 0),
        ("SIGUSR1", 0),
        ("SIGXCPU", 0),
        ("group SIGTERM", 2),
        ("group SIGINT", 2),
        ("group SIGUSR2", 2),
        ("group SIGHUP", 2),
    ],
)
def test_signal_stops_after_the_step_and_the_same_command_resumes(
    tmp_path: Path, uninterrupted: Path, what: str, workers: int
) -> None:
    """To the process only, or to its group including the loader workers, as by Ctrl-C and schedulers."""
    resumed = tmp_path / "resumed"
    overrides = (f"data.workers={workers}", "model.drop_path=0.2")
    assert fork_run("finetune", resumed, *overrides, faults=[Fault("step", 3, what=what)]) == INTERRUPTED, read_log(
        resumed
    )
    assert "Traceback" not in read_log(resumed)
    result = read_result(resumed)
    assert result["status"] == "interrupted" and result["step"] == 3 and what.split()[-1] in result["reason"]
    assert [path.name for path in (resumed / "checkpoints").iterdir()] == ["step-000000003"]
    assert fork_run("finetune", resumed, *overrides) == 0, read_log(resumed)
    assert "resuming from step 3" in read_log(resumed)
    assert_same_run(uninterrupted, resumed)


def test_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    fault = Fault("step", 2, what="SIGUSR1", rank=1)
    assert fork_run("pretrain", tmp_path / "run", processes=2, faults=[fault]) == INTERRUPTED, read_log(
        tmp_path / "run"
    )
    result = read_result(tmp_path / "run")
    assert result["status"] == "interrupted" and result["step"] == 2 and "another process" in result["reason"]


def test_second_sigint_exits_immediately(tmp_path: Path) -> None:
    faults = [Fault("step", 3, what="SIGINT"), Fault("flush", 1, what="SIGINT")]
    out = tmp_path / "run"
    assert fork_run("finetune", out, "data.workers=2", faults=faults) == INTERRUPTED_TWICE, read_log(out)
    assert "interrupted without saving" in read_log(out) and "Traceback" not in read_log(out)
    assert not (out / "result.json").exists() and not list((out / "checkpoints").iterdir())


def test_signal_while_a_batch_does_not_come_saves_the_steps_done(tmp_path: Path, uninterrupted: Path) -> None:
    resumed = tmp_path / "resumed"
    fault = Fault("batch", 3, what="SIGTERM in a hang")
    assert fork_run("finetune", resumed, "model.drop_path=0.2", faults=[fault]) == INTERRUPTED, read_log(resumed)
    assert "Traceback" not in read_log(resumed)
    result = read_result(resumed)
    assert result["status"] == "interrupted" and result["step"] == 2 and "SIGTERM" in result["reason"]
    assert fork_run("finetune", resumed, "model.drop_path=0.2") == 0, read_log(resumed)
    assert "resuming from step 2" in read_log(resumed)
    assert_same_run(uninterrupted, resumed)


def test_signal_while_the_batch_of_one_process_does_not_come_ends_all(tmp_path: Path) -> None:
    """The others wait in the step and cannot save; their connection to the process that has ended breaks."""
    out, fault = tmp_path / "run", Fault("batch", 3, what="SIGTERM in a hang", rank=1)
    assert fork_run("finetune", out, processes=2, faults=[fault]) == INTERRUPTED, read_log(out)
    assert "another process of this run has ended" in read_log(out)
    assert "while reading data" in read_log(out, rank=1)
    assert not any("Traceback" in read_log(out, rank) for rank in (0, 1))


def test_signal_while_an_evaluation_waits_for_a_batch_ends_it(tmp_path: Path) -> None:
    out, fault = tmp_path / "run", Fault("batch", 2, what="SIGTERM in a hang")
    assert fork_run("knn", out, "train.batch_size=16", faults=[fault]) == INTERRUPTED, read_log(out)
    assert read_result(out)["status"] == "interrupted" and "Traceback" not in read_log(out)


def test_signal_while_images_are_compared_ends_the_start(tmp_path: Path) -> None:
    out, fault = tmp_path / "run", Fault("duplicates", 1, what="SIGTERM in a hang")
    assert fork_run("finetune", out, faults=[fault]) == INTERRUPTED, read_log(out)
    assert "stopped by a signal while reading data" in read_log(out) and "Traceback" not in read_log(out)
    assert fork_run("finetune", out) == 0, read_log(out)


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("finetune", "finetune.config"),
        ("pretrain", "pretrain.config"),
        ("common.evaluation", "common.evaluation.config"),
        ("common.launch", "accelerate"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signal_during_the_imports_ends_as_an_interrupted_run(module: str, imported: str, number: int) -> None:
    program = f"""
import os, runpy, sys, threading
class Finder:
    def find_spec(name, *_):
        if name == {imported!r}:
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Finder)
sys.argv = [{module!r}, "knn"]
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == INTERRUPTED and done.stderr.startswith(f"stopped by {signal.Signals(number).name} before")


@pytest.fixture
def signals() -> StopSignals:
    before = {number: signal.getsignal(number) for number in (*stop_signals(), signal.SIGALRM)}
    stop = StopSignals()
    stop.install()
    yield stop
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    set_stop_requested(False)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_evaluation_of_many_batches_ends_some_time_after_a_signal(
    signals: StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.training.signals.WAIT_SECONDS", 0.05)
    monkeypatch.setattr("common.training.signals.LONGEST_SECONDS", 0.0)
    with interruptible():
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)  # within a batch
    with pytest.raises(WaitInterrupted), interruptible():
        raise AssertionError("the next batch begins")


def test_only_a_second_sigint_exits_immediately(signals: StopSignals) -> None:
    """A scheduler's SIGTERMs and one Ctrl-C, in any order, still allow saving."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert signals.reason == "stopped by SIGTERM"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0.1)


def test_sighup_stays_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in stop_signals() and signal.SIGUSR2 in stop_signals()
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.SIGHUP in stop_signals()
