"""Stops jobs in Slurm: those that wait are cancelled, those that run save first."""

import signal
import time
from collections.abc import Callable, Mapping

from recipes.run.slurm.programs import cancel


def stop_jobs(live: Callable[[], Mapping[str, str]], grace_seconds: float, poll_seconds: float) -> None:
    """Stop jobs within `grace_seconds`, after which they are cancelled; return once none is live, or all are cancelled.

    `live` returns Slurm's ids and states of those that are live now. Raise SlurmBusy if Slurm does not answer.
    """
    deadline, asked = time.monotonic() + grace_seconds, set[str]()
    while jobs := live():
        if time.monotonic() > deadline:
            cancel(list(jobs))
            return
        running = [job for job, state in jobs.items() if state == "RUNNING" and job not in asked]
        cancel([job for job, state in jobs.items() if state == "PENDING"], "--state=PENDING")
        cancel(running, "--batch", f"--signal={signal.SIGUSR2.name[3:]}")
        asked.update(running)
        time.sleep(poll_seconds)
