"""A job in Slurm's queue that a study follows: whether it has ended, how, and whether its run is to be submitted again."""

import time
from dataclasses import dataclass, field

from recipes.result import read_result
from recipes.run.attempts import is_stuck, newest_checkpoint
from recipes.run.engine import Job
from recipes.run.slurm.listing import ListedRun

MAX_LOST = 3
"""How often a run is submitted again at the same checkpoint, after jobs that Slurm ended."""
_LOST = frozenset({"TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED"})
"""States after which a run is submitted again: it resumes from its checkpoint."""
_FINAL = frozenset({"CANCELLED", "OUT_OF_MEMORY", "DEADLINE"})


@dataclass(frozen=True)
class End:
    """How a job ended, in words, and whether its run was lost: it is to be submitted again."""

    how: str
    is_lost: bool = False


@dataclass
class FollowedJob:
    """A job in Slurm's queue."""

    job: Job
    _listed: ListedRun | None = None
    """Its task when it was last listed."""
    _gone_since: float | None = None
    """When it was first missing in the queue without a result."""
    _lost: list[str] = field(default_factory=list)
    """The newest checkpoint each time that Slurm ended its job."""

    def look(self, listed: ListedRun | None, visible_seconds: float) -> End | None:
        """Return how the job ended, or None while it is in the queue or its result may not be visible yet on this machine.

        `listed` is its task in the queue now; a result is visible within `visible_seconds`.
        """
        now = time.monotonic()
        self._listed = listed or self._listed
        if listed is None or not listed.queued.is_live or listed.queued.is_completing:
            result = read_result(self.job.folder)
            if result is not None and result.is_final:
                return End("done")
        if listed is not None and listed.queued.is_live:
            self._gone_since = None
            return None
        record = self._listed.record() if self._listed is not None else None
        self._gone_since = self._gone_since or now
        if not (record is not None and record.state == "failed") and now - self._gone_since < visible_seconds:
            return None
        end = describe_end(listed, self._listed)
        if not end.is_lost:
            return end
        self._gone_since = None
        self._lost.append(newest_checkpoint(self.job.folder))
        if is_stuck(self._lost, MAX_LOST):
            return End(f"{end.how}, {len(self._lost)} times without a new checkpoint")
        return end

    def not_submitted(self) -> None:
        """Do not count the last loss: Slurm did not take the job again, so it is still lost."""
        self._lost.pop()


def describe_end(listed: ListedRun | None, last: ListedRun | None) -> End:
    """Return how a job without a result ended; `listed` is its task in the queue now, `last` when it was last there."""
    state = listed.queued.state if listed is not None else ""
    record = last.record() if last is not None else None
    if record is not None and record.state in ("failed", "skipped", "stopped"):
        return End(record.reason)
    if state in _FINAL:
        return End(f"Slurm ended its job: {state.lower().replace('_', ' ')}")
    if state in _LOST or record is not None or listed is None:
        return End(f"its job ended without a result{f' ({state.lower()})' if state else ''}", is_lost=True)
    return End(f"its job ended before the run began ({state.lower()}); see {listed.submission}")
