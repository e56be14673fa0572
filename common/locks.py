"""Locks on run folders: one run at a time.

A lock is held until its process exits, however it exits, or calls `release_locks`. Forks do not inherit it, so a data loader
worker that outlives a killed run holds no lock.
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
from common.files import path_exists

RUN_LOCK = "run.lock"
"""Lock file of a run folder: locked while a run uses the folder; its text names the last process and its host."""

_logger = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2.0
_held: dict[tuple[int, int], int] = {}
"""File descriptors of the locks that this process holds, by device and inode."""


def lock_folder(folder: Path) -> None:
    """Lock a run folder and create it if needed; do nothing if this process already holds the lock.

    Raise UserError if another process uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, deadline = folder / RUN_LOCK, time.monotonic() + _TIMEOUT_SECONDS
    if path_exists(path) and _inode(path.stat()) in _held:
        return
    while (descriptor := try_lock(path)) is None:
        if time.monotonic() > deadline:
            owner = path.read_text(errors="replace").strip()[:300]
            raise UserError(
                f"out = {folder}: in use by another process{f' ({owner})' if owner else ''}. Wait until it has finished, or set"
                " out to another folder; nothing was changed."
            )
        time.sleep(0.05)  # the other process may only be testing the lock
    _held[_inode(os.fstat(descriptor))] = descriptor


def write_lock_owner() -> None:
    """Write this process and its host into its lock files, for the error message of a second run."""
    for descriptor in _held.values():
        with suppress(OSError):  # read-only or a full disk: the lock itself still holds
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def try_lock(path: Path) -> int | None:
    """Lock a file and create it if needed; return its open descriptor, or None if another process holds the lock.

    Log a warning and continue on a file system without locks.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:  # created by another member of the group
        descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        reason = error.strerror or error
        _logger.warning("%s cannot be locked (%s): make sure that no second run uses its folder", path, reason)
    return descriptor


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of this file; False if it is missing or its file system has no locks."""
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
    """Release all locks that this process holds."""
    while _held:
        _, descriptor = _held.popitem()
        with suppress(OSError):
            os.close(descriptor)


os.register_at_fork(after_in_child=release_locks)
