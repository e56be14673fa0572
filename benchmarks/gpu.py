"""Training end to end on a GPU, ViT-S/16 at 224 pixels: our trainers with and without data loading, compared with references.

Each variant and repeat is a process of its own. Its batch is halved until it fits into GPU memory, which its row reports. There is
one worker per core; the reference DINO loader keeps two batches of 0.5 GB per worker ready in shared memory. Nothing is measured
without a CUDA device.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from benchmarks import finetune, isolated, loop, reference_deit, reference_dino
from benchmarks.isolated import Setting
from benchmarks.reference_deit import SupervisedSetting
from benchmarks.reference_dino import DinoSetting
from benchmarks.timing import Row, Table
from common import config as recipes
from common.cores import available_cores
from finetune.config import FinetuneConfig
from finetune.cost import training_cost as supervised_cost
from pretrain.config import PretrainConfig
from pretrain.cost import training_cost as dino_cost

CORES = available_cores()
MOST_REPEATS = 2
"""Maximum number of repeats: a repeat of all variants takes minutes."""
DATA = "ours, data loading only"
"""The variant that takes no steps: the throughput of the workers."""
SMALLEST_BATCH = 2
"""Images are mixed in pairs."""


@dataclass(frozen=True)
class Stage:
    """A training stage and its measurements."""

    title: str
    """With the setting's fields in braces."""
    setting: Setting
    macs: Callable[[Any], float]
    """Returns the MACs per image of forward and backward pass for a setting."""
    variants: Mapping[str, Callable[..., None]]
    """The loops by name, the reference first."""


def variants(reference: Callable[..., None], ours: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Return the loops of a stage by name."""
    in_bf16 = partial(ours, precision="bf16")
    return {
        "reference, fp32": reference,
        "reference, fp16": partial(reference, fp16=True),
        "ours, bf16": in_bf16,
        "ours, bf16, compiled": partial(in_bf16, compile=True),
        "ours, bf16, step only": partial(in_bf16, part="step"),
        "ours, bf16, compiled, step only": partial(in_bf16, compile=True, part="step"),
        DATA: partial(in_bf16, part="data"),
    }


def dino_macs(setting: DinoSetting) -> float:
    """Return the MACs of a DINO step per image, including teacher and heads."""
    config = recipes.build(PretrainConfig, loop.recipe(setting, precision="bf16"), source="benchmark")
    return dino_cost(config, num_images=setting.num_images).macs_per_image


def supervised_macs(setting: SupervisedSetting) -> float:
    """Return the MACs of a supervised step per image."""
    config = recipes.build(FinetuneConfig, finetune.recipe(setting, precision="bf16"), source="benchmark")
    cost = supervised_cost(config, num_images=setting.num_images, num_classes=setting.num_classes)
    return cost.macs_per_image


_SHARED: dict[str, Any] = {
    "patch": 16,
    "side": None,
    "batch": 256,
    "workers": CORES,
    "warmup_steps": 5 + 2 * CORES,
    "steps": 20 + 2 * CORES,
    "device": "cuda",
}
"""The batches loaded while the first steps compile, two per worker, are used up before the timed steps."""
STAGES = {
    "pretrain": Stage(
        "DINO's loop, {model}/{patch}, 500x375 JPEG to 2x{global_size} + {num_local}x{local_size}, {out_dim:,} outputs",
        DinoSetting(model="vit_small", global_size=224, local_size=96, out_dim=65536, **_SHARED),
        dino_macs,
        variants(reference_dino.train, loop.ours),
    ),
    "finetune": Stage(
        "Supervised loop, DeiT's recipe, {model}/{patch}, 500x375 JPEG to {image_size}, {num_classes:,} classes",
        SupervisedSetting(model="deit_small", image_size=224, num_classes=1000, **_SHARED),
        supervised_macs,
        variants(reference_deit.train, finetune.ours),
    ),
}


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables; an empty list without a GPU."""
    if not torch.cuda.is_available():
        print("gpu: skipped, no CUDA device is available", flush=True)
        return []
    return [compare_loops(stage, list(STAGES[stage].variants), min(repeats, MOST_REPEATS)) for stage in STAGES]


def compare_loops(stage: str, names: list[str], repeats: int, setting: Setting | None = None) -> Table:
    """Return the table of a stage for these of its variants, at its default setting if none is given."""
    setting = setting or STAGES[stage].setting
    settings = {name: fit(stage, name, setting) for name in names}
    rows = isolated.compare_interleaved("benchmarks.gpu:measure", settings, repeats=repeats, stage=stage)
    flops = 2 * STAGES[stage].macs(setting)
    peak = isolated.call("benchmarks.isolated:matmul_rates", setting=setting)["bf16"] * 1e9
    described = [describe(row, flops / peak, batch=settings[row.variant].batch, full=setting.batch) for row in rows]
    limit = (
        f"{flops / 1e9:.1f} GFLOP per image; utilization is relative to {peak / 1e12:.1f} TFLOP/s, the rate of a large bf16"
        " matrix product; for the step only, the inputs, views included, are already on the device"
    )
    title = f"{STAGES[stage].title}, batch {{batch}}, {{workers}} workers".format(**asdict(setting))
    return Table(title, "ms per image", described, limit)


def describe(row: Row, seconds: float, *, batch: int, full: int) -> Row:
    """Return the row with rate and utilization in its name; an image takes at least `seconds` at the peak rate."""
    halved = "" if batch == full else f", batch {batch} as {2 * batch} does not fit"
    rate = 1000 / row.median_ms
    utilization = "" if row.variant == DATA else f", utilization {rate * seconds:.1%}"
    return replace(row, variant=f"{row.variant}{halved}; {rate:,.1f} images/s{utilization}")


def fit(stage: str, variant: str, setting: Setting) -> Setting:
    """Return the setting with its batch halved until the variant fits into memory; raise RuntimeError if none does."""
    while not isolated.call("benchmarks.gpu:fits", setting=setting, stage=stage, variant=variant)["fits"]:
        if setting.batch // 2 < SMALLEST_BATCH:
            raise RuntimeError(f"{variant}: not even a batch of {setting.batch} fits into GPU memory")
        setting = replace(setting, batch=setting.batch // 2)
    return setting


def fits(stage: str, variant: str, setting: dict[str, Any]) -> dict[str, bool]:
    """Return whether a few steps of a variant run in this process without running out of GPU memory."""
    try:
        measure(stage, variant, setting | {"warmup_steps": 1, "steps": 2})
    except torch.OutOfMemoryError:
        return {"fits": False}
    return {"fits": True}


def measure(stage: str, variant: str, setting: dict[str, Any]) -> dict[str, float]:
    """Time a variant in this process."""
    chosen = STAGES[stage]
    return isolated.time_steps(chosen.variants[variant], type(chosen.setting)(**setting))
