"""Supervised training end to end on the CPU including data loading: our trainer compared with DeiT's recipe through timm.

Each variant and repeat is a process of its own. Both use each image once per epoch (no repeated augmentation) and no EMA of the
weights.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import our_loops, reference_deit
from benchmarks.isolated import StepTimer, compare_interleaved, describe_limit, time_steps
from benchmarks.our_loops import Part
from benchmarks.reference_deit import RHO, SupervisedSetting
from benchmarks.reference_views import MEAN, STD
from benchmarks.timing import Table
from common import config as recipes
from finetune.config import FinetuneConfig
from finetune.cost import training_cost

PHOTOGRAPHS = SupervisedSetting(
    model="deit_small", patch=16, image_size=224, num_classes=1000, side=None, batch=16, steps=4
)


def recipe(setting: SupervisedSetting, *, precision: str, **execution: bool) -> dict[str, Any]:
    """Return our recipe for a setting: DeiT's."""
    optim = {"lr": 1e-4, "min_lr": 1e-5, "weight_decay": 0.05, "decay_embeddings": False}
    return {
        "out": "unused",
        "model": {"name": setting.model, "patch_size": setting.patch, "drop_path": 0.1},
        "data": {"image_size": setting.image_size, "workers": setting.local_workers, "mean": MEAN, "std": STD},
        "augment": {"padding": 4 if setting.image_size <= 32 else 0, "aug_repeats": 1},
        "optim": optim | ({"name": "sam", "rho": RHO} if setting.sam else {}),
        "train": our_loops.train_section(setting.batch, precision, **execution),
    }


def ours(
    setting: SupervisedSetting, timer: StepTimer, *, precision: str, part: Part = "full", **execution: bool
) -> None:
    """Run our trainer, or a part of its steps; `execution` are options of its section `train`."""
    if part == "step":
        setting = replace(setting, workers=0)  # only one batch is loaded
    keys = recipe(setting, precision=precision, **execution)
    our_loops.time_finetuning(keys, setting.images(), timer, part=part)


VARIANTS: Mapping[str, Callable[[SupervisedSetting, StepTimer], None]] = {
    "reference": reference_deit.train,
    "reference, compiled": partial(reference_deit.train, compiled=True),
    "reference, bf16": partial(reference_deit.train, precision="bf16"),
    "reference, bf16, compiled": partial(reference_deit.train, precision="bf16", compiled=True),
    "ours, fp32": partial(ours, precision="fp32"),
    "ours, fp32, class token only": partial(ours, precision="fp32", class_token_only=True),
    "ours, bf16": partial(ours, precision="bf16"),
    "ours, bf16, kernels": partial(ours, precision="bf16", kernels=True),
    "ours, bf16, compiled": partial(ours, precision="bf16", compile=True),
}


def measure(variant: str, setting: dict[str, Any]) -> dict[str, float]:
    """Time a variant in this process."""
    return time_steps(VARIANTS[variant], SupervisedSetting(**setting))


def compare_loops(title: str, setting: SupervisedSetting, variants: list[str], repeats: int) -> Table:
    """Return one table: the variants at one setting, and the fraction of the matmul rate that each reaches."""
    rows = compare_interleaved("benchmarks.finetune:measure", dict.fromkeys(variants, setting), repeats=repeats)
    return Table(title, "ms per image", rows, describe_limit(setting, rows, partial(macs_per_image, setting)))


def macs_per_image(setting: SupervisedSetting, class_token_only: bool) -> float:
    """Return the MACs of a step per image."""
    keys = recipe(setting, precision="fp32", class_token_only=class_token_only)
    config = recipes.build(FinetuneConfig, keys, source="benchmark")
    cost = training_cost(config, num_images=setting.num_images, num_classes=setting.num_classes)
    return cost.macs_per_image


_NETWORK = "ViT 192x12x3, patch 4, 32 px, batch 64, 2 workers"
SETTINGS: Mapping[str, tuple[str, SupervisedSetting, int]] = {
    "32": (f"Supervised loop, DeiT's recipe, {_NETWORK}", SupervisedSetting(steps=10), 3),
    "sam": (f"Supervised loop with SAM, {_NETWORK}", SupervisedSetting(steps=5, sam=True), 2),
    "photographs": ("Supervised loop, DeiT-S/16, 500x375 JPEG to 224, batch 16, 2 workers", PHOTOGRAPHS, 2),
}
"""Title, setting and largest number of repeats of each table: images of 32 pixels, the same with SAM, photographs."""


def run(repeats: int, variants: list[str] | None = None, settings: Collection[str] = tuple(SETTINGS)) -> list[Table]:
    """Return the benchmark's tables: these settings, with all variants or those that are named."""
    return [
        compare_loops(title, setting, variants or list(VARIANTS), min(repeats, most))
        for name, (title, setting, most) in SETTINGS.items()
        if name in settings
    ]
