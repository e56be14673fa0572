"""Jobs that wait in Slurm's queue for something that does not come by itself."""

import re
from collections.abc import Iterable, Iterator

from recipes.run.slurm.programs import QueuedTask

_HELD = re.compile(r"JobHeld|JobHold|\bheld\b", re.IGNORECASE)
_NEVER = re.compile(
    r"BadConstraints|Never|NotAllowed|Invalid|PerJob|MaxMemPerLimit|Partition(?:Config|TimeLimit)",
    re.IGNORECASE,
)
"""Reasons for which a job never starts as it is: on many clusters Slurm takes such jobs all the same."""


def describe_held(tasks: Iterable[QueuedTask]) -> Iterator[tuple[str, str]]:
    """Yield each lasting reason for which some of the tasks wait, and a line about them with the remedy."""
    by_reason: dict[str, list[QueuedTask]] = {}
    for task in tasks:
        if task.state == "PENDING" and (_HELD.search(task.reason) or _NEVER.search(task.reason)):
            by_reason.setdefault(task.reason, []).append(task)
    for reason, found in by_reason.items():
        jobs = (
            f"{len(found)} jobs ({reason}), such as {found[0].job}" if len(found) > 1 else f"{found[0].job} ({reason})"
        )
        if "admin" in reason.lower():
            yield reason, f"Slurm holds {jobs}: the cluster's administrators can release what they hold"
        elif _HELD.search(reason):
            yield (
                reason,
                f"Slurm holds {jobs}: `scontrol release {','.join(task.job for task in found)}` lets them start",
            )
        else:
            yield (
                reason,
                f"Slurm does not start {jobs}: stop the study, change what its section slurm asks for, and run the command again",
            )
