"""State of a run, from the result and the locks in its folder."""

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from common.files import path_exists
from common.locks import RUN_LOCK, is_in_use, is_locked, try_lock
from recipes.result import read_result

State = Literal["done", "running", "interrupted", "waiting"]
"""done: has a final result; running: a process holds a lock; interrupted: can be resumed; waiting: not started."""

LOCK = "lock"
LOG = "log.txt"
END_PREFIX = "# failed: "
"""Begins the line of a run's log that says how it failed."""
_END_BYTES = 65536
_START = re.compile(r"^\$ ", re.MULTILINE)
"""Begins the line of a run's log with the command that starts it."""


def read_state(folder: Path) -> State:
    """Return the state of the run in `folder`."""
    result = read_result(folder)
    if result is not None and result.is_final:
        return "done"
    if not path_exists(folder):
        return "waiting"
    return "running" if is_locked(folder / LOCK) or is_locked(folder / RUN_LOCK) else "interrupted"


def lock_run_folder(folder: Path) -> int | None:
    """Lock a run's folder for a study; return the open file descriptor, or None if another study or a run uses the folder.

    The lock is held until every process that inherited the descriptor exits: a run whose study was killed keeps its folder locked.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = try_lock(folder / LOCK)
    if descriptor is not None and is_in_use(folder / RUN_LOCK):
        os.close(descriptor)
        return None
    return descriptor


def note_end(folder: Path, how: str) -> None:
    """Append to a run's log how it failed, such as `exit code 3`, for who reads the log later; not on a full disk."""
    with suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as log:
        log.write(f"{END_PREFIX}{how}\n")


def log_end(folder: Path) -> str:
    """Return the last lines of a run's log, of at most 64 KiB; an empty string if there is no log."""
    path = folder / LOG
    if not path_exists(path):
        return ""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _END_BYTES))
        text = file.read().decode("utf-8", "replace")
    return text if size <= _END_BYTES else text[text.find("\n") + 1 :]


def since_start(log: str) -> str:
    """Return the part of a log since the run was last started: from the line with its command on."""
    starts = list(_START.finditer(log))
    return log[starts[-1].start() :] if starts else log


def noted_end(log: str) -> str | None:
    """Return how a run failed, if that is the end of its log: nothing has started it again since."""
    lines = log.splitlines()
    return lines[-1].removeprefix(END_PREFIX) if lines and lines[-1].startswith(END_PREFIX) else None


def log_tail(folder: Path, lines: int = 12) -> str:
    """Return the last lines of a run's log since it was last started, indented, for the message about its failure."""
    text = since_start(log_end(folder))
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (no log)"
