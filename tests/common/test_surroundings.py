"""Failures of the surroundings, raised anywhere in a run: one message and its exit code."""

import pytest

import common.surroundings
from common.data.loading import batch_loader  # noqa: F401  (a run that loads data has imported it)
from common.errors import ProcessError
from common.interruption import WaitInterrupted, interrupt_wait, interruptible, set_stop_requested
from common.surroundings import INTERRUPTED, explained

LOST_PEERS = [
    "[pair.cc:538] Connection closed by peer [127.0.0.1]:4711",
    "[pair.cc:553] Read error [127.0.0.1]:4711: Connection reset by peer",
    "NCCL error: remote process exited or there was a network error, NCCL version 2.26.2",
    "Timed out waiting 1800000ms for recv operation to complete",
]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Killed. "), "memory ran out"),
        (RuntimeError("DataLoader worker (pid 5) is killed by signal: Bus error. It is possible"), "--shm-size"),
        (RuntimeError("Too many open files. Communication with the workers is no longer possible."), "ulimit -n"),
        (OSError(24, "Too many open files", "image.png"), "ulimit -n"),
    ],
)
def test_failures_of_workers_and_limits_are_one_message(error: Exception, words: str) -> None:
    """torch raises the error about a worker that has ended anywhere in the main thread."""
    with pytest.raises(ProcessError, match=words) as raised, explained():
        raise error
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("text", LOST_PEERS)
@pytest.mark.parametrize(("stopped", "code"), [(False, 2), (True, INTERRUPTED)])
def test_process_that_has_ended_is_one_message_of_the_others(
    monkeypatch: pytest.MonkeyPatch, text: str, stopped: bool, code: int
) -> None:
    monkeypatch.setattr(common.surroundings, "is_distributed", lambda: True)
    set_stop_requested(stopped)
    try:
        with pytest.raises(ProcessError, match="another process of this run has ended") as raised, explained():
            raise RuntimeError(text)
    finally:
        set_stop_requested(False)
    assert raised.value.exit_code == code


def test_wait_that_is_interrupted_ends_as_interrupted() -> None:
    with pytest.raises(ProcessError, match="same command starts or resumes") as raised, explained():
        raise WaitInterrupted
    assert raised.value.exit_code == INTERRUPTED


def test_only_waits_are_interrupted() -> None:
    interrupt_wait()
    with pytest.raises(WaitInterrupted), interruptible(), interruptible():
        interrupt_wait()
    interrupt_wait()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyError("a bug"), OSError(5, "Input/output error")])
def test_other_errors_are_not_changed(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explained():
        raise error
    assert raised.value is error
