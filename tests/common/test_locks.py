"""Locks on run folders: a second run is kept out, and nothing holds a folder that no run works in."""

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
from common.locks import RUN_LOCK, is_locked, lock_folder, release_locks, sign_locks

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    release_locks()


def _holding(folder: Path, line: Connection) -> None:
    lock_folder(folder)
    sign_locks()
    line.send("locked")
    line.recv()
    os._exit(0)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Return what ends another process, which works in the folder until then."""
    mine, theirs = FORK.Pipe()
    process = FORK.Process(target=_holding, args=(tmp_path, theirs))
    process.start()
    assert mine.recv() == "locked"

    def end() -> None:
        process.kill()
        process.join()

    yield end
    end()


def test_a_second_process_is_refused_until_the_first_has_ended(
    tmp_path: Path, other: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.1)
    assert is_locked(tmp_path / RUN_LOCK)
    with pytest.raises(UserError, match=r"another process works there \(process \d+ on \S+\)") as told:
        lock_folder(tmp_path)
    assert str(told.value).startswith(f"out = {tmp_path}: ")
    other()
    lock_folder(tmp_path)


def test_who_waits_gets_the_lock_of_a_run_that_is_about_to_end(tmp_path: Path, other: Callable[[], None]) -> None:
    begin = time.monotonic()
    threading.Timer(0.3, other).start()
    lock_folder(tmp_path)
    assert time.monotonic() - begin > 0.25 and is_locked(tmp_path / RUN_LOCK)


def test_a_process_may_lock_its_folder_again_and_release_it(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    lock_folder(tmp_path)
    assert is_locked(tmp_path / RUN_LOCK)
    release_locks()
    assert not is_locked(tmp_path / RUN_LOCK)


def test_a_fork_that_outlives_its_run_holds_nothing(tmp_path: Path) -> None:
    """A loader's worker sees only after seconds that the run was killed; the same command must not wait for it."""
    lock_folder(tmp_path)
    pid = os.fork()
    if pid == 0:
        time.sleep(30)
        os._exit(0)
    release_locks()
    try:
        lock_folder(tmp_path)  # waits until the fork has begun
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)  # it lives
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_look_makes_no_file_and_needs_no_right_to_write(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / RUN_LOCK) and list(tmp_path.iterdir()) == []
    lock_folder(tmp_path)
    (tmp_path / RUN_LOCK).chmod(0o444)
    assert is_locked(tmp_path / RUN_LOCK)


def test_a_file_of_another_member_of_the_group_is_locked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / RUN_LOCK).touch()
    usual = os.open

    def open_(path: Path, flags: int, *rest: int) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return usual(path, flags, *rest)

    monkeypatch.setattr(os, "open", open_)
    lock_folder(tmp_path)
    assert is_locked(tmp_path / RUN_LOCK)


@pytest.mark.parametrize("name", ["ENOLCK", "ENOTSUP", "ENOSYS"])
def test_a_file_system_without_locks_is_passed_over_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    monkeypatch.setattr(fcntl, "flock", fail)
    lock_folder(tmp_path)
    assert "cannot be locked" in caplog.text and not is_locked(tmp_path / RUN_LOCK)
