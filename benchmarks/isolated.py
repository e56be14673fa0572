"""Owns measuring in fresh processes: each variant and repeat warms up, is timed in its steady state and tells its memory.

`BENCHMARK_PREFIX` is put before each child's command, for a machine that is shared or has to be divided:
`BENCHMARK_PREFIX="numactl --cpunodebind=0" python -m benchmarks loop`.
"""

import dataclasses
import importlib
import json
import math
import multiprocessing
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from benchmarks.timing import Row, matrix_rate, summarise, wait_for


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a loop is run and timed, whatever it trains."""

    batch: int = 64
    """Images of a step, over all processes together."""
    device: str = "cpu"
    """Where the networks are: cpu, or cuda for the first GPU of one process."""
    processes: int = 1
    """Training processes; they share the threads and the workers."""
    threads: int = 2
    """Threads of torch, over all processes together."""
    workers: int = 2
    """Processes that load images, over all training processes together."""
    warm_up: int = 2
    """Steps before the clock starts; compiling and filling the loader's queue fall into them."""
    steps: int = 6
    """Steps that are timed."""

    @property
    def own_batch(self) -> int:
        """Return the images of a step in one process."""
        return self.batch // self.processes

    @property
    def own_workers(self) -> int:
        """Return the loading processes of one training process."""
        return math.ceil(self.workers / self.processes)

    @property
    def num_images(self) -> int:
        """Return how many images it takes for a queue that is full to the last timed step."""
        return self.batch * (self.warm_up + self.steps + max(self.queue, 4))

    @property
    def queue(self) -> int:
        """Return the batches that the loaders hold ready at most: torch keeps two for each worker."""
        return 2 * self.workers


AnySetting = TypeVar("AnySetting", bound=Setting)


class EnoughError(Exception):
    """Leaves a training loop once its last timed step is done."""


class StepWatch:
    """Count a loop's steps, time those in the steady state, then leave the loop by `EnoughError`."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self._laps = setting, list[float]()
        self.memory_mb = 0.0

    def lap(self) -> None:
        """Take note that a step is done; a GPU is waited for only where the timed steps begin and end."""
        done, last = len(self._laps) + 1, self.setting.warm_up + self.setting.steps
        if done in (self.setting.warm_up, last):
            wait_for(self.setting.device)
        self._laps.append(time.perf_counter())
        if done == last:
            own = peak_memory() if self.setting.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
            self.memory_mb = _over_processes(own)
            raise EnoughError

    @property
    def seconds_per_step(self) -> float:
        """Return the mean over the timed steps, waiting for the loader included."""
        return (self._laps[-1] - self._laps[self.setting.warm_up - 1]) / self.setting.steps


def time_steps(loop: Callable[[AnySetting, StepWatch], None], setting: AnySetting) -> dict[str, float]:
    """Run a loop in this process until it has taken its timed steps; return the seconds of one and the peak memory."""
    watch = StepWatch(setting)
    try:
        loop(setting, watch)
    except EnoughError:
        return {"seconds_per_step": watch.seconds_per_step, "memory_mb": watch.memory_mb}
    raise AssertionError("the loop ended before its last timed step")


def peak_memory() -> float:
    """Return the MB this process held at most, and beside it what its loader's workers hold for themselves alone.

    Workers are forked: what they share with their parent counts once. Without /proc, the parent's peak alone.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    kilobytes = _kilobytes(status, ("VmHWM",))
    for child in multiprocessing.active_children():
        kilobytes += _kilobytes(Path(f"/proc/{child.pid}/smaps_rollup"), ("Private_Clean", "Private_Dirty"))
    return kilobytes / 1024


def _kilobytes(path: Path, names: tuple[str, ...]) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return sum(int(words[1]) for words in lines if words[0].rstrip(":") in names)


def _over_processes(value: float) -> float:
    if not (dist.is_available() and dist.is_initialized()):
        return value
    total = torch.tensor(value)
    dist.all_reduce(total)
    return float(total)


def call(function: str, *, setting: Setting, **arguments: Any) -> dict[str, Any]:
    """Return what `function` ("module:name") returns in processes of its own, called with the setting and the arguments.

    Raise RuntimeError with the end of what they printed when they fail.
    """
    launcher = ["-m", "benchmarks.isolated"]
    if setting.processes > 1:
        launcher = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            f"{setting.processes}",
            *launcher,
        ]
    content = json.dumps({"setting": dataclasses.asdict(setting), **arguments})
    command = [*shlex.split(os.environ.get("BENCHMARK_PREFIX", "")), sys.executable, *launcher, function, content]
    threads = str(max(setting.threads // setting.processes, 1))
    on_cpu = {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""} if setting.device == "cpu" else {}
    environment = os.environ | {"OMP_NUM_THREADS": threads} | on_cpu
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{function} {content} failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare_in_turn(function: str, settings: Mapping[str, Setting], *, repeats: int, **arguments: Any) -> list[Row]:
    """Return a row for each variant at its setting, milliseconds an image, each repeat a process of its own.

    The first variant is the plain one. `function` is called with the setting, the variant's name and the `arguments`.
    Each figure is told on stderr as it comes: the table takes minutes.
    """
    times: dict[str, list[float]] = {variant: [] for variant in settings}
    memory = dict.fromkeys(settings, 0.0)
    for repeat in range(1, repeats + 1):
        for variant, setting in settings.items():
            found = call(function, setting=setting, variant=variant, **arguments)
            times[variant].append(found["seconds_per_step"] * 1000 / setting.batch)
            told = f"{variant}: {times[variant][-1]:.2f} ms an image ({repeat} of {repeats})"
            print(told, file=sys.stderr, flush=True)
            memory[variant] = max(memory[variant], found["memory_mb"])
    return summarise(times, memory)


def rates(setting: dict[str, Any]) -> dict[str, float]:
    """Return the best matrix rates in GFLOP/s of the setting's device, of a CPU with all threads of the setting."""
    device = setting["device"]
    sides, products = ((1024, 2048), 1) if device == "cpu" else ((4096, 8192), 20)
    return {
        "fp32": max(matrix_rate(side, 10, torch.float32, device, products) for side in sides),
        "bf16": max(matrix_rate(side, 20, torch.bfloat16, device, products) for side in sides),
    }


def describe_limit(setting: Setting, rows: Sequence[Row], multiply_adds: float) -> str:
    """Return the arithmetic of an image, the matrix rates measured in a process now, and the share of them each row reaches."""
    gigaflops, found = 2 * multiply_adds / 1e9, call("benchmarks.isolated:rates", setting=setting)
    shares = []
    for row in rows:
        kind = "bf16" if "bf16" in row.variant else "fp32"
        reached = gigaflops / row.median_ms * 1000 / found[kind]
        shares.append(f"{row.variant} {1000 / row.median_ms:.1f} images/s, {reached:.0%} of the {kind} rate")
    return (
        f"{gigaflops:.1f} GFLOP an image; the best matrix products run at {found['fp32']:.0f} GFLOP/s in fp32 and"
        f" {found['bf16']:.0f} in bf16 with {setting.threads} threads; {'; '.join(shares)}"
    )


def main() -> None:
    """Call a function in this process and print what it returns, as JSON in the last line."""
    function, content = sys.argv[1:]
    module, name = function.split(":")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = getattr(importlib.import_module(module), name)(**json.loads(content))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
