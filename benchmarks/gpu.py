"""Training end to end on a GPU, ViT-S/16 at 224 pixels: our trainers with and without data loading, compared with references.

`python -m benchmarks gpu --stage pretrain --variant "ours, bf16, step only" --batch 64 --minutes 4`; without arguments both stages,
all variants, the most important first, as many as begin within 8 minutes. Each variant is a process of its own. Its batch is halved
until it fits into GPU memory, which its row reports. There is one worker per core; the reference DINO loader keeps two batches of
0.5 GB per worker ready in shared memory. Nothing is measured without a CUDA device.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import finetune, isolated, loop, reference_deit, reference_dino
from benchmarks.isolated import Setting
from benchmarks.reference_deit import SupervisedSetting
from benchmarks.reference_dino import DinoSetting
from benchmarks.timing import Row, Table, show
from common import config as recipes
from common.cores import available_cores
from finetune.config import FinetuneConfig
from finetune.cost import training_cost as supervised_cost
from pretrain.config import PretrainConfig
from pretrain.cost import training_cost as dino_cost

CORES = available_cores()
MINUTES = 8.0
"""Time after which no further variant is started."""
DATA = "ours, data loading only"
"""The variant that takes no steps: the throughput of the workers."""
VIEWS = "ours, views on the device only"
"""The variant that only makes the inputs of steps from a batch on the device."""
WITHOUT_STEPS = (DATA, VIEWS)
WARMUP = 5
"""Steps before the timed ones of variants without a loader."""
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
    """The loops by name."""


def variants(reference: Callable[..., None], ours: Callable[..., None]) -> dict[str, Callable[..., None]]:
    """Return the loops of a stage by name, the most important first."""
    in_bf16 = partial(ours, precision="bf16")
    return {
        "ours, bf16, step only": partial(in_bf16, part="step"),
        "ours, bf16, compiled, step only": partial(in_bf16, compile=True, part="step"),
        "ours, bf16, compiled": partial(in_bf16, compile=True),
        DATA: partial(in_bf16, part="data"),
        VIEWS: partial(in_bf16, part="views"),
        "ours, bf16": in_bf16,
        "reference, fp16": partial(reference, precision="fp16"),
        "reference, fp32": reference,
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
    "warmup_steps": WARMUP,
    "steps": 20,
    "device": "cuda",
}
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
    """Return the benchmark's tables at its default settings; an empty list without a GPU. It does not repeat them."""
    return measure_stages(list(STAGES))


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark with options of its own and print its tables; return the exit code."""
    names = list(dict.fromkeys(name for stage in STAGES.values() for name in stage.variants))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", action="append", choices=list(STAGES), help="a stage; default: both")
    parser.add_argument("--variant", action="append", choices=names, help="a variant; default: all, in this order")
    parser.add_argument("--batch", type=int, help="images per step (default: 256)")
    parser.add_argument(
        "--minutes", type=float, default=MINUTES, help="time to start variants in (default: %(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="DIR", help="also write <DIR>/gpu.json")
    options = parser.parse_args(arguments)
    if options.batch is not None and (options.batch < SMALLEST_BATCH or options.batch % 2):
        parser.error(f"--batch {options.batch}: must be even and at least {SMALLEST_BATCH}")
    tables = measure_stages(options.stage or list(STAGES), options.variant, options.batch, options.minutes)
    if tables:
        show(tables, options.json / "gpu.json" if options.json else None)
    return 0


def measure_stages(
    stages: Sequence[str], names: Sequence[str] | None = None, batch: int | None = None, minutes: float = MINUTES
) -> list[Table]:
    """Return a table for each stage; none without a GPU. The stages take turns where there is not enough time for all variants."""
    if not torch.cuda.is_available():
        print("gpu: skipped, no CUDA device is available", flush=True)
        return []
    deadline, tables = time.monotonic() + 60 * minutes, []
    for number, stage in enumerate(stages):
        share = time.monotonic() + (deadline - time.monotonic()) / (len(stages) - number)
        setting = STAGES[stage].setting if batch is None else replace(STAGES[stage].setting, batch=batch)
        if table := measure_stage(stage, names or list(STAGES[stage].variants), setting, deadline=share):
            tables.append(table)
    return tables


def measure_stage(stage: str, names: Sequence[str], setting: Setting, *, deadline: float) -> Table | None:
    """Return the table of a stage for these of its variants, as far as they begin before `deadline`; None without any."""
    flops = 2 * STAGES[stage].macs(setting)
    peak = isolated.call("benchmarks.isolated:matmul_rates", setting=setting)["bf16"] * 1e9
    rows: list[Row] = []
    for name in names:
        if time.monotonic() > deadline:
            print(f"{stage}: out of time before {name}", flush=True)
            continue
        fitting, found = measure_fitting(stage, name, with_queue(setting, name))
        rows.append(describe(name, found, flops / peak, batch=fitting.batch, full=setting.batch))
        print(f"{stage}: {rows[-1].variant}", flush=True)
    if not rows:
        return None
    rows = [replace(row, ratio=rows[0].median_ms / row.median_ms) for row in rows]
    limit = (
        f"{flops / 1e9:.1f} GFLOP per image; utilization is relative to {peak / 1e12:.1f} TFLOP/s, the rate of a large bf16"
        f" matrix product; for the step only, the inputs, views included, are already on the device; {shared_memory()}"
    )
    title = f"{STAGES[stage].title}, batch {{batch}}, {{workers}} workers".format(**asdict(setting))
    return Table(title, "ms per image", rows, limit)


def with_queue(setting: Setting, name: str) -> Setting:
    """Return the setting with steps for the loader's queue: batches loaded while the first step compiles are not timed."""
    if name == VIEWS or "step only" in name:
        return setting
    return replace(setting, warmup_steps=setting.warmup_steps + setting.queue, steps=setting.steps + setting.workers)


def shared_memory() -> str:
    """Return in words how much of the shared memory, through which workers pass batches, is free."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError as error:
        return f"/dev/shm: {error.strerror}"
    return f"{status.f_bavail * status.f_frsize / 2**30:.1f} GiB of /dev/shm were free"


def describe(name: str, found: Mapping[str, float], seconds: float, *, batch: int, full: int) -> Row:
    """Return the row of a variant with what was measured in its name; an image takes at least `seconds` at the peak rate."""
    halved = "" if batch == full else f", batch {batch} as {2 * batch} does not fit"
    rate = batch / found["seconds_per_step"]
    words = [f"{rate:,.1f} images/s"]
    if name not in WITHOUT_STEPS:
        words.append(f"utilization {rate * seconds:.1%}")
    if name not in WITHOUT_STEPS and name.startswith("ours"):  # the references' loops are not watched
        words.append(f"first step {found['first_step_seconds']:.1f} s")
        words += [] if "step only" in name else [f"{found['waiting_share']:.0%} waiting for data"]
    time_ms = 1000 / rate
    return Row(f"{name}{halved}; {', '.join(words)}", time_ms, time_ms, time_ms, 1.0, found["memory_mb"])


def measure_fitting(stage: str, variant: str, setting: Setting) -> tuple[Setting, dict[str, Any]]:
    """Return the setting with its batch halved until the variant fits into memory, and what was measured there.

    Raise RuntimeError if none fits.
    """
    while True:
        found = isolated.call("benchmarks.gpu:measure", setting=setting, stage=stage, variant=variant)
        if found["fits"]:
            return setting, found
        if setting.batch // 2 < SMALLEST_BATCH:
            raise RuntimeError(f"{variant}: not even a batch of {setting.batch} fits into GPU memory")
        setting = replace(setting, batch=setting.batch // 2)


def measure(stage: str, variant: str, setting: dict[str, Any]) -> dict[str, Any]:
    """Time a variant in this process; return what `time_steps` returns, and whether it `fits` into GPU memory."""
    chosen = STAGES[stage]
    try:
        return {"fits": True} | isolated.time_steps(chosen.variants[variant], type(chosen.setting)(**setting))
    except torch.OutOfMemoryError:
        return {"fits": False}
