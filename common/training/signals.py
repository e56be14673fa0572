"""Signals that ask a run to stop: it finishes its step, saves and ends; a second Ctrl-C ends it immediately."""

import os
import signal
import time
from contextlib import suppress
from types import FrameType

from common.interruption import end_waits, interrupt_wait, set_stop_requested, stop_signals
from common.surroundings import INTERRUPTED

WAIT_SECONDS = 10.0
"""How long after a signal a run still waits for a batch, which may only be slow."""
LONGEST_SECONDS = 20.0
"""How long after a signal a run still takes batches, of an evaluation that is not at its end."""


def end_before_run() -> None:
    """Let a signal end this process with the exit code of an interrupted run until `StopSignals` takes over.

    It may be importing, or waiting for other processes; nothing is there that could be saved. SIGINT raises KeyboardInterrupt,
    which has an exit code of its own.
    """
    for number in stop_signals():
        if number != signal.SIGINT:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    """End this process at once; `print` could be within another one."""
    message = f"stopped by {signal.Signals(number).name} before the run began; the same command starts or resumes it\n"
    with suppress(OSError):
        os.write(2, message.encode())
    os._exit(INTERRUPTED)


class StopSignals:
    """Remember that a signal asked this process to stop. Repeated signals change nothing, except a second SIGINT."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """The first signal, in words; none while there was none."""
        self._interrupts = 0
        self._came_at = 0.0

    def install(self) -> None:
        """Install the handlers of `stop_signals` in this process."""
        set_stop_requested(False)
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, self._on_alarm)
        for number in stop_signals():
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Ask for a stop after the current step, or after a wait that does not end. Raise KeyboardInterrupt at a second SIGINT."""
        self._interrupts += number == signal.SIGINT
        if self.reason is None:
            self.reason = f"stopped by {signal.Signals(number).name}"
            set_stop_requested(True)
            self._came_at = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS, 1.0)  # again and again: a wait may begin later
        if number == signal.SIGINT and self._interrupts > 1:
            raise KeyboardInterrupt

    def _on_alarm(self, _: int, __: FrameType | None) -> None:
        """End the wait that this process is in, and after `LONGEST_SECONDS` any that begins."""
        if time.monotonic() - self._came_at > LONGEST_SECONDS:
            end_waits()
        interrupt_wait()
