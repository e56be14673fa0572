"""Signals: the step is completed, the state saved, the result records it, all processes agree; the same command resumes."""

import os
import signal
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, fork_run, read_log

from common.command import INTERRUPTED_TWICE
from common.training.run import INTERRUPTED
from common.training.signals import StopSignals


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the uninterrupted run; workers do not change it."""
    out = tmp_path_factory.mktemp("signals") / "uninterrupted"
    assert fork_run("finetune", out, "model.drop_path=0.2") == 0, read_log(out)
    return out


@pytest.mark.parametrize(
    ("what", "workers"), [("SIGTERM", 0), ("SIGINT", 0), ("SIGUSR1", 0), ("group SIGTERM", 2), ("group SIGINT", 2)]
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


@pytest.fixture
def signals() -> StopSignals:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    stop = StopSignals()
    stop.install()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_only_a_second_sigint_exits_immediately(signals: StopSignals) -> None:
    """A scheduler's SIGTERMs and one Ctrl-C, in any order, still allow saving."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert signals.reason == "stopped by SIGTERM"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0.1)
