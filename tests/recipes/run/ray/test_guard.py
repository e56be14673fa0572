"""The guard of a run: exit codes, signals, and the end of the worker that it reads from."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.locks import try_lock
from recipes.run.ray import guard

READY = "import sys, time, signal, pathlib, subprocess; ready = pathlib.Path(sys.argv[1]); "


def start(folder: Path, code: str, grace: float = 30) -> tuple["subprocess.Popen[bytes]", int]:
    """Start a Python program under a guard that holds a lock; return the guard's first process, and wait for the program."""
    lock = try_lock(folder / "lock")
    assert lock is not None
    command = [sys.executable, "-S", "-c", READY + code, str(folder / "ready")]
    process = subprocess.Popen(
        [sys.executable, "-S", guard.__file__, str(lock), str(grace), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=(lock,),
    )
    os.close(lock)
    deadline = time.monotonic() + 60
    while not (folder / "ready").exists():
        assert time.monotonic() < deadline, "the program does not start"
        time.sleep(0.02)
    return process, process.wait()


def code_of(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit code that the guard prints."""
    assert process.stdout is not None
    return int(process.stdout.read())


def is_free(folder: Path, seconds: float = 30) -> bool:
    """Return whether the lock is free within some time."""
    deadline = time.monotonic() + seconds
    while (lock := try_lock(folder / "lock")) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    os.close(lock)
    return True


def test_the_exit_code_is_printed_and_the_lock_is_free_then(tmp_path: Path) -> None:
    process, _ = start(tmp_path, "ready.touch(); sys.exit(3)")
    assert code_of(process) == 3
    assert is_free(tmp_path)


def test_signals_are_passed_on(tmp_path: Path) -> None:
    code = "signal.signal(15, lambda *_: sys.exit(75)); ready.touch(); time.sleep(60)"
    process, _ = start(tmp_path, code)
    assert process.stdin is not None and try_lock(tmp_path / "lock") is None
    process.stdin.write(b"15\n")
    process.stdin.flush()
    assert code_of(process) == 75


def test_a_killed_run_leaves_no_process_that_it_has_started(tmp_path: Path) -> None:
    child = "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'], start_new_session=True)"
    process, _ = start(tmp_path, f"child = {child}; ready.write_text(str(child.pid)); time.sleep(60)")
    assert process.stdin is not None
    process.stdin.write(b"%d\n" % signal.SIGKILL)
    process.stdin.flush()
    assert code_of(process) == -signal.SIGKILL
    command_line = Path("/proc", (tmp_path / "ready").read_text(), "cmdline")
    deadline = time.monotonic() + 10
    while command_line.exists() and command_line.read_text():  # a zombie has none; a kill takes effect a moment later
        assert time.monotonic() < deadline, "the process is still there"
        time.sleep(0.02)


@pytest.mark.parametrize("ignores", [False, True])
def test_when_the_worker_is_gone_the_run_saves_and_is_killed_after_the_grace(tmp_path: Path, ignores: bool) -> None:
    handler = "signal.SIG_IGN" if ignores else "lambda *_: (ready.write_text('saved'), sys.exit(75))"
    process, _ = start(
        tmp_path, f"signal.signal(15, {handler}); ready.touch(); time.sleep(60)", grace=0.3 if ignores else 30
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    assert is_free(tmp_path)
    assert (tmp_path / "ready").read_text() == ("" if ignores else "saved")
