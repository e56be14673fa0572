"""The devices and processes of a run: accelerate's Accelerator, its precision; a launch that cannot work is refused."""

import logging
import os
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from common.cores import available_cores
from common.errors import ProcessError, UserError
from common.fp32 import allow_tf32
from common.training.determinism import set_deterministic
from common.training.launch_environment import TRUE, UNUSABLE, check_environment
from common.training.rendezvous import explained_rendezvous
from common.training.unused_gpus import warn_of_unused_gpus

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


def build_accelerator(precision: str, *, compiled: bool = False, deterministic: bool = False) -> "Accelerator":
    """Return the accelerator of a run that computes in `precision` (fp32, tf32, bf16 or fp16), `compiled` by torch.compile or not.

    The recipe decides what is computed: what the environment and accelerate's configuration file ask for is overridden or refused.
    Raise UserError for that, for fp16 and tf32 without a GPU, and for processes without a common process group, which would train
    independent copies.
    """
    check_environment(os.environ, compiled=compiled)
    on_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in TRUE
    if precision in ("fp16", "tf32") and (on_cpu or not torch.accelerator.is_available()):
        why = "ACCELERATE_USE_CPU (--cpu) is set" if on_cpu else "this machine shows none"
        raise UserError(f"train.precision = {precision}: needs a GPU, and {why}. Use bf16 or fp32.")
    allow_tf32(precision == "tf32")
    set_deterministic(deterministic and torch.cuda.is_available())
    if not on_cpu:
        _check_device(os.environ)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not (on_cpu or torch.accelerator.is_available()):
        raise UserError(_no_process_group(1))  # accelerate would wait for the others first
    try:
        with explained_rendezvous():
            accelerator = _accelerator(precision if precision in ("bf16", "fp16") else "no")
    except UserError:  # a ValueError
        raise
    except (ImportError, NotImplementedError, ValueError) as error:
        raise UserError(
            f"accelerate cannot set up this process ({error}). Fix this, or unset the variables that it names."
        ) from error
    check_distribution(accelerator)
    if accelerator.num_processes != int(os.environ.get("WORLD_SIZE", "1")):
        raise UserError(_no_process_group(accelerator.num_processes))
    limit_threads(os.environ)
    warn_of_unused_gpus(os.environ)
    return accelerator


def with_bf16() -> "Accelerator":
    """Return another accelerator of the same processes and device as the one that there is, which computes in bf16."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # accelerate keeps the first precision of a process
    return _accelerator("bf16")


def _check_device(environment: Mapping[str, str]) -> None:
    """Raise ProcessError if this process has no GPU of its own: accelerate's collectives use the one that LOCAL_RANK numbers."""
    rank, found = environment.get("LOCAL_RANK", ""), torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not found or not rank.isdecimal() or int(rank) < found or environment.get("WORLD_SIZE", "1") == "1":
        return
    shown = "1 GPU" if found == 1 else f"{found} GPUs"
    remedy = "Start as many processes as there are GPUs"
    if environment.get("SLURM_PROCID"):
        remedy += ", and let every task see all GPUs of its node (not `srun --gpus-per-task` or `--gpu-bind`)"
        remedy += ", or set LOCAL_RANK=0 where each task sees one of its own"
    raise ProcessError(f"LOCAL_RANK = {rank}: this process sees {shown}, and would train on number {rank}. {remedy}.")


def _no_process_group(found: int) -> str:
    """Return the message about processes that accelerate does not join into one group."""
    return (
        f"WORLD_SIZE = {os.environ.get('WORLD_SIZE', '1')}, but accelerate sees {found} process. On CPUs set "
        "ACCELERATE_USE_CPU=true and launch with `python -m common.launch --multi_gpu --num_processes N` "
        "(docs/several_machines.md)."
    )


def _accelerator(mixed_precision: str) -> "Accelerator":
    """Return an accelerator that takes nothing from the environment but its processes and device."""
    level = logging.root.level
    os.environ["ACCELERATE_USE_IPEX"] = "false"  # read by accelerate 1.10 only, by default true where IPEX is installed
    from accelerate import Accelerator
    from accelerate.utils import (
        DistributedDataParallelKwargs,
        GradientAccumulationPlugin,
        InitProcessGroupKwargs,
        TorchDynamoPlugin,
    )

    not_compiled = TorchDynamoPlugin(
        backend="no", mode="default", fullgraph=False, dynamic=False, use_regional_compilation=False
    )
    accelerator = Accelerator(
        mixed_precision=mixed_precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        dynamo_plugin=not_compiled,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=timedelta(minutes=30)),
        ],
    )
    logging.root.setLevel(level)  # ACCELERATE_LOG_LEVEL
    return accelerator


def check_distribution(accelerator: "Accelerator") -> None:
    """Raise UserError if accelerate would distribute the network in another way than one replica per process."""
    kind = accelerator.distributed_type.value
    if kind in UNUSABLE:
        remedy = " Set the environment variable USE_TORCH_XLA=0 to train without torch_xla." if kind == "XLA" else ""
        raise UserError(f"accelerate's distributed type is {kind}, which no stage can use.{remedy}")


def limit_threads(environment: Mapping[str, str]) -> None:
    """Let PyTorch start no more threads than this process may use cores, unless the environment tells their number.

    By default it counts the cores of the process's affinity, not a container's CPU quota, and threads beyond that wait for each
    other. A number that the environment tells is left alone, with a warning: it changes the rounding of sums.
    """
    threads, cores = torch.get_num_threads(), available_cores()
    if threads <= cores:
        return
    if "OMP_NUM_THREADS" not in environment:
        torch.set_num_threads(cores)
        return
    logger.warning(
        "PyTorch computes with %d threads on %d cores (affinity, or a container's CPU quota), which is slow: set "
        "OMP_NUM_THREADS=%d",
        threads,
        cores,
        cores,
    )
