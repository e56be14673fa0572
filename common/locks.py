"""Locks on run folders: one run works in a folder at a time.

A lock lives as long as the process that took it, or until `release_locks`; a kill ends it. It is not inherited by forks, so a
loader's worker that outlives a killed run holds nothing.
"""

import errno
import fcntl
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from common.errors import UserError
from common.files import is_there

RUN_LOCK = "run.lock"
"""File in a run folder whose lock says that a run works there, and whose text says which process did so last, on which host."""

_logger = logging.getLogger(__name__)
_PATIENCE_SECONDS = 2.0
_held: dict[tuple[int, int], int] = {}
"""Descriptors of this process's locks by device and inode."""


def lock_folder(folder: Path) -> None:
    """Lock a run folder, which is made where there is none; nothing happens where this process has locked it already.

    Raise UserError where another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, deadline = folder / RUN_LOCK, time.monotonic() + _PATIENCE_SECONDS
    if is_there(path) and _identity(path.stat()) in _held:
        return
    while (descriptor := take_lock(path)) is None:
        if time.monotonic() > deadline:
            who = path.read_text(errors="replace").strip()[:300]
            raise UserError(
                f"out = {folder}: another process works there{f' ({who})' if who else ''}. Wait until it has ended, or name"
                " another folder; nothing was changed."
            )
        time.sleep(0.05)  # it may only look at the lock
    _held[_identity(os.fstat(descriptor))] = descriptor


def sign_locks() -> None:
    """Write into the files of this process's locks who holds them, for the message that a second run ends with."""
    for descriptor in _held.values():
        with suppress(OSError):  # read-only, or a full disk: the lock is what counts
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def take_lock(path: Path) -> int | None:
    """Lock a file, which is made where there is none; return its open descriptor, or None where another process holds the lock.

    A file system that cannot lock is passed over with a warning.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # written by another member of the group
        descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        reason = error.strerror or error
        _logger.warning("%s cannot be locked (%s): take care that no second run works in its folder", path, reason)
    return descriptor


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def is_locked(path: Path) -> bool:
    """Tell whether a process holds the lock of this file; no where it is missing or cannot be locked at all."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


def release_locks() -> None:
    """Release every lock of this process."""
    while _held:
        _, descriptor = _held.popitem()
        with suppress(OSError):
            os.close(descriptor)


os.register_at_fork(after_in_child=release_locks)
