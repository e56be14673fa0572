"""Tests that no operation of a step waits for the GPU: complete steps of every trainer, on tensors that only pretend to be on one.

The device `meta` stands for the GPU. Its tensors have no values, so that reading one (`item`, `nonzero`, a copy to the CPU) is an
error of PyTorch's; `Waits` records the copies to it that block. It has no autocast, so steps are in fp32.
"""

import importlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import RECIPES, TINY
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.config import load
from common.data.augment import color
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.parameters import NUM_PARAMETERS
from common.evaluation.config import LinearConfig
from common.evaluation.linear_run import LinearEvaluation
from common.training.open_images import open_images
from common.training.run import Run, start_run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.train import Pretraining

GPU = torch.device("meta")
TRAINERS: dict[str, tuple[type[Any], type[Any]]] = {
    "pretrain": (PretrainConfig, Pretraining),
    "finetune": (FinetuneConfig, Finetuning),
    "linear": (LinearConfig, LinearEvaluation),
}
MIXING = ("augment.mixup=0.8", "augment.cutmix=1.0", "augment.random_erasing_prob=0.5")
REID = ("train.batch_size=32", "reid.images_per_identity=2", "augment.random_erasing_prob=0.5")


class Waits(TorchDispatchMode):
    """Records what copies from the CPU to the pretended GPU and blocks: copies, Python values as tensors, indices on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, str(func)
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        devices = {tensor.device.type for tensor in tensors}
        is_copy = name.startswith(("aten._to_copy", "aten.copy_", "aten.index"))
        non_blocking = kwargs.get("non_blocking") or (name.startswith("aten.copy_") and True in args[2:3])
        if (is_copy and devices == {"cpu", GPU.type} and not non_blocking) or (
            name.startswith("aten.lift_fresh") and GPU.type in devices
        ):
            self.operations.append(name)
        return result


class PretendedAccelerator:
    """Stands for accelerate's Accelerator with one process on the pretended GPU."""

    scaler = None

    def prepare(self, *parts: Any) -> tuple[Any, ...]:
        return parts

    def autocast(self) -> Any:
        return nullcontext()

    def no_sync(self, _: nn.Module) -> Any:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def unscale_gradients(self, _: Any) -> None:
        """Leave gradients as they are, as accelerate does without a scaler."""


@pytest.fixture(autouse=True)
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let autocast and the fused optimizers, whose kernels read nothing on the CPU, accept the device."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)
    for name in ("adamw", "sgd"):
        monkeypatch.setattr(torch, f"_fused_{name}_", lambda *_, **__: None)
    optimizer = importlib.import_module("torch.optim.optimizer")
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: [GPU.type])
    color.constants.cache_clear()
    yield
    color.constants.cache_clear()


def build_run(stage: str, recipe: str, words: tuple[str, ...], out: Path) -> tuple[Any, Run, Any]:
    """Return config, run on the pretended GPU and images of a recipe."""
    config_class = TRAINERS[stage][0]
    path = RECIPES / recipe / "digits.yaml" if recipe == "reid" else RECIPES / recipe / f"{stage}.yaml"
    config = load(config_class, str(path), [*TINY[stage], "train.log_every=50", f"out={out}", *words])
    run = start_run(config, stage=stage, precision="fp32", overrides=[])
    splits = open_images(config.data, run, labeled=stage != "pretrain", init=None)
    run.device, run.accelerator = GPU, PretendedAccelerator()  # type: ignore[assignment]
    return config, run, splits


def take_steps(trainer: Any, count: int) -> list[list[str]]:
    """Take `count` steps as the trainer's loop does, from the copy of the batch on; return what waited in each."""
    trainer.loop.batches.set_epoch(0, 0)
    batch = next(iter(trainer.loop.loader))
    found = []
    for step in range(count):
        with Waits() as waits:
            moved = batch.to(GPU)
            if isinstance(trainer, Pretraining):
                parts, skipped = trainer._train_step(trainer._views(moved), step)
                trainer.loop.report(parts.loss, skipped, parts)
            elif isinstance(trainer, LinearEvaluation):
                trainer.loop.report(*trainer._train_step(*trainer._inputs(moved, 0, step), step))
            else:
                inputs = trainer.objective.inputs(moved, epoch=0, step=step)
                trainer.loop.report(*trainer._train_step(inputs, step))
        found.append(waits.operations)
    return found


@pytest.mark.parametrize(
    ("stage", "recipe", "words"),
    [
        ("pretrain", "digits", ("crops.num_local=2", "crops.blur_prob=[1.0,0.1,0.5]", "crops.hue=0.1")),
        ("pretrain", "digits", ("model.stem=conv", "dino.centering=mean", "train.micro_batch_size=10")),
        ("finetune", "digits", ("optim.clip_grad=1.0", "ema_decay=0.9", "model.drop_path=0.1", *MIXING)),
        ("finetune", "digits", ("optim.name=sam", "model.stem=conv")),
        ("finetune", "digits", ("optim.name=sgd", "optim.lr=0.1")),
        ("finetune", "digits", ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2")),
        ("finetune", "reid", REID),
        ("linear", "digits", MIXING),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_step_waits_for_nothing(tmp_path: Path, stage: str, recipe: str, words: tuple[str, ...]) -> None:
    trainer = TRAINERS[stage][1](*build_run(stage, recipe, words, tmp_path / "run"))
    assert take_steps(trainer, 3)[1:] == [[], []]  # the first one copies constants, which are kept


@pytest.mark.parametrize("wait", ["list", "index", "constant", "copy", "item", "mask"])
def test_what_waits_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: str) -> None:
    """What the first version of the color augmentation and of SAM did, and other ways to wait."""
    planted = {
        "list": lambda values: values[:, [0, 1]],
        "index": lambda values: values[:, torch.tensor([0, 1])],
        "constant": lambda values: values + torch.tensor(1.0, device=GPU),
        "copy": lambda values: values + torch.ones(()).to(GPU),
        "item": lambda values: values.mean().item(),
        "mask": lambda values: values[values > 0],
    }[wait]
    trainer = Pretraining(*build_run("pretrain", "digits", (), tmp_path / "run"))
    original = trainer.dino.update_teacher
    monkeypatch.setattr(
        trainer.dino, "update_teacher", lambda momentum: (planted(trainer.temperature[None]), original(momentum))
    )
    if wait in ("item", "mask"):
        with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
            take_steps(trainer, 1)
    else:
        assert take_steps(trainer, 2)[1] != []


def test_color_augmentation_of_other_channels_waits_for_nothing() -> None:
    crops, records = torch.empty(4, 5, 32, 32, device=GPU), torch.empty(4, NUM_PARAMETERS, device=GPU)
    apply_on_batch(crops, records, sigma_limit=2.0)  # copies its constants once
    with Waits() as waits:
        apply_on_batch(crops, records, sigma_limit=2.0)
    assert waits.operations == []


@pytest.mark.parametrize("compiled", [True, False])
def test_color_augmentation_is_compiled_with_the_step(tmp_path: Path, compiled: bool) -> None:
    words = (f"train.compile={str(compiled).lower()}",)
    trainer = Pretraining(*build_run("pretrain", "digits", words, tmp_path / "run"))
    assert (trainer.color is apply_on_batch) is not compiled
