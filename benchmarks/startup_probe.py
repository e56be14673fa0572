"""One start of a pre-training, timed part by part: `python -m benchmarks.startup_probe <out> <key=value> ...` prints JSON.

The stage's own program runs up to the end of its first step, with clocks around its parts. The look at the untrained network is
left out: that is an evaluation, and lasts as long as its images.
"""

# ruff: noqa: E402 - the clock starts before everything else is imported
import time

BEGUN = time.perf_counter()

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
    "open the source": ("common.data.open_splits.open_source",),
    "read the labels": ("common.data.sources.tables.TableSource.read", "common.data.sources.folders.FolderSource.read"),
    "divide": ("common.data.open_splits.divide",),
    "subset": ("common.data.open_splits.choose_subset",),
    "verification": ("common.data.open_splits.verify_and_cache",),
    "fingerprint, manifest": ("common.training.data.check_data", "common.training.data.save_data"),
    "network, optimizer": ("pretrain.train.build_dino", "pretrain.train.build_optimizer"),
    "sampler": ("common.data.loading.sampler.EpochSampler.order",),
    "first step": ("pretrain.train.Pretraining._train_step",),
}
"""What each part of a start is called, and the functions that it is made of."""


class FirstStep(Exception):
    """The first step is done."""


def main(out: str, overrides: list[str]) -> None:
    """Start a pre-training, stop after its first step, and print the seconds of each part and the memory in MB."""
    seconds: dict[str, float] = {}
    importlib.import_module("torch")
    seconds["import torch"] = time.perf_counter() - BEGUN
    stage = importlib.import_module("pretrain.train")
    importlib.import_module("accelerate")
    seconds["import the rest"] = time.perf_counter() - BEGUN - seconds["import torch"]
    for part, functions in PARTS.items():
        for function in functions:
            _clock(function, part, seconds)
    stage.Monitor.look = lambda *_, **__: None
    config = importlib.import_module("common.config")
    recipe = config.load(stage.PretrainConfig, Path("recipes/digits/pretrain.yaml"), [*overrides, f"out={out}"])
    memory: dict[str, float] = {}
    step = stage.Pretraining._train_step

    def last(*arguments: Any) -> None:
        step(*arguments)
        seconds["all"] = time.perf_counter() - BEGUN
        memory.update(workers=_memory_of_workers(), peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        raise FirstStep

    stage.Pretraining._train_step = last
    try:
        stage.train(recipe, [])
    except FirstStep:
        print(json.dumps({"seconds": seconds, "memory": memory}), flush=True)
    os._exit(0)  # the workers are daemons


def _clock(path: str, part: str, seconds: dict[str, float]) -> None:
    """Add the time that every call of a function takes to `seconds[part]`, or to that of the loader's first epoch."""
    owner, _, name = path.rpartition(".")
    holder = _find(owner)
    function: Callable[..., Any] = getattr(holder, name)

    @functools.wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        begun = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begun

    setattr(holder, name, timed)


def _find(path: str) -> Any:
    """Return a module, or a class in one."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(module), name)


def _memory_of_workers() -> float:
    """Return the MB that the largest worker process has to itself, shared pages left out."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return max((_own_megabytes(child) for child in children), default=0.0)


def _own_megabytes(process: str) -> float:
    """Return the private pages of a process in MB."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
