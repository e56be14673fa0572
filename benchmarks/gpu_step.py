"""Inside one training step on a GPU: what makes the CPU wait, what each part takes, the longest kernels, the memory.

`python -m benchmarks gpu_step --stage pretrain --batch 256`. A part that takes longer to launch than to execute is bound by the
CPU: larger batches or `--compile` help, faster kernels do not. Without a CUDA device it runs on the CPU, where nothing waits and
launching is executing; that says only that the program works.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import finetune, gpu, loop
from benchmarks.isolated import Setting
from benchmarks.our_loops import build_trainer
from benchmarks.timing import hardware, synchronize
from common import config as recipes
from common.data.augment.color_on_device import apply_on_batch, compiled_color
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.train import Pretraining

WARMUP = 5
"""Steps before anything is looked at: they allocate, compile and copy constants."""
REPEATS = 10
LONGEST = 25
"""Number of kernels that are listed."""
Step = Callable[[], object]


@dataclass(frozen=True)
class Duration:
    """Milliseconds of one call of a part: until the device has finished, and until the CPU has launched everything."""

    part: str
    done_ms: float
    launched_ms: float


@dataclass(frozen=True)
class Kernel:
    """An operation of the device: its milliseconds and its number in one step."""

    name: str
    ms: float
    count: float


@dataclass(frozen=True)
class Inside:
    """What was found inside a step."""

    waits: tuple[str, ...]
    """Places at which the CPU waited for the GPU."""
    durations: tuple[Duration, ...]
    kernels: tuple[Kernel, ...]
    memory_gib: float
    """Peak memory on the GPU; 0 on a CPU."""


def look(stage: str, setting: Setting, *, precision: str = "bf16", compile: bool = False) -> Inside:
    """Return what is inside a step of a stage at a setting, whose device is `cuda` or `cpu`."""
    setting = replace(setting, workers=0)
    with tempfile.TemporaryDirectory() as folder:
        trainer, batch = _trainer(stage, setting, folder, precision=precision, compile=compile)
        whole = _step(trainer, batch)
        for _ in range(WARMUP):
            whole()
        memory = _peak_memory(whole) if setting.device == "cuda" else 0.0
        durations = [time_part(name, part, setting.device) for name, part in _parts(trainer, batch)]
        return Inside(find_waits(whole, setting.device), tuple(durations), find_kernels(whole, setting.device), memory)


def _peak_memory(step: Step) -> float:
    """Return the peak memory of one step on the GPU in GiB, without what compilation took."""
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


def _trainer(stage: str, setting: Any, folder: str, **execution: Any) -> tuple[Any, Any]:
    """Return the trainer of a stage, and a batch of its loader on the CPU."""
    if stage == "pretrain":
        config = recipes.build(PretrainConfig, loop.recipe(setting, **execution), source="benchmark")
        trainer = build_trainer(Pretraining, config, stage, setting.images(), folder)
    else:
        config = recipes.build(FinetuneConfig, finetune.recipe(setting, **execution), source="benchmark")
        trainer = build_trainer(Finetuning, config, stage, setting.images(), folder)
    trainer.loop.batches.set_epoch(0, 0)
    return trainer, next(iter(trainer.loop.loader))


def _step(trainer: Any, batch: Any) -> Step:
    """Return a function that takes the step of a batch, from its copy to the device on."""
    inputs, train = _inputs(trainer), _train(trainer)
    return lambda: train(inputs(batch.to(trainer.run.device)))


def _inputs(trainer: Any) -> Callable[[Any], Any]:
    """Return what makes the inputs of a step from a batch on the device."""
    return trainer._views if isinstance(trainer, Pretraining) else _first_inputs(trainer)


def _first_inputs(trainer: Finetuning) -> Callable[[Any], Any]:
    return lambda batch: trainer.objective.inputs(batch, epoch=0, step=0)


def _train(trainer: Any) -> Callable[[Any], object]:
    """Return what trains on inputs; always as at the first step, of which every schedule has a value."""
    return lambda inputs: trainer._train_step(inputs, 0)


def _parts(trainer: Any, batch: Any) -> Iterator[tuple[str, Step]]:
    """Yield the parts of a step, each with its name."""
    device, make, train = trainer.run.device, _inputs(trainer), _train(trainer)
    moved = batch.to(device)
    inputs = make(moved)
    yield "the whole step, from a batch on the CPU", _step(trainer, batch)
    yield "copy of the batch to the device", lambda: batch.to(device)
    yield "augmentation and normalization on the device", lambda: make(moved)
    yield "forward, backward and update", lambda: train(inputs)
    if not isinstance(trainer, Pretraining):
        return

    def teacher() -> None:
        with trainer.run.accelerator.autocast():
            size = trainer.config.train.micro_batch_size
            trainer.dino.teacher_targets(inputs[0], trainer.temperature[0], micro_batch_size=size)

    yield "   of it the teacher", teacher
    for block, records in zip(moved.views, moved.parameters, strict=True):
        yield from _color(block.flatten(0, 1), records.flatten(0, 1), trainer.config.crops.blur_sigma[1])


def _color(crops: torch.Tensor, records: torch.Tensor, sigma: float) -> Iterator[tuple[str, Step]]:
    """Yield the color augmentation of views in each way."""
    yield f"color of {tuple(crops.shape)}", lambda: apply_on_batch(crops, records, sigma_limit=sigma)
    yield "   without blur", lambda: apply_on_batch(crops, records, sigma_limit=0.0)
    if crops.device.type == "cuda":
        compiled = compiled_color()
        yield "   compiled", lambda: compiled(crops, records, sigma_limit=sigma)


def time_part(name: str, part: Step, device: str, repeats: int = REPEATS) -> Duration:
    """Return the mean duration of a part after three calls to warm up."""
    for _ in range(3):
        part()
    synchronize(device)
    started = time.perf_counter()
    for _ in range(repeats):
        part()
    launched = time.perf_counter() - started
    synchronize(device)
    return Duration(name, (time.perf_counter() - started) * 1e3 / repeats, launched * 1e3 / repeats)


def find_waits(step: Step, device: str) -> tuple[str, ...]:
    """Return the places of a step at which the CPU waits for the GPU, as PyTorch's debug mode for synchronization names them."""
    with _sync_warnings(device), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step()
    return tuple(
        f"{each.filename.split('site-packages/')[-1]}:{each.lineno} {each.message}"
        for each in caught
        if "synchroniz" in str(each.message)
    )


@contextmanager
def _sync_warnings(device: str) -> Iterator[None]:
    """Let PyTorch warn where the CPU waits for the GPU."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def find_kernels(step: Step, device: str, steps: int = 3) -> tuple[Kernel, ...]:
    """Return the operations of a step that take the device longest."""
    on_gpu = device == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(steps):
            step()
        synchronize(device)
    kind = torch.autograd.DeviceType.CUDA if on_gpu else torch.autograd.DeviceType.CPU
    events = [event for event in profiled.key_averages() if event.device_type == kind]
    found = [
        Kernel(
            event.key, (event.self_device_time_total if on_gpu else event.self_cpu_time_total) / 1e3 / steps,
            event.count / steps,
        )
        for event in events
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda kernel: -kernel.ms)[:LONGEST])


def describe(found: Inside) -> Iterator[str]:
    """Yield the lines that are printed."""
    yield f"waits: {len(found.waits)}"
    yield from (f"  {place}" for place in found.waits)
    yield f"{'part':58} {'ms':>9} {'to launch':>10}"
    yield from (f"{each.part:58} {each.done_ms:9.2f} {each.launched_ms:10.2f}" for each in found.durations)
    yield f"{'longest operations of a step':58} {'ms':>9} {'number':>10}"
    yield from (f"{kernel.name[:58]:58} {kernel.ms:9.2f} {kernel.count:10.0f}" for kernel in found.kernels)
    if found.memory_gib:
        yield f"peak memory: {found.memory_gib:.1f} GiB"


def main(arguments: Sequence[str]) -> int:
    """Look inside a step and print what is found; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=list(gpu.STAGES), default="pretrain", help="default: %(default)s")
    parser.add_argument("--batch", type=int, default=256, help="images per step (default: %(default)s)")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16", "fp16"], default="bf16", help="default: bf16")
    parser.add_argument("--compile", action="store_true", help="with train.compile")
    options = parser.parse_args(arguments)
    if options.batch < gpu.SMALLEST_BATCH or options.batch % 2:
        parser.error(f"--batch {options.batch}: must be even and at least {gpu.SMALLEST_BATCH}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    setting = replace(gpu.STAGES[options.stage].setting, batch=options.batch, device=device)
    machine: Mapping[str, object] = hardware()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    print(f"{options.stage}, batch {options.batch}, {options.precision}{', compiled' if options.compile else ''}")
    for line in describe(look(options.stage, setting, precision=options.precision, compile=options.compile)):
        print(line, flush=True)
    return 0
