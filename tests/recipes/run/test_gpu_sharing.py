"""Runs that share a GPU by default: those with small steps, as many as cores and free memory suffice for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.errors import UserError
from common.training.cost import Cost
from recipes.run import gpu_sharing, slots
from recipes.run.build_engine import EngineOptions
from recipes.run.gpu_sharing import SMALL_STEP_MACS, Gpu, read_gpus, runs_per_gpu
from recipes.study.full_plan import largest_step
from recipes.study.plan import Plan

GIB = 2**30
ONE = Gpu("0", "GPU-a", 80.0 * GIB, True)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """machine(*gpus, cores=16): what the machine has."""

    def have(*gpus: Gpu, cores: int = 16) -> None:
        monkeypatch.setattr(gpu_sharing, "read_gpus", lambda: list(gpus))
        monkeypatch.setattr(gpu_sharing, "available_cores", lambda: cores)
        monkeypatch.setattr(slots, "visible_devices", lambda: tuple(gpu.number for gpu in gpus))

    have(ONE)
    return have


@pytest.mark.parametrize(
    ("macs", "count"), [(1e9, 4), (SMALL_STEP_MACS, 4), (1.01 * SMALL_STEP_MACS, 1), (1e13, 1), (None, 1)]
)
def test_runs_with_small_steps_share_a_gpu(machine: Callable[..., None], macs: float | None, count: int) -> None:
    assert runs_per_gpu(["0"], lambda: macs) == runs_per_gpu(["GPU-a"], lambda: macs) == count


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (3, 1), (4, 2), (6, 3), (64, 4)])
def test_cores_limit_them(machine: Callable[..., None], cores: int, count: int) -> None:
    machine(ONE, cores=cores)
    assert runs_per_gpu(["0"], lambda: 1e9) == count


@pytest.mark.parametrize(("gibibytes", "count"), [(2, 1), (7.9, 1), (8, 2), (15, 3), (80, 4)])
def test_the_least_free_memory_limits_them(machine: Callable[..., None], gibibytes: float, count: int) -> None:
    machine(ONE, Gpu("1", "GPU-b", gibibytes * GIB, True), cores=64)
    assert runs_per_gpu(["0", "1"], lambda: 1e9) == count
    assert runs_per_gpu(["0"], lambda: 1e9) == 4


@pytest.mark.parametrize("devices", [[], ["7"], ["0", "7"], ["MIG-1"], ["1"]])
def test_a_gpu_that_is_unknown_or_for_one_process_is_not_shared(
    machine: Callable[..., None], devices: list[str]
) -> None:
    machine(ONE, Gpu("1", "GPU-b", 80.0 * GIB, False))
    assert runs_per_gpu(devices, lambda: pytest.fail("is not asked")) == 1


def test_options_of_the_command_line_count(machine: Callable[..., None]) -> None:
    lines: list[str] = []
    machine(ONE, replace_number(ONE, "1"))
    assert EngineOptions().sharing_gpus(lambda: 1e9, lines.append).jobs == 8
    assert lines == ["4 runs share a GPU, as their steps are small; --jobs 2 runs one on each"]
    for options in (EngineOptions(jobs=1), EngineOptions("slurm"), EngineOptions(accelerate_args=("--multi_gpu",))):
        assert options.sharing_gpus(lambda: pytest.fail("is not asked"), lines.append) is options
    machine()
    assert EngineOptions().sharing_gpus(lambda: 1e9, lines.append) == EngineOptions()


def replace_number(gpu: Gpu, number: str) -> Gpu:
    """Return another GPU of the same kind."""
    return gpu._replace(number=number, uuid=f"GPU-{number}")


def test_nvidia_smi_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    rows = "0, GPU-a, 81038, Default\n1, GPU-b, 1024, Exclusive_Process\n2, GPU-c, [N/A], Default\nno devices\n"
    tool.write_text(f"#!/bin/sh\nprintf '{rows}'\nexit 3\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_gpus() == [Gpu("0", "GPU-a", 81038 * 2.0**20, True), Gpu("1", "GPU-b", GIB, False)]
    tool.unlink()
    assert read_gpus() == []


def test_the_largest_step_of_a_plan(plan: Plan) -> None:
    sizes = {run.id: at for at, run in enumerate(plan.runs)}

    def cost(run: object) -> Cost:
        at = sizes[run.id]  # type: ignore[attr-defined]
        return Cost(steps=10 if at else 0, images=100, macs_per_image=at)

    assert largest_step(plan, SimpleNamespace(of=cost)) == 10.0 * (len(plan.runs) - 1)
    assert largest_step(replace(plan, runs=plan.runs[:1]), SimpleNamespace(of=cost)) is None, "it trains nothing"

    def fail(run: object) -> Cost:
        raise UserError("its weights are not here")

    assert largest_step(plan, SimpleNamespace(of=fail)) is None
