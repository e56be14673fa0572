"""`train.precision: auto`: bf16 or fp32, by the rate of matrix products on the device of a run.

It is chosen once, when a run begins, and kept in its resolved recipe, so that a run that resumes elsewhere computes as it began.
The device decides and not the network: on the same kind of machine the arms of a study have the same precision.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from common.config import Config
from common.models.patch_geometry import RECIPE_FILE, read_recipe
from common.paths import user_path
from common.training.bf16 import measure_bf16, warn_of_slow_bf16
from common.training.process_group import ProcessGroup
from common.yaml_words import values_of

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

AUTO = "auto"
CHOICES = ("fp32", "bf16")
WORTH = 1.4
"""Rate of products in bf16 relative to fp32 from which on it is chosen. Measured: 6.9 on a CPU with AMX; without a unit for bf16
0.22 on one with AVX-512 and 0.02 on one with AVX2 alone (Zen 3)."""
AnyConfig = TypeVar("AnyConfig", bound=Config)


def choose_precision(config: Config, accelerator: "Accelerator") -> str:
    """Return bf16 or fp32: what the run in the folder of `config` began with, otherwise what the main process measures.

    Every process calls it, and all get the same.
    """
    folder = user_path(config.out, "out")  # type: ignore[attr-defined]  # an error of every process, so that none waits
    chosen = _choose(folder, accelerator.device) if accelerator.is_main_process else ""
    return ProcessGroup(accelerator).gather(chosen)[0]


def faster_precision(ratio: float) -> str:
    """Return what `auto` chooses where matrix products in bf16 are `ratio` times as fast as in fp32."""
    return "bf16" if ratio >= WORTH else "fp32"


def with_precision(config: AnyConfig, precision: str) -> AnyConfig:
    """Return the config of a stage with `train.precision` set."""
    train: Config = config.train  # type: ignore[attr-defined]
    return config.model_copy(update={"train": train.model_copy(update={"precision": precision})})


def _choose(folder: Path, device: torch.device) -> str:
    """Return the precision of the run in a folder, and log why."""
    before = _precision_before(folder)
    if before is not None:
        logger.info("train.precision = auto: %s, with which this run began", before)
        if before == "bf16":
            warn_of_slow_bf16(device)
        return before
    if device.type not in ("cpu", "cuda"):
        logger.info("train.precision = auto: fp32, as bf16 is not measured on %s", device.type)
        return "fp32"
    ratio = measure_bf16(device)
    chosen = faster_precision(ratio)
    logger.info(
        "train.precision = auto: %s; matrix products in bf16 are %.1f times as fast as in fp32 here (measured)",
        chosen,
        ratio,
    )
    return chosen


def _precision_before(folder: Path) -> str | None:
    """Return what `auto` chose for the run in a folder; None without one. What cannot be read is reported by `RunFolder`."""
    try:
        train = values_of(read_recipe(folder / RECIPE_FILE)).get("train")
    except OSError:
        return None
    found = train.get("precision") if isinstance(train, dict) else None
    return found if found in CHOICES else None
