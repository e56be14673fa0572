"""DINO end to end on the CPU including data loading: our trainer compared with a reference implementation and with lightly.

Each variant and repeat is a process of its own. lightly's rows need `pip install -e '.[benchmarks]'`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from benchmarks import lightly_dino, our_loops, reference_dino
from benchmarks.isolated import StepTimer, compare_interleaved, describe_limit, time_steps
from benchmarks.our_loops import Part
from benchmarks.reference_dino import DinoSetting
from benchmarks.reference_views import MEAN, STD
from benchmarks.timing import Row, Table
from common import config as recipes
from pretrain.config import PretrainConfig
from pretrain.cost import training_cost

PHOTOGRAPHS = DinoSetting(
    model="vit_small", patch=16, global_size=224, local_size=96, side=None, batch=16, warmup_steps=2, steps=4
)


def recipe(setting: DinoSetting, *, precision: str, **execution: bool) -> dict[str, Any]:
    """Return our recipe for a setting: the paper's, with the last layer trained from the first epoch."""
    return {
        "out": "unused",
        "model": {"name": setting.model, "patch_size": setting.patch, "drop_path": 0.1},
        "data": {"image_size": setting.global_size, "workers": setting.local_workers, "mean": MEAN, "std": STD},
        "crops": {
            "global_size": setting.global_size,
            "local_size": setting.local_size,
            "num_local": setting.num_local,
        },
        "dino": {"out_dim": setting.out_dim, "freeze_last_layer_epochs": 0},
        "optim": {
            "lr": 1e-4,
            "weight_decay": 0.04,
            "weight_decay_end": 0.4,
            "clip_grad": 3.0,
            "clip_per_parameter": True,
        },
        "train": our_loops.train_section(setting.batch, precision, **execution),
    }


def ours(setting: DinoSetting, timer: StepTimer, *, precision: str, part: Part = "full", **execution: bool) -> None:
    """Run our trainer, or a part of its steps; `execution` are options of its section `train`."""
    if part == "step":
        setting = replace(setting, workers=0)  # only one batch is loaded
    keys = recipe(setting, precision=precision, **execution)
    our_loops.time_pretraining(keys, setting.images(), timer, part=part)


VARIANTS: Mapping[str, Callable[[DinoSetting, StepTimer], None]] = {
    "reference": reference_dino.train,
    "reference, compiled": partial(reference_dino.train, compiled=True),
    "reference, bf16": partial(reference_dino.train, precision="bf16"),
    "reference, bf16, compiled": partial(reference_dino.train, precision="bf16", compiled=True),
    "lightly": lightly_dino.train,
    "ours, fp32": partial(ours, precision="fp32"),
    "ours, fp32, class token only": partial(ours, precision="fp32", class_token_only=True),
    "ours, fp32, compiled, class token only": partial(ours, precision="fp32", compile=True, class_token_only=True),
    "ours, bf16": partial(ours, precision="bf16"),
    "ours, bf16, kernels": partial(ours, precision="bf16", kernels=True),
    "ours, bf16, compiled": partial(ours, precision="bf16", compile=True),
    "ours, bf16, compiled, class token only": partial(ours, precision="bf16", compile=True, class_token_only=True),
    "ours, bf16, grad_checkpointing": partial(ours, precision="bf16", grad_checkpointing=True),
}


def measure(variant: str, setting: dict[str, Any]) -> dict[str, float]:
    """Time a variant in this process."""
    return time_steps(VARIANTS[variant], DinoSetting(**setting))


def available() -> list[str]:
    """Return the variants that can run here."""
    if lightly_dino.is_installed():
        return list(VARIANTS)
    print("lightly is not installed (pip install -e '.[benchmarks]'): its rows are skipped", flush=True)
    return [name for name in VARIANTS if name != "lightly"]


def compare_loops(title: str, setting: DinoSetting, variants: list[str], repeats: int) -> Table:
    """Return one table: the variants at one setting, and the fraction of the matmul rate that each reaches."""
    rows = compare_interleaved("benchmarks.loop:measure", dict.fromkeys(variants, setting), repeats=repeats)
    return Table(title, "ms per image", rows, describe_limit(setting, rows, partial(macs_per_image, setting)))


def macs_per_image(setting: DinoSetting, class_token_only: bool) -> float:
    """Return the MACs of a step per image."""
    keys = recipe(setting, precision="fp32", class_token_only=class_token_only)
    config = recipes.build(PretrainConfig, keys, source="benchmark")
    return training_cost(config, num_images=setting.num_images).macs_per_image


_SMALL_TITLE = "DINO's loop, ViT 192x12x3, patch 4, 2x32 + 8x16, batch 64, out_dim {out_dim:,}, 2 workers"
SETTINGS: Mapping[str, tuple[str, DinoSetting, int]] = {
    **{
        f"{out_dim}": (_SMALL_TITLE.format(out_dim=out_dim), DinoSetting(out_dim=out_dim), 3)
        for out_dim in (4096, 65536)
    },
    "photographs": (
        "DINO's loop, ViT-S/16, 500x375 JPEG to 2x224 + 8x96, batch 16, out_dim 4,096, 2 workers",
        PHOTOGRAPHS,
        2,
    ),
}
"""Title, setting and largest number of repeats of each table, by the number of prototypes of 32-pixel images, or photographs."""


def run(repeats: int, variants: list[str] | None = None, settings: Collection[str] = tuple(SETTINGS)) -> list[Table]:
    """Return the benchmark's tables: these settings, with all variants or those that are named."""
    names = variants or available()
    return [
        compare_loops(title, setting, names, min(repeats, most))
        for name, (title, setting, most) in SETTINGS.items()
        if name in settings
    ]


def growth(repeats: int) -> list[Table]:
    """Return tables of how time and memory scale along one axis each, with the others as in the main table."""
    base = DinoSetting(steps=4)
    axes = {
        "local views": {str(count): replace(base, num_local=count) for count in (0, 4, 8, 12)},
        "batch": {str(batch): replace(base, batch=batch) for batch in (16, 64, 128)},
        "out_dim": {f"{out_dim:,}": replace(base, out_dim=out_dim) for out_dim in (1024, 4096, 65536)},
        "image size": {
            str(size): replace(base, side=size, global_size=size, local_size=size // 2) for size in (32, 64)
        },
        "processes": {str(count): replace(base, processes=count) for count in (1, 2)},
    }
    measured: dict[DinoSetting, tuple[Row, ...]] = {}
    for settings in axes.values():
        for setting in settings.values():
            if setting not in measured:
                measured[setting] = tuple(_pair(setting, min(repeats, 2)))
    return [
        Table(
            f"DINO's loop by {axis}",
            "ms per image",
            [
                replace(row, variant=f"{row.variant}, {axis} {value}")
                for value, setting in settings.items()
                for row in measured[setting]
            ],
            "each pair is compared with its own reference row; memory is the sum over all processes",
        )
        for axis, settings in axes.items()
    ]


def _pair(setting: DinoSetting, repeats: int) -> list[Row]:
    """Return the rows of the reference in fp32 and of ours in bf16."""
    settings = dict.fromkeys(("reference", "ours, bf16"), setting)
    return compare_interleaved("benchmarks.loop:measure", settings, repeats=repeats)
