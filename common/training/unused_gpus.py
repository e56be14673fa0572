"""Warning about GPUs that the machine has and PyTorch cannot use: a run would otherwise be slow without a word."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from common.training.launch_environment import TRUE
from common.visible_gpus import gpus_named

_log = logging.getLogger(__name__)

_DEVICES = Path("/dev")
_NONE = ("", "-1", "NoDevFiles")
"""Values of CUDA_VISIBLE_DEVICES that say that no GPU is meant to be used; Slurm sets the last one."""

_GPUS_OF_JOB = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")
"""Variables of which a job of Slurm with GPUs has at least one."""


def warn_of_unused_gpus(environment: Mapping[str, str], devices: Path = _DEVICES) -> None:
    """Log why a run is on the CPU of a machine with NVIDIA's GPUs, unless the environment says that it is meant to be.

    `devices` is the folder of the system's devices.
    """
    on_cpu = environment.get("ACCELERATE_USE_CPU", "").lower() in TRUE
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    is_job_without = "SLURM_JOB_ID" in environment and not any(map(environment.get, _GPUS_OF_JOB))
    if torch.accelerator.is_available() or on_cpu or visible in _NONE or is_job_without:
        return
    number = sum(1 for _ in devices.glob("nvidia[0-9]*"))
    if not number:
        return
    if torch.version.cuda is None:
        reason = f"this PyTorch ({torch.__version__}) is built without CUDA: install one with it (pytorch.org)"
    elif visible is not None and not _names_a_gpu(visible, number):
        reason = f"CUDA_VISIBLE_DEVICES is {visible!r}: correct or unset it"
    else:
        reason = (
            f"this PyTorch ({torch.__version__}) needs a driver for CUDA {torch.version.cuda}: compare with the first line of"
            " `nvidia-smi`, and update the driver or install a PyTorch for it"
        )
    _log.warning(
        "this run is on the CPU, although the machine has GPUs (%d): %s. ACCELERATE_USE_CPU=true says that it is meant to be",
        number,
        reason,
    )


def _names_a_gpu(visible: str, number: int) -> bool:
    """Return whether CUDA_VISIBLE_DEVICES begins with one of so many GPUs, or with an id, which cannot be checked."""
    named = gpus_named(visible)
    return bool(named) and (not named[0].isdecimal() or int(named[0]) < number)
