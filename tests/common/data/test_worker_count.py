"""Numbers of loader workers and decoding threads: as set, or by device, cores and shared memory."""

from types import SimpleNamespace

import pytest

from common.config import build
from common.cores import SHARE, process_cores
from common.data import worker_count
from common.data.config import DataConfig
from common.data.worker_count import count_threads, count_workers
from common.errors import UserError
from recipes.run.environment import run_environment


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have 8 cores, 64 GiB of shared memory, and no launcher's variables."""
    monkeypatch.setattr("common.cores.available_cores", lambda: 8)
    monkeypatch.setattr(worker_count, "available_cores", lambda: 8)
    for name in (SHARE, "LOCAL_WORLD_SIZE", "WORLD_SIZE", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    share_memory(monkeypatch, 64 * 2**30)


def share_memory(monkeypatch: pytest.MonkeyPatch, size: int, free: int | None = None) -> None:
    """Have shared memory of a size in bytes, all of it free by default."""
    blocks, available = size // 4096, (size if free is None else free) // 4096
    status = SimpleNamespace(f_blocks=blocks, f_bavail=available, f_frsize=4096)
    monkeypatch.setattr(worker_count.os, "statvfs", lambda _: status)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 2, 40])
def test_a_number_is_taken_as_it_is(workers: int, on_gpu: bool) -> None:
    assert count_workers(workers, on_gpu=on_gpu) == workers and count_threads(workers) == max(1, workers)


def test_a_cpu_has_two_workers() -> None:
    assert DataConfig().workers == "auto" and count_workers("auto", on_gpu=False) == 2


@pytest.mark.parametrize(("cores", "workers", "threads"), [(1, 1, 1), (2, 1, 2), (8, 7, 8), (17, 16, 16), (96, 16, 16)])
def test_a_gpu_has_a_worker_for_each_core_but_one(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr("common.cores.available_cores", lambda: cores)
    assert (count_workers("auto", on_gpu=True), count_threads("auto")) == (workers, threads)


@pytest.mark.parametrize(("mebibytes", "workers"), [(0, 2), (64, 2), (1024, 4), (2048, 7)])
def test_shared_memory_limits_the_workers(monkeypatch: pytest.MonkeyPatch, mebibytes: int, workers: int) -> None:
    share_memory(monkeypatch, mebibytes * 2**20)
    assert count_workers("auto", on_gpu=True) == workers


@pytest.mark.parametrize(
    ("variables", "cores", "workers"),
    [
        ({"LOCAL_WORLD_SIZE": "8"}, 128, 4),  # 8 GiB for 8 processes
        ({SHARE: "16"}, 128, 4),  # 8 runs of a study
        ({"WORLD_SIZE": "16", "SLURM_NTASKS_PER_NODE": "8"}, 128, 4),
        ({"SLURM_NTASKS_PER_NODE": "8"}, 128, 16),  # a run of one process in an allocation for more
        ({"WORLD_SIZE": "16", "SLURM_NTASKS_PER_NODE": "8"}, 16, 4),  # cores bound to each task
    ],
)
def test_processes_and_runs_divide_the_shared_memory(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], cores: int, workers: int
) -> None:
    share_memory(monkeypatch, 8 * 2**30)
    monkeypatch.setattr("common.cores.available_cores", lambda: cores)
    monkeypatch.setattr(worker_count, "available_cores", lambda: cores)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert count_workers("auto", on_gpu=True) == workers


def test_shared_memory_that_others_fill_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    share_memory(monkeypatch, 64 * 2**30, free=2**30)
    assert count_workers("auto", on_gpu=True) == 4


def test_a_system_without_shared_memory_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(worker_count.os, "statvfs", fail)
    assert count_workers("auto", on_gpu=True) == 7


@pytest.mark.parametrize(
    ("share", "processes", "cores"),
    [("", "", 8), ("", "4", 2), ("", "16", 1), ("3", "4", 3), ("3", "", 3), ("x", "0", 8), ("0", "2", 4)],
)
def test_the_processes_of_a_run_and_the_runs_of_a_study_divide_the_cores(
    monkeypatch: pytest.MonkeyPatch, share: str, processes: str, cores: int
) -> None:
    monkeypatch.setenv(SHARE, share)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert process_cores() == cores


def test_a_study_gives_each_process_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in run_environment(3).items():
        monkeypatch.setenv(name, value)
    assert process_cores() == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("atuo", "workers = 'atuo': must be an integer or auto. Did you mean auto?"),
        (1.5, "workers = 1.5: must be an integer or auto."),
        ([1], "workers = [1]: must be an integer or auto."),
        (-1, "workers: -1 must be at least 0 and at most 1024"),
    ],
)
def test_other_values_are_one_problem(value: object, message: str) -> None:
    with pytest.raises(UserError) as raised:
        build(DataConfig, {"workers": value}, source="the recipe")
    assert str(raised.value).splitlines()[1:] == [f"  {message}"]
