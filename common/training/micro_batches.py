"""Micro-batches (gradient accumulation): a batch that does not fit into memory is processed in parts."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

    from common.training.config import TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MicroBatch:
    """One micro-batch of a process's batch."""

    rows: slice
    """Its images in the batch."""
    share: float
    """Its fraction of the batch: the weight of its mean loss, so that the weighted losses sum to the mean over the batch."""
    is_last: bool
    """Whether it is the last one, after which the gradients are complete and are averaged over processes."""

    def synchronized(self, accelerator: "Accelerator", model: nn.Module) -> AbstractContextManager[None]:
        """Return the context of its forward and backward pass: only the last micro-batch averages gradients over processes."""
        context: AbstractContextManager[None] = nullcontext() if self.is_last else accelerator.no_sync(model)
        return context


def micro_batches(num_images: int, size: int | None) -> Iterator[MicroBatch]:
    """Yield the micro-batches of a batch of `num_images`: `size` images each except the last, or one with all if none."""
    step = size or num_images
    for first in range(0, num_images, step):
        stop = min(first + step, num_images)
        yield MicroBatch(slice(first, stop), (stop - first) / num_images, stop == num_images)


def evaluation_batch(train: "TrainConfig", num_processes: int) -> int:
    """Return the images of a batch of an evaluation, over all processes: no more at a time than a step takes."""
    size = train.micro_batch_size
    return train.batch_size if size is None else min(train.batch_size, size * num_processes)


def warn_of_batch_norm(network: nn.Module, micro_batch_size: int | None) -> None:
    """Warn if the network contains batch norm that is not frozen: its statistics make training with micro-batches differ."""
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    if micro_batch_size and any(norm.training for norm in norms):
        logger.warning(
            "warning: train.micro_batch_size = %d: the network contains batch norm, which normalizes over the %d images of a "
            "micro-batch instead of the complete batch. Results differ from a run without train.micro_batch_size by more than "
            "rounding.",
            micro_batch_size,
            micro_batch_size,
        )
