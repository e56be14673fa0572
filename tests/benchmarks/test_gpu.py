"""The benchmark of GPUs runs, on a CPU with tiny networks where there is no GPU, so that it is whole when there is one."""

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState

from benchmarks import gpu, isolated
from benchmarks.isolated import Setting
from benchmarks.plain_deit import SupervisedSetting
from benchmarks.plain_dino import DinoSetting
from benchmarks.timing import Row

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TINY = {"model": "vit_mini", "batch": 8, "workers": 0, "warm_up": 1, "steps": 2, "side": 16, "device": DEVICE}
SETTINGS: dict[str, Setting] = {
    "pretrain": DinoSetting(**TINY, global_size=16, local_size=8, local_count=2, outputs=32),
    "finetune": SupervisedSetting(**TINY, image_size=16),
}
NAMES = [name for name in gpu.STAGES["pretrain"].variants if "compiled" not in name]  # compiling takes a minute


@pytest.fixture(autouse=True)
def free_precision() -> Iterator[None]:
    """Let every test choose its precision: accelerate keeps that of the first run for the process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def call_here(function: str, *, setting: Setting, **arguments: Any) -> dict[str, Any]:
    """Do in this process what the benchmark does in one of its own."""
    if function == "benchmarks.isolated:rates":
        return {"fp32": 1.0, "bf16": 100.0}
    module, name = function.split(":")
    found: dict[str, Any] = getattr(importlib.import_module(module), name)(
        setting=dataclasses.asdict(setting), **arguments
    )
    return found


@pytest.mark.parametrize("stage", gpu.STAGES)
def test_the_table_of_a_stage(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "call", call_here)
    table = gpu.compare_loops(stage, NAMES, 1, SETTINGS[stage])
    assert [row.variant.partition(";")[0] for row in table.rows] == NAMES
    assert "vit_mini/4" in table.title and table.title.endswith("batch 8, 0 workers")
    assert all(row.median_ms > 0 and row.memory_mb for row in table.rows)
    rate = 1000 / table.rows[0].median_ms
    share = rate * 2 * gpu.STAGES[stage].multiply_adds(SETTINGS[stage]) / 100e9
    assert table.rows[0].variant.endswith(f"; {rate:,.1f} images/s, utilisation {share:.1%}")


@pytest.mark.parametrize("stage", gpu.STAGES)
def test_the_step_alone_loads_one_batch(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    setting = dataclasses.replace(SETTINGS[stage], workers=2)  # it comes from this process for all that
    files = "common.data.sources.split.Split.image"
    original = importlib.import_module("common.data.sources.split").Split.image
    monkeypatch.setattr(files, lambda split, index: (loaded.append(index), original(split, index))[1])
    gpu.measure(stage, "ours, bf16, the step alone", dataclasses.asdict(setting))
    assert len(loaded) == setting.batch


@pytest.mark.parametrize("stage", gpu.STAGES)
def test_the_data_path_alone_takes_no_step(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for trainer in ("pretrain.train.Pretraining", "finetune.train.Finetuning"):
        monkeypatch.delattr(f"{trainer}._train_step")
    assert gpu.measure(stage, gpu.DATA, dataclasses.asdict(SETTINGS[stage]))["seconds_per_step"] > 0


def test_a_batch_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated, "call", lambda *_, setting, **__: {"fits": setting.batch <= 64})
    assert gpu.fit("pretrain", "plain, fp32", Setting(batch=256)).batch == 64
    row = gpu.describe(Row("plain, fp32", 2.0, 1.0, 3.0, 1.0), 0.001, batch=64, wanted=256)
    assert row.variant == "plain, fp32, batch 64 as 128 does not fit; 500.0 images/s, utilisation 50.0%"
    monkeypatch.setattr(isolated, "call", lambda *_, **__: {"fits": False})
    with pytest.raises(RuntimeError, match="not even a batch of 2"):
        gpu.fit("pretrain", "plain, fp32", Setting(batch=256))


def test_running_out_of_memory_is_no_error_while_a_batch_is_sought(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(gpu, "measure", measure)
    assert gpu.fits("pretrain", "plain, fp32", {}) == {"fits": False}


class Started(Exception):
    """A process would have been started."""


def test_the_device_of_a_process_is_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> Any:
        given.append(env)
        raise Started

    monkeypatch.setattr(isolated.subprocess, "run", run)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    for device in ("cpu", "cuda"):
        with pytest.raises(Started):
            isolated.call("benchmarks.isolated:rates", setting=Setting(device=device))
    assert [env.get("ACCELERATE_USE_CPU") for env in given] == ["true", None]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, which would be measured")
def test_without_a_gpu_one_sentence_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.run(7) == []
    assert capsys.readouterr().out == "gpu: skipped, torch sees no CUDA device on this machine\n"
