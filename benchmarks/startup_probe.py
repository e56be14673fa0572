"""One start of a pre-training, timed part by part: `python -m benchmarks.startup_probe <out> <key=value> ...` prints JSON.

The actual stage runs up to the end of its first step, with its parts timed. The evaluation of the untrained network is skipped,
since its duration depends on the number of images.
"""

# ruff: noqa: E402 - the timer starts before all other imports
import time

STARTED = time.perf_counter()

import functools
import importlib
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PARTS = {
    "open source": ("common.data.open_splits.open_source",),
    "read labels": (
        "common.data.sources.tables.TableSource.read",
        "common.data.sources.folders.FolderSource.read",
        "common.data.sources.shards.webdataset.WebDatasetSource.read",
    ),
    "split": ("common.data.open_splits.partition_source",),
    "subset": ("common.data.open_splits.choose_subset",),
    "verification": ("common.data.open_splits.verify_and_cache",),
    "duplicates": ("common.training.open_images.find_duplicates", "common.training.open_images.save_training_images"),
    "fingerprint, manifest": ("common.training.open_images.check_data", "common.training.open_images.save_data"),
    "network, optimizer": ("pretrain.train.build_dino", "pretrain.train.build_optimizer"),
    "sampler": ("common.data.loading.sampler.EpochSampler.order",),
    "first step": ("pretrain.train.Pretraining._train_step",),
}
"""The parts of a start, and the functions that are timed for each."""


class FirstStepDone(Exception):
    """Raised after the first step."""


def main(out: str, overrides: list[str]) -> None:
    """Start a pre-training, stop after its first step, and print the seconds of each part, the memory in MB, the CPU seconds."""
    seconds: dict[str, float] = {}
    importlib.import_module("torch")
    seconds["import torch"] = time.perf_counter() - STARTED
    stage = importlib.import_module("pretrain.train")
    importlib.import_module("accelerate")
    seconds["import the rest"] = time.perf_counter() - STARTED - seconds["import torch"]
    for part, functions in PARTS.items():
        for function in functions:
            _time_calls(function, part, seconds)
    stage.Monitor.evaluate = lambda *_, **__: None
    config = importlib.import_module("common.config")
    recipe = config.load(stage.PretrainConfig, Path("recipes/digits/pretrain.yaml"), [*overrides, f"out={out}"])
    memory: dict[str, float] = {}
    train_step = stage.Pretraining._train_step

    def first_step(*arguments: Any) -> None:
        train_step(*arguments)
        seconds["all"] = time.perf_counter() - STARTED
        memory.update(workers=_memory_of_workers(), peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        raise FirstStepDone

    stage.Pretraining._train_step = first_step
    try:
        stage.train(recipe, [])
    except FirstStepDone:
        cpu = {"all": time.process_time()}
        print(json.dumps({"seconds": seconds, "memory": memory, "cpu": cpu}), flush=True)
    os._exit(0)  # the workers are daemon processes


def _time_calls(path: str, part: str, seconds: dict[str, float]) -> None:
    """Replace a function by one that adds the time of every call to `seconds[part]`."""
    owner, _, name = path.rpartition(".")
    holder = _find(owner)
    function: Callable[..., Any] = getattr(holder, name)

    @functools.wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - started

    setattr(holder, name, timed)


def _find(path: str) -> Any:
    """Return a module, or a class in a module."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _memory_of_workers() -> float:
    """Return the private memory of the largest worker process in MB, without shared pages."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return max((_private_megabytes(child) for child in children), default=0.0)


def _private_megabytes(process: str) -> float:
    """Return the private memory of a process in MB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
