"""Whether this machine was busy with something else while its rate was measured."""

import os
import time
from dataclasses import dataclass

LEAST_SHARE = 0.85
"""Part of the time on the clock in which the thread of a measurement computes on a quiet machine, at least."""
TOLERATED = 0.5
"""Cores that other programs may use beyond those that the study leaves free: background work of any machine."""


@dataclass(frozen=True)
class Load:
    """What a measurement and other programs had of the processor's cores, as means over its time."""

    share: float
    """Part of the time in which the threads of the measurement computed."""
    others: float
    """Cores that other programs used."""
    cores: int
    """Cores of the machine."""
    needed: int
    """Cores that the runs of the study use together."""
    threads: int = 1
    """Threads of the measurement."""

    @property
    def is_busy(self) -> bool:
        """Return whether the runs of the study would lack cores, or the measurement did.

        One thread computes all the time unless it has to wait for a core. Several also wait for each other, so their share shows
        nothing.
        """
        lacked = self.threads == 1 and self.share < LEAST_SHARE
        return lacked or self.others > self.cores - self.needed + TOLERATED

    def describe(self) -> str:
        """Return the load in words."""
        return (
            f"other programs used {self.others:.1f} of {self.cores} cores, of which the study needs {self.needed}; the measurement"
            f" computed in {self.share:.0%} of its time"
        )


@dataclass(frozen=True)
class Times:
    """Seconds up to a moment: of the clock, of this process on all cores, and of all programs on all cores."""

    clock: float
    own: float
    everything: float


def load_since(before: Times, *, threads: int, needed: int) -> Load:
    """Return the load since `before`; meanwhile `threads` threads computed, and the runs of the study will use `needed` cores."""
    now = read_times()
    clock, own = max(now.clock - before.clock, 1e-9), now.own - before.own
    others = max(0.0, now.everything - before.everything - own) / clock
    return Load(min(1.0, own / (clock * threads)), others, os.cpu_count() or 1, needed, threads)


def read_times() -> Times:
    """Return the times up to now."""
    import psutil

    spent = psutil.cpu_times()
    idle = spent.idle + getattr(spent, "iowait", 0.0)
    counted_twice = getattr(spent, "guest", 0.0) + getattr(spent, "guest_nice", 0.0)  # they are in user and nice
    return Times(time.perf_counter(), time.process_time(), sum(spent) - idle - counted_twice)
