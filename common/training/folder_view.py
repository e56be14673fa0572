"""What a process sees of a run folder at its start, in words that all processes compare: they may be on different nodes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from common.checkpoint_files import checkpoint_paths
from common.files import path_exists


def describe_folder(folder: Path) -> tuple[str | None, ...]:
    """Return the newest checkpoint's step, the status and the recipe of the run in a folder.

    None for what the system cannot read; the process that needs it reports that.
    """
    return tuple(_words(read, folder) for read in (_step, _status, _recipe))


def _words(read: Callable[[Path], str], folder: Path) -> str | None:
    try:
        return read(folder)
    except OSError:
        return None


def _step(folder: Path) -> str:
    steps = checkpoint_paths(folder / "checkpoints")
    return f"step {max(steps)}" if steps else "none"


def _status(folder: Path) -> str:
    path = folder / "result.json"
    if not path_exists(path):
        return "no result"
    text = path.read_bytes()
    try:
        return f"status {json.loads(text)['status']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return f"a result that cannot be read ({hashlib.sha256(text).hexdigest()[:8]})"


def _recipe(folder: Path) -> str:
    path = folder / "config.yaml"
    return f"recipe {hashlib.sha256(path.read_bytes()).hexdigest()[:8]}" if path_exists(path) else "no run"
