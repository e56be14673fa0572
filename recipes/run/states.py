"""Owns what a run folder says about itself: its result, and whether a process works in it, by a lock."""

import os
from pathlib import Path
from typing import Literal

from common.files import is_there
from common.locks import RUN_LOCK, is_locked, take_lock
from recipes.result import read_result

State = Literal["done", "running", "interrupted", "waiting"]
"""done: a result that is final; running: a process holds the folder; interrupted: will go on; waiting: not begun."""

LOCK = "lock"
LOG = "log.txt"


def read_state(folder: Path) -> State:
    """Return how far the run in `folder` is."""
    result = read_result(folder)
    if result is not None and result.is_final:
        return "done"
    if not is_there(folder):
        return "waiting"
    return "running" if is_locked(folder / LOCK) or is_locked(folder / RUN_LOCK) else "interrupted"


def acquire(folder: Path) -> int | None:
    """Lock a run's folder; return an open descriptor, or None where another process holds it, or works there by itself.

    The lock lives as long as any process keeps the descriptor open: a run whose study was killed holds its folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = take_lock(folder / LOCK)
    if descriptor is not None and is_locked(folder / RUN_LOCK):
        os.close(descriptor)
        return None
    return descriptor


def log_tail(folder: Path, lines: int = 12) -> str:
    """Return the last lines of a run's log, indented, for the message that tells of its failure."""
    path = folder / LOG
    if not is_there(path):
        return "    (no log)"
    text = path.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
