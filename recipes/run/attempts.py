"""Repeated starts of a run on a cluster: whether it advances from one to the next, and how one ended, in words.

Read by every job on its node, so that it imports little.
"""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from common.files import list_folder, path_exists
from recipes.run.states import lock_run_folder

VISIBLE_SECONDS = 60.0
"""Longest time after which a network file system shows what another node has written: NFS keeps attributes so long."""


def newest_checkpoint(folder: Path) -> str:
    """Return the name of a run's newest checkpoint; an empty string if there is none."""
    checkpoints = folder / "checkpoints"
    if not path_exists(checkpoints):
        return ""
    return max((entry.name for entry in list_folder(checkpoints, r"step-\d+")), default="")


def is_stuck(checkpoints: Sequence[str], retries: int) -> bool:
    """Return whether a run was ended more than `retries` times in a row without a new checkpoint.

    `checkpoints` has the newest one each time that it was ended from outside.
    """
    return len(checkpoints) > retries and len(set(checkpoints[-retries - 1 :])) == 1


def describe_exit(code: int) -> str:
    """Return how a process ended, from its exit code, that of a signal negative: exit code 3, killed by SIGKILL."""
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def is_folder_in_use(folder: Path) -> bool:
    """Return whether a process uses the folder of a run; it is created, so that neighboring studies see that the run is planned."""
    lock = lock_run_folder(folder)
    if lock is not None:
        os.close(lock)
    return lock is None
