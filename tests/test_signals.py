"""Signals: the step is finished, the state saved, the result says so, all processes agree; the same command goes on."""

import os
import signal
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, log, run

from common.command import INTERRUPTED_AT_ONCE
from common.training.run import INTERRUPTED
from common.training.signals import StopSignals


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run that no signal reached; workers change nothing in it."""
    out = tmp_path_factory.mktemp("signals") / "whole"
    assert run("finetune", out, "model.drop_path=0.2") == 0, log(out)
    return out


@pytest.mark.parametrize(
    ("what", "workers"), [("SIGTERM", 0), ("SIGINT", 0), ("SIGUSR1", 0), ("group SIGTERM", 2), ("group SIGINT", 2)]
)
def test_a_signal_stops_after_the_step_and_the_same_command_goes_on(
    tmp_path: Path, whole: Path, what: str, workers: int
) -> None:
    """To the process alone, or to its group, loader workers included, as Ctrl-C and schedulers do it."""
    parts = tmp_path / "parts"
    overrides = (f"data.workers={workers}", "model.drop_path=0.2")
    assert run("finetune", parts, *overrides, faults=[Fault("step", 3, what=what)]) == INTERRUPTED, log(parts)
    assert "Traceback" not in log(parts)
    result = read_result(parts)
    assert result["verdict"] == "interrupted" and result["step"] == 3 and what.split()[-1] in result["reason"]
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["step-000000003"]
    assert run("finetune", parts, *overrides) == 0, log(parts)
    assert "going on from step 3" in log(parts)
    assert_same_run(whole, parts)


def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    fault = Fault("step", 2, what="SIGUSR1", rank=1)
    assert run("pretrain", tmp_path / "run", processes=2, faults=[fault]) == INTERRUPTED, log(tmp_path / "run")
    result = read_result(tmp_path / "run")
    assert result["verdict"] == "interrupted" and result["step"] == 2 and "another process" in result["reason"]


def test_a_second_sigint_leaves_at_once(tmp_path: Path) -> None:
    faults = [Fault("step", 3, what="SIGINT"), Fault("flush", 1, what="SIGINT")]
    out = tmp_path / "run"
    assert run("finetune", out, "data.workers=2", faults=faults) == INTERRUPTED_AT_ONCE, log(out)
    assert "stopped at once" in log(out) and "Traceback" not in log(out)
    assert not (out / "result.json").exists() and not list((out / "checkpoints").iterdir())


@pytest.fixture
def signals() -> StopSignals:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)}
    yield StopSignals()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_only_a_second_sigint_is_impatient(signals: StopSignals) -> None:
    """A scheduler's SIGTERM and one Ctrl-C, in any order and number, still leave time to save."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    assert signals.reason == "stopped by SIGTERM"
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 0.1)
