"""Tests that require a GPU; skipped without one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import read_losses, read_result

from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.rng import SampleKey

Stage = Callable[..., int]

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="requires a GPU")


@pytest.fixture(autouse=True)
def reset_accelerator_state() -> Iterator[None]:
    """Reset accelerate's state, which keeps the first precision of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear"])
def test_stage_runs_in_every_precision(stage: Stage, tmp_path: Path, name: str, precision: str) -> None:
    assert stage(name, tmp_path / "run", f"train.precision={precision}", "model.stem=conv") == 0
    assert read_result(tmp_path / "run")["status"] != "diverged"
    assert len(read_losses(tmp_path / "run")) == 8


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["knn", "probe", "tokens"])
def test_evaluation_of_a_frozen_backbone_runs_in_every_precision(
    stage: Stage, tmp_path: Path, name: str, precision: str
) -> None:
    assert stage(name, tmp_path / "run", f"train.precision={precision}", "model.stem=conv") == 0
    assert read_result(tmp_path / "run")["status"] == "finished"


def test_sam_in_bf16(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "run", "train.precision=bf16", "optim.name=sam") == 0
    assert read_result(tmp_path / "run")["status"] == "finished"


def test_color_augmentation_is_the_same_on_the_gpu() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in range(8)]
    keys = [SampleKey(0, number, number, 0) for number in range(8)]
    views = build_multi_crop(CropsConfig(global_size=32, local_size=16), 0, color_in_worker=False)(images, keys)
    for block, records in zip(views.blocks, views.parameters, strict=True):
        crops, records = block.flatten(0, 1), records.flatten(0, 1)
        on_cpu = apply_on_batch(crops, records, sigma_limit=2.0)
        on_gpu = apply_on_batch(crops.cuda(), records.cuda(), sigma_limit=2.0).cpu()
        assert (on_cpu - on_gpu).abs().mean() < 0.05
