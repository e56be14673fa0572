"""Samplers: the order of images in an epoch, their batches, and each process's part of a batch."""

import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from common.data.loading.shard_order import ShardOrder
from common.errors import UserError
from common.rng import SampleKey, generator

logger = logging.getLogger(__name__)


class Sampler(Protocol):
    """Interface of a training sampler: yields this process's batches of an epoch."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches of an epoch, the same for every process."""
        ...

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, starting at step `first_step` of the epoch."""
        ...


class EpochSampler:
    """Shuffle the images of an epoch into global batches, and split each batch over the processes.

    Position p of global batch s is image `order[s * c + p % c]`, repeat `p // c`, where `order` is a permutation keyed by
    (seed, epoch) and c, the number of distinct images in a batch, is min(ceil(batch_size / repeats), num_images):

    - repeats = 1: each image at most once per epoch; the incomplete last batch is dropped.
    - fewer images than batch_size: the batch is filled by repeating the permutation.
    - repeats = r, repeated augmentation (Berman et al. 2019; Hoffer et al. 2020): the r copies of an image are c positions apart in
      one global batch, so with r processes they are on different processes. The number of steps per epoch does not change.

    Positions 2k and 2k + 1, which mixup pairs, never hold the same image if there are at least two images.
    Process `rank` takes the positions [rank * b, (rank + 1) * b) of every batch, b = batch_size / num_processes.
    """

    def __init__(
        self,
        num_images: int,
        batch_size: int,
        seed: int,
        *,
        rank: int = 0,
        num_processes: int = 1,
        repeats: int = 1,
        shuffle: bool = True,
        shard_order: ShardOrder | None = None,
    ) -> None:
        """Create the sampler; `batch_size` is the global batch size. With `shard_order`, the permutation is one over shards."""
        if num_images < 1:
            raise UserError("data.source: the training split has no images; use a source with images")
        if batch_size < 1 or batch_size % num_processes:
            raise UserError(
                f"train.batch_size = {batch_size}: it is the total over all {num_processes} processes, "
                f"so it must be a positive multiple of {num_processes}"
            )
        if repeats < 1:
            raise UserError(f"augment.aug_repeats = {repeats}: use 1 (each image once per batch) or more")
        if not 0 <= rank < num_processes:
            raise AssertionError(f"rank {rank} of {num_processes} processes")
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.rank, self.num_processes, self.shuffle = rank, num_processes, shuffle
        self.shard_order = shard_order
        self.images_per_batch = min(-(-batch_size // repeats), num_images)
        if num_images < batch_size:
            logger.info("%d images are repeated to fill a batch of %d", num_images, batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches of an epoch, the same for every process."""
        return max(1, self.num_images // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's permutation of the image indices, int64."""
        if not self.shuffle:
            return np.arange(self.num_images)
        rng = generator(self.seed, epoch=epoch, stream="order")
        return rng.permutation(self.num_images) if self.shard_order is None else self.shard_order.permutation(rng)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, starting at step `first_step` of the epoch."""
        order = self.order(epoch)
        local = self.batch_size // self.num_processes
        offsets = np.arange(self.rank * local, (self.rank + 1) * local)
        repeats = (offsets // self.images_per_batch).tolist()
        for step in range(first_step, self.steps_per_epoch):
            indices = order[step * self.images_per_batch + offsets % self.images_per_batch].tolist()
            positions = (step * self.batch_size + offsets).tolist()
            yield [
                SampleKey(epoch, position, index, repeat)
                for position, index, repeat in zip(positions, indices, repeats, strict=True)
            ]


class EpochBatches:
    """A `batch_sampler` for `DataLoader` that yields a `Sampler`'s batches, starting at any step of any epoch.

    One iteration may cover several epochs, so that the workers do not idle at the end of an epoch.
    """

    def __init__(self, sampler: Sampler) -> None:
        """Start at epoch 0, for one epoch."""
        self.sampler = sampler
        self.set_epoch(0)

    def set_epoch(self, epoch: int, first_step: int = 0, *, num_epochs: int = 1) -> None:
        """Set the next iteration to start at (epoch, first_step) and to end after `num_epochs` epochs, including the first."""
        if not 0 <= first_step <= self.sampler.steps_per_epoch:
            raise AssertionError(f"step {first_step} of an epoch of {self.sampler.steps_per_epoch} steps")
        self.epoch, self.first_step, self.num_epochs = epoch, first_step, num_epochs

    def __len__(self) -> int:
        """Return the number of batches in the next iteration."""
        return self.num_epochs * self.sampler.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield lists of keys, one list per step."""
        for epoch in range(self.epoch, self.epoch + self.num_epochs):
            yield from self.sampler.batches(epoch, self.first_step if epoch == self.epoch else 0)


class EvaluationSampler:
    """Iterate over a split in order, each image exactly once over all processes; process shares differ by at most one image."""

    def __init__(self, num_images: int, batch_size: int, *, rank: int = 0, num_processes: int = 1) -> None:
        """Create the sampler; `batch_size` is the batch size per process."""
        if batch_size < 1:
            raise UserError(f"train.batch_size = {batch_size}: use a positive number of images")
        self.first = num_images * rank // num_processes
        self.last = num_images * (rank + 1) // num_processes
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return -(-(self.last - self.first) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield lists of keys; the last list may be shorter."""
        for start in range(self.first, self.last, self.batch_size):
            stop = min(start + self.batch_size, self.last)
            yield [SampleKey(0, index, index, 0) for index in range(start, stop)]
