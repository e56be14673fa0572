"""Owns the signals that ask a run to stop: it finishes its step, saves and ends; a second Ctrl-C leaves at once."""

import signal
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""What asks for a stop: a scheduler or `kill`, Ctrl-C, Slurm's warning before the end of the time (`--signal=USR1@120`)."""


class StopSignals:
    """Remember that this process was asked to stop. Any number of signals asks once; only a second SIGINT is impatient."""

    def __init__(self) -> None:
        self.reason: str | None = None
        """Which signal came first, in words; none as long as none came."""
        self._interrupts = 0
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Ask for a stop after the step under way. Raise KeyboardInterrupt at a second SIGINT."""
        self._interrupts += number == signal.SIGINT
        if self.reason is None:
            self.reason = f"stopped by {signal.Signals(number).name}"
        if number == signal.SIGINT and self._interrupts > 1:
            raise KeyboardInterrupt
