"""Forked runs: output, environment, arguments, exit code and lock of their own."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import UserError
from recipes.run.engine import Job
from recipes.run.engines import LocalSlots
from recipes.run.forkserver import Forkserver
from recipes.run.states import LOG, lock_run_folder

STAGE = """
import os, sys, time
import slow
print("arguments", sys.argv[1:], "variable", os.environ["OMP_NUM_THREADS"], "preloaded", slow.imported_in != os.getpid())
if "sleep" in sys.argv:
    time.sleep(60)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSlots]:
    """Two slots whose runs are forks; the module `slow` stores the process that imported it."""
    (tmp_path / "stage.py").write_text(STAGE)
    (tmp_path / "slow.py").write_text("import os\nimported_in = os.getpid()\n")
    path = os.pathsep.join((str(tmp_path), str(Path(__file__).resolve().parents[3])))
    monkeypatch.setenv("PYTHONPATH", path)
    server = Forkserver([sys.executable, "-m", "recipes.run.forkserver", "slow"], {"PYTHONPATH": path})
    slots = LocalSlots(2, lambda job: ["launch", job.module], forkserver=server)
    yield slots
    slots.stop(1.0)


def wait(slots: LocalSlots, number: int) -> dict[str, int | str]:
    """Wait until `number` runs have finished; return their exit codes, or in words what killed them, by folder name."""
    codes: dict[str, int | str] = {}
    deadline = time.monotonic() + 30
    while len(codes) < number and time.monotonic() < deadline:
        ends = {end.job.folder.name: end.how.removeprefix("exit code ") for end in slots.finished()}
        codes |= {name: int(how) if how.isdecimal() else how for name, how in ends.items()}
        time.sleep(0.02)
    return codes


def job(folder: Path, *arguments: str) -> Job:
    folder.mkdir(exist_ok=True)
    return Job("stage", arguments, folder)


def test_runs_have_their_own_output_arguments_and_exit_code(slots: LocalSlots, tmp_path: Path) -> None:
    taken = slots.start([job(tmp_path / "a", "0", "x=1"), job(tmp_path / "b", "3")])
    assert [is_started for _, is_started in taken] == [True, True]
    assert wait(slots, 2) == {"a": 0, "b": 3}
    log = (tmp_path / "a" / LOG).read_text()
    assert log.startswith("$ launch stage\n") and "arguments ['0', 'x=1']" in log and "preloaded True" in log
    assert "x=1" not in (tmp_path / "b" / LOG).read_text()


def test_a_traceback_is_in_the_log_of_its_run(slots: LocalSlots, tmp_path: Path) -> None:
    slots.start([job(tmp_path / "a", "not a number")])
    assert wait(slots, 1) == {"a": 1}
    assert "ValueError: invalid literal" in (tmp_path / "a" / LOG).read_text()


def test_a_run_holds_its_lock_until_it_ends(slots: LocalSlots, tmp_path: Path) -> None:
    slots.start([job(tmp_path / "a", "0", "sleep")])
    assert lock_run_folder(tmp_path / "a") is None
    slots.stop(5.0)
    lock = lock_run_folder(tmp_path / "a")
    assert lock is not None
    os.close(lock)


def test_a_killed_run_returns_its_signal_and_other_runs_still_start(slots: LocalSlots, tmp_path: Path) -> None:
    slots.start([job(tmp_path / "a", "0", "sleep")])
    process = slots._slots[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    assert wait(slots, 1) == {"a": "killed by SIGKILL"}
    slots.start([job(tmp_path / "b", "0")])
    assert wait(slots, 1) == {"b": 0}


def test_a_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    server = Forkserver([sys.executable, "-c", "raise SystemExit(1)"], {})
    with pytest.raises(UserError, match="--no-prefork"):
        LocalSlots(1, lambda job: [], forkserver=server).start([job(tmp_path / "a", "0")])


def test_socket_is_elsewhere_if_the_folder_of_temporary_files_has_too_long_a_path(
    slots: LocalSlots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert slots.start([job(tmp_path / "a", "0")])
    assert wait(slots, 1) == {"a": 0}
