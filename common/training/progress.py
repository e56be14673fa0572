"""Progress of a run for a person: a bar with images per second and time left, plain lines where there is no terminal."""

import logging
import sys
import time

from tqdm import tqdm

from common.training.run import Run

logger = logging.getLogger(__name__)


class Progress:
    """Show how many of the steps of a run are done."""

    def __init__(self, run: Run, steps: int, batch_size: int, *, seconds_between_lines: float = 15.0) -> None:
        """Take the total number of steps and the global batch; without a terminal, lines are at least so many seconds apart."""
        self.step, self.steps, self.batch_size = 0, steps, batch_size
        self._interval, self._started_at, self._first_step = seconds_between_lines, time.monotonic(), -1
        self._described_at = self._started_at
        self._quiet = not run.is_main
        self._terminal = run.is_main and sys.stderr is not None and sys.stderr.isatty()
        self._bar = tqdm(total=steps * batch_size, unit="img", unit_scale=True, disable=not self._terminal)

    def advance(self, step: int) -> None:
        """Show that `step` steps are done."""
        if self._first_step < 0:
            self._first_step = step - 1
            self._bar.update((step - 1) * self.batch_size)
        self.step = step
        self._bar.update(self.batch_size)

    def describe(self, text: str) -> None:
        """Show the state of training: beside the bar on a terminal, else as a line of the log with rate and time left."""
        if self._terminal:
            self._bar.set_postfix_str(text)
        now = time.monotonic()
        if self._terminal or self._quiet or (now - self._described_at < self._interval and self.step < self.steps):
            return
        self._described_at = now
        rate = (self.step - self._first_step) * self.batch_size / max(now - self._started_at, 1e-9)
        left = (self.steps - self.step) * self.batch_size / max(rate, 1e-9)
        logger.info("step %d of %d, %.0f images/s, %.0f s left: %s", self.step, self.steps, rate, left, text)
