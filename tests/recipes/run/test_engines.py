"""Engines: the environment of a slot's processes, and that no process survives a stop."""

import os
import sys
import time
from pathlib import Path

import pytest

from recipes.run import engines
from recipes.run.engine import Job, JobEnd
from recipes.run.engines import (
    LocalSlots,
    accelerate_command,
    default_jobs,
    slot_environment,
    visible_devices,
)
from recipes.run.environment import OPENMP_WAIT_VARIABLES
from recipes.run.states import lock_run_folder, read_state


def wait_for(path: Path) -> None:
    """Wait until a file exists."""
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} was not created"
        time.sleep(0.01)


def test_a_job_is_started_by_accelerate_launch() -> None:
    command = accelerate_command(("--num_processes=2",))(Job("pretrain", ("a.yaml", "out=b"), Path("b")))
    assert command[0] == sys.executable
    assert command[1:] == ["-m", "common.launch", "--num_processes=2", "-m", "pretrain", "a.yaml", "out=b"]


def test_slots_share_the_cores_and_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_cores", lambda: 8)
    assert slot_environment(0, 3, ())["OMP_NUM_THREADS"] == "2"
    assert slot_environment(0, 16, ())["OMP_NUM_THREADS"] == "1"
    shares = [slot_environment(number, 2, ("0", "1", "2", "3"))["CUDA_VISIBLE_DEVICES"] for number in range(2)]
    assert shares == ["0,1", "2,3"]
    shares = [slot_environment(number, 4, ("0", "1"))["CUDA_VISIBLE_DEVICES"] for number in range(4)]
    assert shares == ["0", "0", "1", "1"]
    assert "CUDA_VISIBLE_DEVICES" not in slot_environment(0, 1, ("0", "1"))


def test_threads_wait_passively_unless_the_user_has_set_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPENMP_WAIT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert slot_environment(0, 1, ())["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    assert "OMP_WAIT_POLICY" not in slot_environment(0, 1, ())


def test_default_jobs_are_devices_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "available_cores", lambda: 64)
    assert default_jobs(("0", "1")) == 2
    assert default_jobs(()) == 8


def test_devices_are_those_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_devices() == ("2", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_devices() == ()


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        ("NoDevFiles", ()),  # in a job of Slurm without GPUs
        ("-1", ()),
        ("all", ()),
        ("0, 1", ("0", "1")),
        ("0,-1,1", ("0",)),
        ("1,1", ()),
        ("GPU-8932f937-d72c,MIG-89c850dc", ("GPU-8932f937-d72c", "MIG-89c850dc")),
    ],
)
def test_devices_are_counted_as_cuda_counts_them(
    monkeypatch: pytest.MonkeyPatch, text: str, devices: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert visible_devices() == devices


def test_the_log_has_command_and_output_of_a_job_and_its_exit_code_is_returned(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", "import sys; print('output'); sys.exit(4)"]
    slots = LocalSlots(1, lambda job: command)
    job = Job("pretrain", (), tmp_path / "run")
    assert slots.start([job]) == [(job, True)]
    finished: list[JobEnd] = []
    while not finished:
        finished = slots.finished()
    assert finished == [JobEnd(job, "exit code 4")]
    assert (tmp_path / "run" / "log.txt").read_text().splitlines()[-2:] == ["output", "# failed: exit code 4"]
    assert slots.finished() == []


def test_a_job_does_not_start_in_a_locked_folder(tmp_path: Path) -> None:
    lock = lock_run_folder(tmp_path / "run")
    assert lock is not None
    slots = LocalSlots(1, lambda job: [sys.executable, "-S", "-c", ""])
    job = Job("pretrain", (), tmp_path / "run")
    assert slots.start([job]) == [(job, False)]
    assert read_state(tmp_path / "run") == "running"
    os.close(lock)
    assert slots.start([job]) == [(job, True)]
    slots.stop(5.0)


def test_stop_kills_a_launcher_and_its_processes_even_if_they_ignore_sigterm(tmp_path: Path) -> None:
    ignoring = "import signal, time; signal.signal(15, signal.SIG_IGN); open('{}', 'w').close(); time.sleep(60)"
    child = [sys.executable, "-S", "-c", ignoring.format(tmp_path / "child")]
    launcher = f"import subprocess; subprocess.run({child!r})"
    slots = LocalSlots(1, lambda job: [sys.executable, "-S", "-c", launcher])
    slots.start([Job("pretrain", (), tmp_path / "run")])
    wait_for(tmp_path / "child")
    start = time.monotonic()
    slots.stop(0.2)
    assert time.monotonic() - start < 5
    assert read_state(tmp_path / "run") == "interrupted"  # no process holds the lock
