"""Measurements in fresh processes: each variant and repeat warms up, is timed in its steady state, and reports its memory.

`BENCHMARK_PREFIX` is prepended to each child's command, for a shared machine:
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from benchmarks.timing import Row, matmul_rate, summarize, synchronize
from common.distributed import world_size


@dataclass(frozen=True, kw_only=True)
class Setting:
    """How a training loop is run and timed."""

    batch: int = 64
    """Images per step, over all processes together."""
    device: str = "cpu"
    """Device of the networks: cpu, or cuda for the first GPU and one process."""
    processes: int = 1
    """Number of training processes; they share the threads and the workers."""
    threads: int = 2
    """Number of torch threads, over all processes together."""
    workers: int = 2
    """Number of data loading workers, over all training processes together."""
    warmup_steps: int = 2
    """Steps before the timed ones, which include compilation and filling the loader's queue."""
    steps: int = 6
    """Number of timed steps."""

    @property
    def local_batch(self) -> int:
        """Return the images per step of one process."""
        return self.batch // self.processes

    @property
    def local_workers(self) -> int:
        """Return the data loading workers of one training process."""
        return math.ceil(self.workers / self.processes)

    @property
    def num_images(self) -> int:
        """Return the number of images that keep the queue full up to the last timed step."""
        return self.batch * (self.warmup_steps + self.steps + max(self.queue, 4))

    @property
    def queue(self) -> int:
        """Return the maximum number of prefetched batches: torch prefetches two per worker."""
        return 2 * self.workers


AnySetting = TypeVar("AnySetting", bound=Setting)
AnyItem = TypeVar("AnyItem")


class TimingDone(Exception):
    """Raised to leave a training loop after its last timed step."""


class StepTimer:
    """Counts the steps of a loop, times those after the warm-up, then leaves the loop by raising `TimingDone`."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self._laps = setting, list[float]()
        self._begun, self._waited = time.perf_counter(), 0.0
        self.memory_mb = 0.0

    def lap(self) -> None:
        """Record the end of a step; synchronizes with a GPU only at the first and the last timed step."""
        done, last = len(self._laps) + 1, self.setting.warmup_steps + self.setting.steps
        if done in (self.setting.warmup_steps, last):
            synchronize(self.setting.device)
        self._laps.append(time.perf_counter())
        if done == last:
            local = peak_memory() if self.setting.device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
            self.memory_mb = _sum_over_processes(local)
            raise TimingDone

    def watch(self, batches: Iterable[AnyItem]) -> Iterator[AnyItem]:
        """Yield the batches, and count the time that the timed steps wait for them; the first step begins with the first one."""
        source = iter(batches)
        while True:
            started = time.perf_counter()
            try:
                batch = next(source)
            except StopIteration:
                return
            now = time.perf_counter()
            if not self._laps:
                self._begun = now
            if len(self._laps) >= self.setting.warmup_steps:
                self._waited += now - started
            yield batch

    @property
    def waiting_share(self) -> float:
        """Return the share of the timed steps that was spent waiting for `watch`'s batches."""
        return self._waited / max(self.seconds_per_step * self.setting.steps, 1e-9)

    @property
    def first_step_seconds(self) -> float:
        """Return the duration of the first step, with compilation; without `watch`, also of what precedes it."""
        return self._laps[0] - self._begun

    @property
    def seconds_per_step(self) -> float:
        """Return the mean over the timed steps, including time spent waiting for the loader."""
        return (self._laps[-1] - self._laps[self.setting.warmup_steps - 1]) / self.setting.steps


def time_steps(loop: Callable[[AnySetting, StepTimer], None], setting: AnySetting) -> dict[str, float]:
    """Run a loop in this process up to its last timed step.

    Return the seconds per step, those of the first step, the share of the timed steps spent waiting for data, the peak memory.
    """
    timer = StepTimer(setting)
    try:
        loop(setting, timer)
    except TimingDone:
        names = ("seconds_per_step", "first_step_seconds", "waiting_share", "memory_mb")
        return {name: getattr(timer, name) for name in names}
    raise AssertionError("the loop ended before its last timed step")


def peak_memory() -> float:
    """Return the peak memory of this process plus the private memory of its data loading workers, in MB.

    Workers are forked: pages shared with the parent count once. Without /proc, only the parent's peak.
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


def _sum_over_processes(value: float) -> float:
    if world_size() == 1:
        return value
    total = torch.tensor(value)
    dist.all_reduce(total)
    return float(total)


def call(function: str, *, setting: Setting, **arguments: Any) -> dict[str, Any]:
    """Call `function` ("module:name") with the setting and the arguments in processes of its own; return its result.

    Raise RuntimeError with the end of their output if they fail.
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


def compare_interleaved(function: str, settings: Mapping[str, Setting], *, repeats: int, **arguments: Any) -> list[Row]:
    """Return a row for each variant at its setting, in milliseconds per image, with each repeat in a process of its own.

    The first variant is the reference. `function` is called with the setting, the variant's name and the `arguments`. Each
    measurement is printed to stderr immediately, since the table takes minutes.
    """
    times: dict[str, list[float]] = {variant: [] for variant in settings}
    memory = dict.fromkeys(settings, 0.0)
    for repeat in range(1, repeats + 1):
        for variant, setting in settings.items():
            found = call(function, setting=setting, variant=variant, **arguments)
            times[variant].append(found["seconds_per_step"] * 1000 / setting.batch)
            line = f"{variant}: {times[variant][-1]:.2f} ms per image ({repeat} of {repeats})"
            print(line, file=sys.stderr, flush=True)
            memory[variant] = max(memory[variant], found["memory_mb"])
    return summarize(times, memory)


def matmul_rates(setting: dict[str, Any]) -> dict[str, float]:
    """Return the best matmul rates of the setting's device in GFLOP/s; on a CPU with all threads of the setting."""
    device = setting["device"]
    sides, products = ((1024, 2048), 1) if device == "cpu" else ((4096, 8192), 20)
    return {
        "fp32": max(matmul_rate(side, 10, torch.float32, device, products) for side in sides),
        "bf16": max(matmul_rate(side, 20, torch.bfloat16, device, products) for side in sides),
    }


def describe_limit(setting: Setting, rows: Sequence[Row], macs: Callable[[bool], float]) -> str:
    """Describe the compute per image, the matmul rates measured now, and the fraction of them that each row reaches.

    `macs` returns the MACs per image of complete blocks, and with True those of a last block for the class token only.
    """
    gigaflops, rates = 2 * macs(False) / 1e9, call("benchmarks.isolated:matmul_rates", setting=setting)
    fractions = []
    for row in rows:
        precision = "bf16" if "bf16" in row.variant else "fp32"
        own = 2 * macs("class token only" in row.variant) / 1e9
        fraction = own / row.median_ms * 1000 / rates[precision]
        fractions.append(f"{row.variant} {1000 / row.median_ms:.1f} images/s, {fraction:.0%} of the {precision} rate")
    return (
        f"{gigaflops:.1f} GFLOP per image; the best matrix products run at {rates['fp32']:.0f} GFLOP/s in fp32 and"
        f" {rates['bf16']:.0f} in bf16 with {setting.threads} threads; {'; '.join(fractions)}"
    )


def main() -> None:
    """Call a function in this process and print its result as JSON in the last line."""
    function, content = sys.argv[1:]
    module, name = function.split(":")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found = getattr(importlib.import_module(module), name)(**json.loads(content))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
