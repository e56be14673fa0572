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

from common import lock_owner, locks
from common.errors import UserError
from common.lock_owner import OwnerLine
from common.locks import (
    RUN_LOCK,
    accept_locks,
    check_locks,
    has_lost_lock,
    is_in_use,
    is_locked,
    lock_folder,
    release_locks,
)

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def release_after_test() -> Iterator[None]:
    yield
    release_locks()


def _hold_lock(folder: Path, connection: Connection) -> None:
    lock_folder(folder)
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
    assert str(caught.value).startswith(f"out = {tmp_path}: ") and "srun" not in str(caught.value)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    with pytest.raises(UserError, match="srun has started this process 2 times"):
        lock_folder(tmp_path)
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


@pytest.fixture
def other_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnerLine]:
    """Return the owner's line of a process on another host, whose flock is not seen here."""
    monkeypatch.setattr(lock_owner, "OBSERVE_SECONDS", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(lock_owner, "boot_id", lambda: "another-boot")
        patch.setattr(lock_owner.socket, "gethostname", lambda: "node7")
        descriptor = os.open(tmp_path / RUN_LOCK, os.O_RDWR | os.O_CREAT)
        line = OwnerLine(descriptor, tmp_path / RUN_LOCK)
    yield line
    os.close(descriptor)


def test_owner_on_another_host_that_is_alive_is_reported(
    tmp_path: Path, other_host: OwnerLine, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / RUN_LOCK
    before = path.read_text()
    threading.Timer(0.3, lambda: path.write_text(before.replace("beat 000000000001", "beat 000000000002"))).start()
    caplog.set_level("INFO")
    with pytest.raises(UserError, match=r"in use by another process \(process \d+ on node7\)\. Stop it there or wait"):
        lock_folder(tmp_path)
    assert "observing for" in caplog.text and "node7" in path.read_text()
    assert not is_locked(path)


def test_folder_of_a_lost_host_is_taken_over(tmp_path: Path, other_host: OwnerLine) -> None:
    start = time.monotonic()
    lock_folder(tmp_path)
    assert time.monotonic() - start > 0.9 and f"process {os.getpid()} on " in (tmp_path / RUN_LOCK).read_text()


def test_nobody_waits_for_a_run_that_ended(
    tmp_path: Path, other_host: OwnerLine, caplog: pytest.LogCaptureFixture
) -> None:
    other_host.clear(restore=False)
    caplog.set_level("INFO")
    lock_folder(tmp_path)
    accept_locks()
    release_locks()
    assert caplog.text == "" and (tmp_path / RUN_LOCK).read_bytes() == b""


def test_study_waits_for_a_run_on_another_host_without_blocking(tmp_path: Path, other_host: OwnerLine) -> None:
    path = tmp_path / RUN_LOCK
    assert is_in_use(path)
    path.write_text(path.read_text().replace("beat 000000000001", "beat 000000000002"))
    assert is_in_use(path), "alive"
    deadline = time.monotonic() + 60
    while is_in_use(path):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_refused_run_restores_the_lock_file(tmp_path: Path) -> None:
    (tmp_path / RUN_LOCK).write_text("process 1 on there\n")
    before = (tmp_path / RUN_LOCK).stat().st_mtime_ns
    lock_folder(tmp_path)
    assert f"process {os.getpid()} on " in (tmp_path / RUN_LOCK).read_text()
    release_locks()
    assert (tmp_path / RUN_LOCK).read_text() == "process 1 on there\n"
    assert (tmp_path / RUN_LOCK).stat().st_mtime_ns == before


def test_owner_is_rewritten_by_its_process_but_not_by_forks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT_SECONDS", 0.05)
    path = tmp_path / RUN_LOCK
    lock_folder(tmp_path)
    first, deadline = path.read_text(), time.monotonic() + 60
    while path.read_text() == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        os._exit(threading.active_count() + len(locks._held))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1, "the main thread alone, and no lock"
    assert path.read_text().startswith(f"process {os.getpid()} on ")


@pytest.mark.parametrize("name", ["ENOSPC", "ESTALE", "EBADF"])
def test_owner_that_cannot_be_written_does_not_end_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    for function in ("pwrite", "pread", "truncate"):
        monkeypatch.setattr(os, function, fail)
    lock_folder(tmp_path)
    locks._held[next(iter(locks._held))].beat()
    check_locks()
    release_locks()
    assert not is_locked(tmp_path / RUN_LOCK)


def test_run_that_was_suspended_while_another_took_over_writes_nothing_more(tmp_path: Path) -> None:
    lock_folder(tmp_path)
    line, path = next(iter(locks._held.values())), tmp_path / RUN_LOCK
    own = path.read_text()
    line.beat()
    check_locks()
    theirs = own.replace(line._id, "12345678").replace(f"process {os.getpid()}", "process 77")
    path.write_text(theirs)
    line.beat()
    with pytest.raises(UserError, match=r"process 77 on \S+ has taken over the run folder"):
        check_locks()
    release_locks()
    assert path.read_text() == theirs


def test_run_whose_lock_file_was_removed_ends_once_another_run_has_begun(
    tmp_path: Path,
) -> None:
    lock_folder(tmp_path)
    (tmp_path / RUN_LOCK).unlink()
    check_locks()  # nobody else is there
    assert not has_lost_lock()
    (tmp_path / RUN_LOCK).write_text(f"process 77 on elsewhere, boot {lock_owner.boot_id()}, id 12345678, beat 1\n")
    assert has_lost_lock()
    with pytest.raises(UserError, match=r"process 77 on elsewhere has taken over .*run.lock was removed or replaced"):
        check_locks()


def test_file_system_without_locks_is_protected_by_the_owner(
    tmp_path: Path, other: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(UserError, match=r"in use by another process \(process \d+ on "):
        lock_folder(tmp_path)
