"""Locks on run folders: one run at a time.

A lock is held until its process exits, however it exits, or calls `release_locks`. Forks do not inherit it, so a data loader
worker that outlives a killed run holds no lock. Where flock is local to a host, the owner's line in the file protects the folder
(`common.lock_owner`): a thread rewrites it while the lock is held.
"""

import errno
import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from common.errors import UserError
from common.files import path_exists
from common.lock_owner import HEARTBEAT_SECONDS, OBSERVE_SECONDS, OwnerLine, OwnerWatch, name_of
from common.ranks import copies_of_launch

RUN_LOCK = "run.lock"
"""Lock file of a run folder: locked while a run uses the folder; its text names the process and its host."""

_logger = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.25
_held: dict[tuple[int, int], OwnerLine] = {}
"""The locks that this process holds, by device and inode."""
_accepted: set[tuple[int, int]] = set()
"""Those of folders that this process has begun to write to."""
_guard = threading.Lock()
_threads: list[threading.Event] = []
"""Stops the thread that rewrites the owner's lines, while there is one."""
_watches: dict[Path, OwnerWatch] = {}
"""Owners on other hosts that `is_in_use` observes."""


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
            raise _in_use(folder, _read_owner(path))
        time.sleep(0.05)  # the other process may only be testing the lock
    try:
        _wait_for_owner(folder, OwnerWatch(path, has_lock=_is_exclusive(descriptor)))
    except BaseException:
        os.close(descriptor)
        raise
    with _guard:
        _held[_inode(os.fstat(descriptor))] = OwnerLine(descriptor, path)
    if not _threads:
        _threads.append(threading.Event())
        threading.Thread(target=_beat, args=(_threads[0],), name="run lock", daemon=True).start()


def _wait_for_owner(folder: Path, watch: OwnerWatch) -> None:
    """Wait until an owner on another host is known to be dead; raise UserError if it is alive."""
    if (state := watch.look()) == "unknown":
        words = (folder, RUN_LOCK, watch.owner, OBSERVE_SECONDS)
        _logger.info("out = %s: %s names %s; observing for %.0f s whether it is still running", *words)
    while state == "unknown":
        time.sleep(_POLL_SECONDS)
        state = watch.look()
    if state == "alive":
        raise _in_use(folder, watch.owner)


def _in_use(folder: Path, owner: str) -> UserError:
    """Return the error for a folder that another process uses."""
    return UserError(
        f"out = {folder}: in use by another process{f' ({owner})' if owner else ''}. Stop it there or wait until it has finished,"
        f" or set out to another folder; nothing was changed.{copies_of_launch(os.environ)}"
    )


def _read_owner(path: Path) -> str:
    """Return process and host from a lock file; nothing if it cannot be read, as on CIFS, where locks are mandatory."""
    try:
        return name_of(path.read_text(errors="replace"))
    except OSError:
        return ""


def accept_locks() -> None:
    """Mark the locked folders as written to; until then, releasing a lock restores the text of its file."""
    _accepted.update(_held)


def check_locks() -> None:
    """Raise UserError if another process has taken over a lock that this process holds.

    It may be on another host, if this process had been suspended, or anywhere, if somebody removed the lock file.
    """
    for line in _held.values():
        if line.lost_to:
            raise UserError(
                f"out: {line.lost_to} has taken over the run folder, because this process did not respond for"
                f" {OBSERVE_SECONDS:.0f} s. This process ends and writes nothing more."
            )
        if (owner := line.replaced_by()) is not None:
            raise UserError(
                f"out: {owner or 'another process'} has taken over the run folder, because {line.path} was removed or replaced"
                " while this process used it. This process ends and writes nothing more."
            )


def has_lost_lock() -> bool:
    """Return whether `check_locks` would raise."""
    return any(line.lost_to or line.replaced_by() is not None for line in _held.values())


def _beat(stop: threading.Event) -> None:
    """Rewrite the owner's lines until `stop` is set."""
    while not stop.wait(HEARTBEAT_SECONDS):
        with _guard:
            for line in _held.values():
                line.beat()


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


def _is_exclusive(descriptor: int) -> bool:
    """Return whether the file system of an open file has locks; False does not end this process's own lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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


def is_in_use(path: Path) -> bool:
    """Return whether a process on any host uses the folder of a lock file, without waiting.

    An owner on another host counts as alive until several calls have found it unchanged for `OBSERVE_SECONDS`.
    """
    if is_locked(path):
        return True
    watch = _watches.setdefault(path, OwnerWatch(path))
    state = watch.look()
    if state != "unknown":
        del _watches[path]
    return state != "dead"


def release_locks() -> None:
    """Release all locks that this process holds, and remove its line from their files."""
    while _threads:
        _threads.pop().set()
    is_quiet = _guard.acquire(timeout=_TIMEOUT_SECONDS)  # a beat may hang in a file system that was lost
    try:
        while _held:
            inode, line = _held.popitem()
            line.clear(restore=inode not in _accepted)
            with suppress(OSError):
                os.close(line.descriptor)
        _accepted.clear()
    finally:
        if is_quiet:
            _guard.release()


def _close_in_child() -> None:
    """Close the locks in a fork, where no thread rewrites them; the files are unchanged."""
    global _guard
    _guard = threading.Lock()  # the parent's thread may hold it
    for each in (_threads, _accepted, _watches):
        each.clear()
    while _held:
        with suppress(OSError):
            os.close(_held.popitem()[1].descriptor)


os.register_at_fork(after_in_child=_close_in_child)
