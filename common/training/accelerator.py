"""The devices and processes of a run: accelerate's Accelerator, its precision; a launch that cannot work is refused."""

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from common.errors import UserError
from common.training.rendezvous import explained_rendezvous

if TYPE_CHECKING:
    from accelerate import Accelerator


def build_accelerator(precision: str) -> "Accelerator":
    """Return the accelerator of a run that computes in `precision`: fp32, bf16 or fp16.

    Raise UserError for fp16 without a GPU, and for processes without a common process group, which would train independent
    copies.
    """
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    if precision == "fp16" and not torch.accelerator.is_available():
        raise UserError("train.precision = fp16: needs a GPU, and this machine shows none. Use bf16 or fp32.")
    with explained_rendezvous():
        accelerator = Accelerator(
            mixed_precision="no" if precision == "fp32" else precision,
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timedelta(minutes=30)),
            ],
        )
    wanted, found = int(os.environ.get("WORLD_SIZE", "1")), accelerator.num_processes
    if wanted != found:
        raise UserError(
            f"WORLD_SIZE = {wanted}, but accelerate sees {found} process. On CPUs set ACCELERATE_USE_CPU=true and launch "
            "with `accelerate launch --multi_gpu --num_processes N` (docs/several_machines.md)."
        )
    return accelerator
