"""Where runs go: what a slot's processes get, and that nothing outlives a stop."""

import os
import sys
import time
from pathlib import Path

import pytest

from recipes.run import engines
from recipes.run.engines import (
    WAITING,
    Job,
    LocalSlots,
    accelerate_command,
    default_jobs,
    slot_variables,
    visible_devices,
)
from recipes.run.states import acquire, read_state


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.01)


def test_a_job_is_started_by_accelerate_launch() -> None:
    command = accelerate_command(("--num_processes=2",))(Job("pretrain", ("a.yaml", "out=b"), Path("b")))
    assert command[0] == sys.executable
    assert command[1:] == ["-m", "accelerate.commands.launch", "--num_processes=2", "-m", "pretrain", "a.yaml", "out=b"]


def test_slots_share_the_cores_and_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_cores", lambda: 8)
    assert slot_variables(0, 3, ())["OMP_NUM_THREADS"] == "2"
    assert slot_variables(0, 16, ())["OMP_NUM_THREADS"] == "1"
    shares = [slot_variables(number, 2, ("0", "1", "2", "3"))["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert shares == ["0,1", "2,3"]
    shares = [slot_variables(number, 4, ("0", "1"))["CUDA_VISIBLE_DEVICES"] for number in range(4)]
    assert shares == ["0", "0", "1", "1"]
    assert "CUDA_VISIBLE_DEVICES" not in slot_variables(0, 1, ("0", "1"))


def test_threads_wait_asleep_unless_the_user_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    assert slot_variables(0, 1, ())["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert "OMP_WAIT_POLICY" not in slot_variables(0, 1, ())


def test_as_many_runs_at_once_as_devices_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_cores", lambda: 64)
    assert default_jobs(("0", "1")) == 2
    assert default_jobs(()) == 8


def test_devices_are_those_the_caller_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_devices() == ("2", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == ()


def test_a_job_writes_its_command_and_words_to_the_log_and_its_exit_code_comes_back(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import sys; print('said'); sys.exit(4)"]
    slots = LocalSlots(1, lambda job: command)
    job = Job("pretrain", (), tmp_path / "run")
    assert slots.start(job)
    ended: list[tuple[Job, int]] = []
    while not ended:
        ended = slots.ended()
    assert ended == [(job, 4)]
    assert (tmp_path / "run" / "log.txt").read_text().splitlines()[-1] == "said"
    assert slots.ended() == []


def test_a_folder_in_use_is_not_started_twice(tmp_path: Path) -> None:
    lock = acquire(tmp_path / "run")
    assert lock is not None
    slots = LocalSlots(1, lambda job: [sys.executable, "-S", "-c", ""])
    assert not slots.start(Job("pretrain", (), tmp_path / "run"))
    assert read_state(tmp_path / "run") == "running"
    os.close(lock)
    assert slots.start(Job("pretrain", (), tmp_path / "run"))
    slots.stop(5.0)


def test_stop_ends_a_launcher_and_what_it_started_even_if_it_will_not_listen(tmp_path: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); open('{}', 'w').close(); time.sleep(60)"
    child = [sys.executable, "-S", "-c", deaf.format(tmp_path / "child")]
    launcher = f"import subprocess; subprocess.run({child!r})"
    slots = LocalSlots(1, lambda job: [sys.executable, "-S", "-c", launcher])
    assert slots.start(Job("pretrain", (), tmp_path / "run"))
    wait_for(tmp_path / "child")
    begun = time.monotonic()
    slots.stop(0.2)
    assert time.monotonic() - begun < 5
    assert read_state(tmp_path / "run") == "interrupted"  # nobody holds the lock any more
