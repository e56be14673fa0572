"""How many runs of a study are on this machine at a time, from its GPUs and the processes of each run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from common.errors import UserError
from common.training.launch_environment import TRUE, launch_setting
from recipes.run.engines import default_jobs, visible_devices
from recipes.run.launching import SINGLE_PROCESS


@dataclass(frozen=True)
class Slots:
    """Runs at a time, and what each of them gets."""

    count: int
    """Runs at a time."""
    devices: tuple[str, ...]
    """GPUs that they share; none on CPUs."""
    processes: int
    """Processes of each run on this machine."""


def choose_slots(
    jobs: int | None, accelerate_args: tuple[str, ...] = SINGLE_PROCESS, environment: Mapping[str, str] = os.environ
) -> Slots:
    """Return the slots for `jobs` runs at a time; by default one run per GPU, or per core without a GPU.

    A run of several processes takes that many GPUs, or cores. Raise UserError for a number of runs or processes that the machine's
    GPUs do not suffice for: NCCL refuses two processes of a run on one GPU.
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1.")
    devices = () if is_on_cpu(accelerate_args, environment) else visible_devices()
    processes = 1 if accelerate_args == SINGLE_PROCESS else _processes(accelerate_args, environment, devices)
    if devices and processes > len(devices):
        raise UserError(
            f"--accelerate-args: {processes} processes of a run need as many GPUs, and this machine shows {len(devices)}"
            f" ({', '.join(devices)}). Set --num_processes {len(devices)} there."
        )
    if devices and processes > 1 and (jobs or 1) * processes > len(devices):
        raise UserError(
            f"--jobs {jobs}: {jobs} runs of {processes} processes need {(jobs or 1) * processes} GPUs, and this machine shows"
            f" {len(devices)}. Set --jobs {len(devices) // processes}, or remove it."
        )
    return Slots(jobs or max(1, default_jobs(devices) // processes), devices, processes)


def is_on_cpu(accelerate_args: tuple[str, ...], environment: Mapping[str, str]) -> bool:
    """Return whether runs are told to train on the CPU, though there may be GPUs."""
    return "--cpu" in accelerate_args or environment.get("ACCELERATE_USE_CPU", "").lower() in TRUE


def _processes(arguments: tuple[str, ...], environment: Mapping[str, str], devices: tuple[str, ...]) -> int:
    """Return the processes of a run on this machine that arguments of `accelerate launch` or its configuration file ask for."""
    if launch_setting("gpu_ids", arguments, environment) not in (None, "all"):
        raise UserError(
            "--accelerate-args: gpu_ids would give all runs of the study the same GPUs. Remove it; the environment variable"
            " CUDA_VISIBLE_DEVICES chooses the GPUs of a study."
        )
    total = launch_setting("num_processes", arguments, environment)
    machines = launch_setting("num_machines", arguments, environment) or "1"
    if total is None:
        return max(1, len(devices)) if "--multi_gpu" in arguments else 1
    if not (total.isdecimal() and machines.isdecimal() and int(total) and int(machines)):
        raise UserError(
            f"--accelerate-args: num_processes = {total}, num_machines = {machines}: must be numbers of at least 1."
        )
    return max(1, int(total) // int(machines))
