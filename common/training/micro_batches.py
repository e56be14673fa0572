"""Owns the parts of a batch: what does not fit into the memory at once goes through the network in pieces."""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MicroBatch:
    """One part of a process's batch."""

    rows: slice
    """Which of the batch's images it holds."""
    share: float
    """Their share of the batch: the weight of its mean loss, so that the parts' sum is the whole batch's mean."""
    is_last: bool
    """Whether the gradients are whole after it, and go to the other processes."""

    def synchronised(self, accelerator: "Accelerator", model: nn.Module) -> AbstractContextManager[None]:
        """Return the context of its forward and backward pass: gradients are averaged over processes once, with the last."""
        context: AbstractContextManager[None] = nullcontext() if self.is_last else accelerator.no_sync(model)
        return context


def micro_batches(num_images: int, size: int | None) -> Iterator[MicroBatch]:
    """Yield the parts of a batch of `num_images`, `size` images each but the last; all of them at once without a size."""
    step = size or num_images
    for first in range(0, num_images, step):
        stop = min(first + step, num_images)
        yield MicroBatch(slice(first, stop), (stop - first) / num_images, stop == num_images)


def warn_of_batch_norm(network: nn.Module, micro_batch: int | None) -> None:
    """Say at the start that batch norm makes training by parts another training, where it does."""
    if micro_batch and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        logger.warning(
            "warning: train.micro_batch = %d: the network holds batch norm, which sees one part of %d images for each process at "
            "a time and not the whole batch. Results differ from a run without train.micro_batch by more than rounding.",
            micro_batch,
            micro_batch,
        )
