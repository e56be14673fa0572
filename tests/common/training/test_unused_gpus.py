"""A run on the CPU of a machine with GPUs says why, unless it is meant to be there."""

from pathlib import Path

import pytest
import torch

from common.training.unused_gpus import warn_of_unused_gpus


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of devices with two GPUs, which PyTorch cannot use."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    return tmp_path


@pytest.mark.parametrize(
    ("version", "environment", "reason"),
    [
        (None, {}, "is built without CUDA: install one with it"),
        ("13.0", {}, "needs a driver for CUDA 13.0"),
        ("13.0", {"CUDA_VISIBLE_DEVICES": "7"}, "CUDA_VISIBLE_DEVICES is '7': correct or unset it"),
        ("13.0", {"CUDA_VISIBLE_DEVICES": "0"}, "needs a driver for CUDA 13.0"),
        ("13.0", {"CUDA_VISIBLE_DEVICES": "MIG-1f"}, "needs a driver for CUDA 13.0"),
        ("13.0", {"SLURM_JOB_ID": "7", "SLURM_JOB_GPUS": "0"}, "needs a driver for CUDA 13.0"),
        ("13.0", {"SLURM_JOB_ID": "7", "SLURM_STEP_GPUS": "0"}, "needs a driver for CUDA 13.0"),
        ("13.0", {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "0"}, "needs a driver for CUDA 13.0"),
    ],
)
def test_the_reason_is_named(
    devices: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    version: str | None,
    environment: dict[str, str],
    reason: str,
) -> None:
    monkeypatch.setattr(torch.version, "cuda", version)
    warn_of_unused_gpus(environment, devices)
    assert "on the CPU, although the machine has GPUs (2)" in caplog.text and reason in caplog.text


@pytest.mark.parametrize(
    "environment",
    [
        {"ACCELERATE_USE_CPU": "true"},
        {"CUDA_VISIBLE_DEVICES": ""},
        {"CUDA_VISIBLE_DEVICES": "NoDevFiles"},
        {"SLURM_JOB_ID": "7"},
    ],
)
def test_a_run_that_is_meant_to_be_on_the_cpu_says_nothing(
    devices: Path, caplog: pytest.LogCaptureFixture, environment: dict[str, str]
) -> None:
    warn_of_unused_gpus(environment, devices)
    assert not caplog.text


def test_a_machine_without_gpus_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    warn_of_unused_gpus({}, tmp_path)
    assert not caplog.text
