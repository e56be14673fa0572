"""Tests of the program that looks inside a GPU's step; without a GPU it looks inside tiny ones on the CPU."""

import time
import warnings
from collections.abc import Iterator

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import gpu_step
from benchmarks.gpu_step import Kernel, find_kernels, find_waits, look, time_part
from benchmarks.isolated import Setting
from benchmarks.reference_deit import SupervisedSetting
from benchmarks.reference_dino import DinoSetting

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {"model": "vit_mini", "batch": 8, "workers": 0, "warmup_steps": 1, "steps": 2, "side": 16, "device": DEVICE}
SETTINGS: dict[str, Setting] = {
    "pretrain": DinoSetting(**TINY, global_size=16, local_size=8, num_local=2, out_dim=32),
    "finetune": SupervisedSetting(**TINY, image_size=16),
}


@pytest.fixture(autouse=True)
def reset_precision() -> Iterator[None]:
    """Let every test choose its precision: accelerate keeps the first run's for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("stage", SETTINGS)
def test_what_is_inside_a_step(stage: str) -> None:
    found = look(stage, SETTINGS[stage], precision="fp32")
    assert found.waits == ()
    times = {duration.part.strip(): duration.done_ms for duration in found.durations}
    assert times["the whole step, from a batch on the CPU"] > times["copy of the batch to the device"]
    assert ("of it the teacher" in times) is (stage == "pretrain")
    assert ("color of (16, 3, 16, 16)" in times) is (stage == "pretrain")  # two global views of eight images
    assert len(found.kernels) == gpu_step.LONGEST
    assert [kernel.ms for kernel in found.kernels] == sorted((kernel.ms for kernel in found.kernels), reverse=True)
    lines = list(gpu_step.describe(found))
    assert lines[0] == "waits: 0" and len(lines) == 3 + len(found.durations) + len(found.kernels) + (DEVICE == "cuda")


def test_a_part_is_timed_by_call_and_after_warm_up() -> None:
    calls: list[float] = []

    def part() -> None:
        calls.append(0.2 if len(calls) < 3 else 0.01)
        time.sleep(calls[-1])

    found = time_part("a part", part, "cpu", repeats=5)
    assert len(calls) == 8 and found.part == "a part"
    assert 10 <= found.done_ms < 100 and found.launched_ms <= found.done_ms


def test_waits_are_the_warnings_about_synchronization(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step() -> None:
        assert modes == ["warn"]
        warnings.warn("called a synchronizing CUDA operation", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    (place,) = find_waits(step, "cuda")
    assert place.endswith("called a synchronizing CUDA operation") and "test_gpu_step.py:" in place
    assert modes == ["warn", "default"]


def test_operations_are_counted_per_step() -> None:
    matrix = torch.ones(64, 64)
    found = find_kernels(lambda: (matrix @ matrix, matrix @ matrix), "cpu", steps=4)
    (product,) = (kernel for kernel in found if kernel.name == "aten::mm")
    assert product == Kernel("aten::mm", product.ms, 2.0) and product.ms > 0


def test_the_batch_is_even() -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_step.main(["--batch", "3"])
