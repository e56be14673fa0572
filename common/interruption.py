"""Stop signals and waits: a wait without a sign of life ends when a signal has asked the run to stop.

A signal handler cannot end a step, which is to be finished and saved. It can end a wait (for a batch, for a long fit): the code
that waits does so within `interruptible()`, and can lose nothing but what it waits for. State of the process, as signals are.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_depth = 0
_is_requested = False
_is_over = False


class WaitInterrupted(BaseException):
    """The run was asked to stop, and what it waited for did not come within the grace.

    Not an `Exception`, like KeyboardInterrupt: code on the way that handles any error (of an image that cannot be read) must not
    handle it.
    """


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that stop a run or a study; SIGHUP only where it is not ignored, as it is under nohup.

    `kill` and schedulers (TERM), Ctrl-C (INT), a closed terminal (HUP), a warning before the time limit: Slurm's
    `--signal=USR1@120`, USR2 of submitit, LSF and SGE, XCPU of LSF and SGE.
    """
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
    return numbers if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*numbers, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """Allow `interrupt_wait` to end the code within, which does not begin after `end_waits`."""
    global _depth
    if _is_over:
        raise WaitInterrupted
    _depth += 1
    try:
        yield
    finally:
        _depth = max(_depth - 1, 0)


def interrupt_wait() -> None:
    """Raise WaitInterrupted if the process is within `interruptible`; a signal handler calls it."""
    global _depth
    if _depth:
        _depth = 0  # the exception may come just before `interruptible` takes its own part back
        raise WaitInterrupted


def end_waits() -> None:
    """Let no code that waits begin any more: each of its parts is short, but it has too many, as an evaluation has batches."""
    global _is_over
    _is_over = True


def set_stop_requested(requested: bool) -> None:
    """Record that a signal has asked this process to stop, or that a new run begins."""
    global _is_requested, _is_over
    _is_requested, _is_over = requested, False


def is_stop_requested() -> bool:
    """Return whether a signal has asked this process to stop."""
    return _is_requested
