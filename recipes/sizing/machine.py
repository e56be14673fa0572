"""How fast this machine trains a network: multiply-accumulates (MACs) per second of one run, measured on the spot."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from common.errors import UserError
from recipes.sizing.load import Load, load_since, read_times

MEASURED_SECONDS = 0.6
"""Shortest time that a measurement takes, after a step that is not counted."""


@dataclass(frozen=True)
class Machine:
    """Runs at a time, the threads of each, and the device they train on."""

    jobs: int
    threads: int
    device: str
    """cpu or cuda."""
    name: str
    """Name of the processor, with its model, or of the GPU."""
    bf16_ratio: float | None = None
    """Rate of matrix products in bf16 relative to that in fp32, where runs choose between them: on a GPU."""

    @property
    def precision(self) -> str:
        """Return the precision in which runs train here: that which `train.precision=auto` chooses on a GPU, fp32 on a CPU."""
        if self.bf16_ratio is None:
            return "fp32"
        from common.training.precision_choice import faster_precision

        return faster_precision(self.bf16_ratio)

    def describe(self) -> str:
        """Return the machine in words."""
        runs = "1 run" if self.jobs == 1 else f"{self.jobs} runs"
        if self.device != "cpu":
            return f"{self.name}, {runs} at a time"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.name}, {runs} at a time with {threads} each"


def has_gpu() -> bool:
    """Return whether torch sees a GPU; takes none of its memory."""
    import torch

    return torch.cuda.is_available()


def find_machine(jobs: int, cores: int, *, on_gpu: bool) -> Machine:
    """Return this machine with so many parallel runs, on its GPUs or on its processor; nothing is measured."""
    from common.training.environment import processor, processor_model

    threads = max(1, cores // jobs)
    if on_gpu:
        import torch

        return Machine(jobs, threads, "cuda", torch.cuda.get_device_name())
    model = processor_model()
    return Machine(jobs, threads, "cpu", f"{processor()} ({model})" if model else processor())


@contextmanager
def lack_of_memory(message: str) -> Iterator[None]:
    """Turn the error of a device without free memory within the block into a UserError with this message."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        from common.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        raise UserError(f"size: {message}") from error


def measure_bf16_ratio() -> float:
    """Return the rate of matrix products in bf16 relative to that in fp32 on the GPU, with two digits."""
    import torch

    from common.training.bf16 import measure_bf16

    return float(f"{measure_bf16(torch.device('cuda')):.2g}")


@dataclass(frozen=True)
class Rate:
    """MACs per second of one run, and the load of the processor meanwhile; None: of a GPU, where it does not count."""

    macs_per_second: float
    load: Load | None = None


def measure_rate(
    machine: Machine, model: Any, *, image_size: int, batch_size: int, channels: int, class_token_only: bool = False
) -> Rate:
    """Return the rate of one run that trains a network: forward, backward and an AdamW step on noise.

    `model` is a recipe's section `model`, `class_token_only` a key of its section `train`. MACs are counted as a run's cost counts
    them; data and evaluations are not in it.
    """
    import torch

    from common.models.class_token import use_class_token_only
    from common.models.complexity import measure
    from common.models.meta import on_meta_device
    from common.models.networks import build_network

    def build() -> torch.nn.Module:
        network = build_network(model, image_size=image_size, num_classes=10, in_chans=channels)
        if class_token_only:
            use_class_token_only(network)
        return network

    device = torch.device(machine.device)
    with on_meta_device():
        counted = measure(build(), image_size)
    macs = batch_size * (counted.macs + counted.backward_macs)
    with torch.random.fork_rng(devices=[]), _threads(machine.threads):
        network = build().to(device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        images = torch.randn(batch_size, channels, image_size, image_size, device=device)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast(machine.device, dtype=torch.bfloat16, enabled=machine.precision == "bf16"):
                loss = network(images).float().logsumexp(dim=1).mean()
            loss.backward()
            optimizer.step()
            if machine.device == "cuda":
                torch.cuda.synchronize()

        # One thread: its own time, so that waiting for a core does not count.
        clock = time.thread_time if machine.device == "cpu" and machine.threads == 1 else time.perf_counter
        step()
        before, start, steps = read_times(), clock(), 0
        while not steps or clock() - start < MEASURED_SECONDS:
            step()
            steps += 1
        rate, threads = steps * macs / (clock() - start), machine.threads
        if machine.device != "cpu":
            return Rate(rate)
        return Rate(rate, load_since(before, threads=threads, needed=machine.jobs * threads))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Compute with so many threads, as a run does."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
