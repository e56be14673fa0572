"""Tests that require a GPU; skipped without one."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import Killed, assert_same_run, read_losses, read_result

from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.rng import SampleKey
from common.training.progress import Progress

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


VARIANTS = {
    "tf32": ("finetune", "train.precision=tf32"),
    "auto": ("pretrain", "train.precision=auto"),
    "deterministic": ("pretrain", "train.deterministic=true", "model.stem=conv"),
    "class token only": ("pretrain", "train.class_token_only=true"),
    "class token only, fine-tuned": ("finetune", "train.class_token_only=true"),
    "micro-batches": ("pretrain", "train.micro_batch_size=6", "train.precision=bf16"),
    "recomputed": ("pretrain", "train.grad_checkpointing=true"),
    "workers": ("pretrain", "data.workers=2"),
    "compiled": ("finetune", "train.compile=true", "model.stem=conv"),
    "compiled DINO": ("pretrain", "train.compile=true", "train.precision=bf16"),
    "SAM in fp16": ("finetune", "optim.name=sam", "train.precision=fp16"),
    "averaged weights": ("finetune", "ema_decay=0.9", "train.precision=bf16"),
    "RegNet": ("finetune", "model.name=regnety_mini", "model.stem=none", "model.patch_size=none"),
    "LoRA": ("finetune", "lora.rank=2", "train.precision=bf16"),
    "re-identification": (
        "finetune", "objective=reid", "data.source=digits_identities", "data.images_per_class=4", "train.precision=tf32",
    ),
    "token labels": (
        "finetune", "objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv",
        "train.precision=bf16",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_run(stage: Stage, tmp_path: Path, name: str) -> None:
    """Each once, as none of them has another test on a GPU."""
    first, *words = VARIANTS[name]
    assert stage(first, tmp_path / "run", *words) == 0
    assert read_result(tmp_path / "run")["status"] == "finished" or first == "pretrain"
    assert all(map(math.isfinite, read_losses(tmp_path / "run")))


@pytest.mark.parametrize("words", [(), ("optim.name=sam",), ("train.precision=fp16",)])
def test_a_run_resumes_as_it_was(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """With deterministic algorithms to the bit: weights, moments, the gradient scaler, random numbers of the device."""
    words = ("train.deterministic=true", "train.checkpoint_steps=3", "model.drop_path=0.1", *words)
    assert stage("finetune", tmp_path / "whole", *words) == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 5:
            raise Killed

    AcceleratorState._reset_state(reset_partial_state=True)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        stage("finetune", tmp_path / "killed", *words)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert stage("finetune", tmp_path / "killed", *words) == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


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
