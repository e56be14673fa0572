"""Locks on run folders: a second run is rejected, and a folder that no run uses is not locked."""

import errno
import fcntl
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from common import locks
from common.errors import UserError
from common.locks import RUN_LOCK, is_locked, lock_folder, release_locks, write_lock_owner

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def release_after_test() -> Iterator[None]:
    yield
    release_locks()


def _hold_lock(folder: Path, connection: Connection) -> None:
    lock_folder(folder)
    write_lock_owner()
    connection.send("locked")
    connection.recv()
    os._exit(0)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Return a function that kills another process, which uses the folder until then."""
    connection, remote = FORK.Pipe()
    process = FORK.Process(target=_hold_lock, args=(tmp_path, remote))
    process.start()
    assert connection.recv() == "locked"

    def kill() -> None:
        process.kill()
        process.join()

    yield kill
    kill()


def test_second_process_is_rejected_until_the_first_exits(
    tmp_path: Path, other: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_TIMEOUT_SECONDS", 0.1)
    assert is_locked(tmp_path / RUN_LOCK)
    with pytest.raises(UserError, match=r"in use by another process \(process \d+ on \S+\)") as caught:
        lock_folder(tmp_path)
    assert str(caught.value).startswith(f"out = {tmp_path}: ")
    other()
    lock_folder(tmp_path)


def test_waiting_process_gets_the_lock_of_a_run_that_is_exiting(tmp_path: Path, other: Callable[[], None]) -> None:
    start = time.monotonic()
    threading.Timer(0.3, other).start()
    lock_folder(tmp_path)
    assert time.monotonic() - start > 0.25 and is_locked(tmp_path / RUN_LOCK)


def test_lock_is_reentrant_and_can_be_released(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    lock_folder(tmp_path)
    assert is_locked(tmp_path / RUN_LOCK)
    release_locks()
    assert not is_locked(tmp_path / RUN_LOCK)


def test_fork_that_outlives_its_run_holds_no_lock(tmp_path: Path) -> None:
    """A data loader worker notices only after seconds that its run was killed; a rerun must not wait for it."""
    lock_folder(tmp_path)
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    release_locks()
    try:
        lock_folder(tmp_path)  # waits until the fork has started
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # still running
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_is_locked_creates_no_file_and_needs_no_write_permission(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / RUN_LOCK) and list(tmp_path.iterdir()) == []
    lock_folder(tmp_path)
    (tmp_path / RUN_LOCK).chmod(0o444)
    assert is_locked(tmp_path / RUN_LOCK)


def test_lock_file_of_another_group_member_can_be_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / RUN_LOCK).touch()
    original = os.open

    def open_(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return original(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_)
    lock_folder(tmp_path)
    assert is_locked(tmp_path / RUN_LOCK)


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_file_system_without_locks_is_skipped_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", fail)
    lock_folder(tmp_path)
    assert "cannot be locked" in caplog.text and not is_locked(tmp_path / RUN_LOCK)
