"""Signals that ask a run to stop: it finishes its step, saves and ends; a second Ctrl-C ends it immediately."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""A scheduler or `kill`, Ctrl-C, Slurm's warning before the time limit (`--signal=USR1@120`)."""


class StopSignals:
    """Remember that a signal asked this process to stop. Repeated signals change nothing, except a second SIGINT."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """The first signal, in words; none while there was none."""
        self._interrupts = 0

    def install(self) -> None:
        """Install the handlers of `SIGNALS` in this process."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Ask for a stop after the current step. Raise KeyboardInterrupt at a second SIGINT."""
        self._interrupts += number == signal.SIGINT
        if self.reason is None:
            self.reason = f"stopped by {signal.Signals(number).name}"
        if number == signal.SIGINT and self._interrupts > 1:
            raise KeyboardInterrupt
