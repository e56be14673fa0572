"""Whole trainings on a GPU, ViT-S/16 at 224 pixels: the real trainers with and without the data path, against the plain recipes.

Each variant and repeat is a process of its own. Its batch is halved until it fits into the GPU's memory, and its row says so.
There are as many workers as cores; the plain DINO loader holds two batches of 0.5 GB ready for each in shared memory. Without a
CUDA device nothing is measured.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks import finetune, isolated, loop, plain_deit, plain_dino
from benchmarks.isolated import Setting
from benchmarks.plain_deit import SupervisedSetting
from benchmarks.plain_dino import DinoSetting
from benchmarks.timing import Row, Table
from common import config as recipes
from finetune.config import FinetuneConfig
from finetune.cost import training_cost as supervised_cost
from pretrain.config import PretrainConfig
from pretrain.cost import training_cost as dino_cost

CORES = os.cpu_count() or 1
MOST_REPEATS = 2
"""Repeats at most: a repeat of all variants takes minutes."""
DATA = "ours, the data path alone"
"""The variant that takes no steps: what the workers deliver."""
SMALLEST_BATCH = 2
"""Images are mixed in pairs."""


@dataclass(frozen=True)
class Stage:
    """A training stage as it is measured here."""

    title: str
    """With the setting's fields in braces."""
    setting: Setting
    multiply_adds: Callable[[Any], float]
    """Multiply-adds of forward and backward for an image of a setting."""
    variants: Mapping[str, Callable[..., None]]
    """The loops by name, the plain one first."""


def variants(plain: Callable[..., None], ours: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Return the loops of a stage by name."""
    own = partial(ours, precision="bf16")
    return {
        "plain, fp32": plain,
        "plain, fp16": partial(plain, fp16=True),
        "ours, bf16": own,
        "ours, bf16, compiled": partial(own, compile=True),
        "ours, bf16, the step alone": partial(own, part="step"),
        "ours, bf16, compiled, the step alone": partial(own, compile=True, part="step"),
        DATA: partial(own, part="data"),
    }


def dino_multiply_adds(setting: DinoSetting) -> float:
    """Return the multiply-adds of a DINO step for an image, teacher and heads included."""
    config = recipes.build(PretrainConfig, loop.recipe(setting, precision="bf16"), source="benchmark")
    return dino_cost(config, num_images=setting.num_images).multiply_adds_per_image


def supervised_multiply_adds(setting: SupervisedSetting) -> float:
    """Return the multiply-adds of a supervised step for an image."""
    config = recipes.build(FinetuneConfig, finetune.recipe(setting, precision="bf16"), source="benchmark")
    cost = supervised_cost(config, num_images=setting.num_images, num_classes=setting.num_classes)
    return cost.multiply_adds_per_image


_SHARED: dict[str, Any] = {
    "patch": 16,
    "side": None,
    "batch": 256,
    "workers": CORES,
    "warm_up": 5 + 2 * CORES,
    "steps": 20 + 2 * CORES,
    "device": "cuda",
}
"""What was loaded while the first steps compiled, two batches a worker, is used up before the clock starts."""
STAGES = {
    "pretrain": Stage(
        "DINO's loop, {model}/{patch}, 500x375 JPEG to 2x{global_size} + {local_count}x{local_size}, {outputs:,} outputs",
        DinoSetting(model="vit_small", global_size=224, local_size=96, outputs=65536, **_SHARED),
        dino_multiply_adds,
        variants(plain_dino.train, loop.ours),
    ),
    "finetune": Stage(
        "Supervised loop, DeiT's recipe, {model}/{patch}, 500x375 JPEG to {image_size}, {num_classes:,} classes",
        SupervisedSetting(model="deit_small", image_size=224, num_classes=1000, **_SHARED),
        supervised_multiply_adds,
        variants(plain_deit.train, finetune.ours),
    ),
}


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables; none where there is no GPU."""
    if not torch.cuda.is_available():
        print("gpu: skipped, torch sees no CUDA device on this machine", flush=True)
        return []
    return [compare_loops(stage, list(STAGES[stage].variants), min(repeats, MOST_REPEATS)) for stage in STAGES]


def compare_loops(stage: str, names: list[str], repeats: int, setting: Setting | None = None) -> Table:
    """Return the table of a stage: these of its variants, at its own setting where none is given."""
    setting = setting or STAGES[stage].setting
    settings = {name: fit(stage, name, setting) for name in names}
    rows = isolated.compare_in_turn("benchmarks.gpu:measure", settings, repeats=repeats, stage=stage)
    flops = 2 * STAGES[stage].multiply_adds(setting)
    peak = isolated.call("benchmarks.isolated:rates", setting=setting)["bf16"] * 1e9
    told = [describe(row, flops / peak, batch=settings[row.variant].batch, wanted=setting.batch) for row in rows]
    limit = (
        f"{flops / 1e9:.1f} GFLOP an image; a large bf16 product runs at {peak / 1e12:.1f} TFLOP/s, the peak"
        " that utilisation is a share of; the step alone has its inputs, views and all, on the device already"
    )
    title = f"{STAGES[stage].title}, batch {{batch}}, {{workers}} workers".format(**asdict(setting))
    return Table(title, "ms an image", told, limit)


def describe(row: Row, seconds: float, *, batch: int, wanted: int) -> Row:
    """Return the row with its rate and utilisation in its name; an image takes `seconds` at least, by the peak rate."""
    halved = "" if batch == wanted else f", batch {batch} as {2 * batch} does not fit"
    rate = 1000 / row.median_ms
    share = "" if row.variant == DATA else f", utilisation {rate * seconds:.1%}"
    return replace(row, variant=f"{row.variant}{halved}; {rate:,.1f} images/s{share}")


def fit(stage: str, variant: str, setting: Setting) -> Setting:
    """Return the setting with its batch halved until the variant fits into the memory; raise RuntimeError where none does."""
    while not isolated.call("benchmarks.gpu:fits", setting=setting, stage=stage, variant=variant)["fits"]:
        if setting.batch // 2 < SMALLEST_BATCH:
            raise RuntimeError(f"{variant}: not even a batch of {setting.batch} fits into the GPU's memory")
        setting = replace(setting, batch=setting.batch // 2)
    return setting


def fits(stage: str, variant: str, setting: dict[str, Any]) -> dict[str, bool]:
    """Say whether a few steps of a variant run in this process without running out of the GPU's memory."""
    try:
        measure(stage, variant, setting | {"warm_up": 1, "steps": 2})
    except torch.OutOfMemoryError:
        return {"fits": False}
    return {"fits": True}


def measure(stage: str, variant: str, setting: dict[str, Any]) -> dict[str, float]:
    """Time a variant in this process."""
    chosen = STAGES[stage]
    return isolated.time_steps(chosen.variants[variant], type(chosen.setting)(**setting))
