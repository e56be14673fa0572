"""Tests of the GPU benchmark; without a GPU it runs tiny networks on the CPU, so that it is complete when there is one."""

import dataclasses
import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import gpu, isolated
from benchmarks.isolated import Setting
from benchmarks.reference_deit import SupervisedSetting
from benchmarks.reference_dino import DinoSetting

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {"model": "vit_mini", "batch": 8, "workers": 0, "warmup_steps": 1, "steps": 2, "side": 16, "device": DEVICE}
SETTINGS: dict[str, Setting] = {
    "pretrain": DinoSetting(**TINY, global_size=16, local_size=8, num_local=2, out_dim=32),
    "finetune": SupervisedSetting(**TINY, image_size=16),
}
NAMES = [name for name in gpu.STAGES["pretrain"].variants if "compiled" not in name]  # compilation takes a minute


@pytest.fixture(autouse=True)
def reset_precision() -> Iterator[None]:
    """Let every test choose its precision: accelerate keeps the first run's for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def call_here(function: str, *, setting: Setting, **arguments: Any) -> dict[str, Any]:
    """Call a function in this process instead of in one of its own."""
    if function == "benchmarks.isolated:matmul_rates":
        return {"fp32": 1.0, "bf16": 100.0}
    module, name = function.split(":")
    result: dict[str, Any] = getattr(importlib.import_module(module), name)(
        setting=dataclasses.asdict(setting), **arguments
    )
    return result


@pytest.mark.long
@pytest.mark.parametrize("stage", gpu.STAGES)
def test_the_table_of_a_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "call", call_here)
    table = gpu.measure_stage(stage, NAMES, SETTINGS[stage], deadline=time.monotonic() + 1e4)
    assert table is not None
    assert [row.variant.partition(";")[0] for row in table.rows] == NAMES
    assert "vit_mini/4" in table.title and table.title.endswith("batch 8, 0 workers")
    assert all(row.median_ms > 0 and row.memory_mb for row in table.rows)
    rate = 1000 / table.rows[0].median_ms
    utilization = rate * 2 * gpu.STAGES[stage].macs(SETTINGS[stage]) / 100e9
    assert f"; {rate:,.1f} images/s, utilization {utilization:.1%}, first step " in table.rows[0].variant
    by_name = {row.variant.partition(";")[0]: row.variant for row in table.rows}
    assert by_name["ours, bf16"].endswith("% waiting for data") and "of /dev/shm were free" in table.limit
    assert "utilization" not in by_name[gpu.VIEWS] and "waiting" not in by_name["reference, fp32"]


def test_variants_that_would_begin_too_late_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(isolated, "call", call_here)
    table = gpu.measure_stage("finetune", ["ours, bf16", gpu.DATA], SETTINGS["finetune"], deadline=time.monotonic())
    assert table is None
    assert "finetune: out of time before ours, bf16\nfinetune: out of time before ours, data" in capsys.readouterr().out


def test_stage_variant_and_batch_are_chosen_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        gpu, "measure_stage", lambda stage, names, setting, **_: found.append((stage, names, setting.batch))
    )
    words = ["--stage", "pretrain", "--variant", "ours, bf16, step only", "--variant", gpu.DATA, "--batch", "64"]
    assert gpu.main(words) == 0 and gpu.main([]) == 0
    assert found[0] == ("pretrain", ["ours, bf16, step only", gpu.DATA], 64)
    assert [(stage, batch) for stage, _, batch in found[1:]] == [("pretrain", 256), ("finetune", 256)]
    for wrong in (["--stage", "knn"], ["--variant", "ours"], ["--batch", "3"]):
        with pytest.raises(SystemExit, match="2"):
            gpu.main(wrong)


@pytest.mark.parametrize("stage", gpu.STAGES)
def test_step_only_loads_one_batch(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    setting = dataclasses.replace(SETTINGS[stage], workers=2)  # the batch is loaded in this process nevertheless
    original = importlib.import_module("common.data.sources.split").Split.image
    monkeypatch.setattr(
        "common.data.sources.split.Split.image",
        lambda split, index: (loaded.append(index), original(split, index))[1],
    )
    gpu.measure(stage, "ours, bf16, step only", dataclasses.asdict(setting))
    assert len(loaded) == setting.batch


@pytest.mark.parametrize("stage", gpu.STAGES)
def test_data_loading_only_takes_no_step(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for trainer in ("pretrain.train.Pretraining", "finetune.train.Finetuning"):
        monkeypatch.delattr(f"{trainer}._train_step")
    assert gpu.measure(stage, gpu.DATA, dataclasses.asdict(SETTINGS[stage]))["seconds_per_step"] > 0


def test_a_batch_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "call", lambda *_, setting, **__: {"fits": setting.batch <= 64})
    assert gpu.measure_fitting("pretrain", "reference, fp32", Setting(batch=256))[0].batch == 64
    found = {"seconds_per_step": 0.128, "memory_mb": 7.0}
    row = gpu.describe("reference, fp32", found, 0.001, batch=64, full=256)
    assert row.variant == "reference, fp32, batch 64 as 128 does not fit; 500.0 images/s, utilization 50.0%"
    monkeypatch.setattr(isolated, "call", lambda *_, **__: {"fits": False})
    with pytest.raises(RuntimeError, match="not even a batch of 2"):
        gpu.measure_fitting("pretrain", "reference, fp32", Setting(batch=256))


def test_out_of_memory_is_not_an_error_while_the_batch_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def time_steps(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(isolated, "time_steps", time_steps)
    setting = dataclasses.asdict(SETTINGS["pretrain"])
    assert gpu.measure("pretrain", "reference, fp32", setting) == {"fits": False}


class Started(Exception):
    """Raised instead of starting a process."""


def test_a_process_uses_the_device_of_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    environments: list[dict[str, str]] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> Any:
        environments.append(env)
        raise Started

    monkeypatch.setattr(isolated.subprocess, "run", run)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    for device in ("cpu", "cuda"):
        with pytest.raises(Started):
            isolated.call("benchmarks.isolated:matmul_rates", setting=Setting(device=device))
    assert [env.get("ACCELERATE_USE_CPU") for env in environments] == ["true", None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is available and would be measured")
def test_without_a_gpu_the_benchmark_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.run(7) == []
    assert capsys.readouterr().out == "gpu: skipped, no CUDA device is available\n"
