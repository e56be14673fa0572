"""Owns the order of samples: which image stands at which position of an epoch, and which of them this process takes."""

import logging
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from common.errors import UserError
from common.rng import SampleKey, generator

logger = logging.getLogger(__name__)


class Sampler(Protocol):
    """What deals the images of an epoch to the batches of this process."""

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches of an epoch, the same for every process."""
        ...

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, from step `first_step` of the epoch on."""
        ...


class EpochSampler:
    """Deal the images of an epoch to global batches, and each batch to the processes.

    Position p of global batch s holds image `order[s * c + p % c]`, repeat `p // c`, where `order` is a permutation
    keyed by (seed, epoch) and c, the number of distinct images of a batch, is ceil(batch_size / repeats), at most
    num_images:

    - repeats = 1: each image at most once an epoch; the incomplete last batch is dropped.
    - fewer images than batch_size: the batch is filled by going through the permutation again.
    - repeats = r, repeated augmentation (Berman et al. 2019; Hoffer et al. 2020): an image's r copies lie c apart in
      one global batch, so on different processes where there are r of them. The epoch keeps its number of steps.

    Positions 2k and 2k + 1 never hold the same image (mixup pairs them), as long as there are two images.
    Process `rank` takes the block [rank * b, (rank + 1) * b) of every batch, b = batch_size / num_processes.
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
    ) -> None:
        """Take the number of images and the global batch size."""
        if num_images < 1:
            raise UserError("data.source: the training split holds no image; give a source with images")
        if batch_size < 1 or batch_size % num_processes:
            raise UserError(
                f"train.batch_size = {batch_size}: it counts the images of all {num_processes} processes "
                f"together, so it must be a positive multiple of {num_processes}"
            )
        if repeats < 1:
            raise UserError(f"augment.repeats = {repeats}: give 1 (each image once a batch) or more")
        if not 0 <= rank < num_processes:
            raise AssertionError(f"rank {rank} of {num_processes} processes")
        self.num_images, self.batch_size, self.seed = num_images, batch_size, seed
        self.rank, self.num_processes, self.shuffle = rank, num_processes, shuffle
        self.images_per_batch = min(-(-batch_size // repeats), num_images)
        if num_images < batch_size:
            logger.info("%d images fill a batch of %d by coming several times in it", num_images, batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches of an epoch, the same for every process."""
        return max(1, self.num_images // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Return the permutation of the images that the epoch goes through, int64."""
        if not self.shuffle:
            return np.arange(self.num_images)
        return generator(self.seed, epoch=epoch, stream="order").permutation(self.num_images)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, from step `first_step` of the epoch on."""
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
    """Hand a `Sampler`'s batches to a `DataLoader` as its `batch_sampler`, from any step of any epoch on.

    One iteration may run over several epochs, so that the workers never wait for an epoch to end.
    """

    def __init__(self, sampler: Sampler) -> None:
        """Start at epoch 0, and go through one epoch."""
        self.sampler = sampler
        self.set(0)

    def set(self, epoch: int, first_step: int = 0, *, num_epochs: int = 1) -> None:
        """Let the next iteration start at (epoch, first_step) and end after `num_epochs` epochs, the first included."""
        if not 0 <= first_step <= self.sampler.steps_per_epoch:
            raise AssertionError(f"step {first_step} of an epoch of {self.sampler.steps_per_epoch} steps")
        self.epoch, self.first_step, self.num_epochs = epoch, first_step, num_epochs

    def __len__(self) -> int:
        """Return the number of batches that the next iteration yields."""
        return self.num_epochs * self.sampler.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield lists of keys, one list a step."""
        for epoch in range(self.epoch, self.epoch + self.num_epochs):
            yield from self.sampler.batches(epoch, self.first_step if epoch == self.epoch else 0)


class EvaluationSampler:
    """Go through a split in order, each image exactly once over all processes; the parts may differ by one image."""

    def __init__(self, num_images: int, batch_size: int, *, rank: int = 0, num_processes: int = 1) -> None:
        """Take the number of images, and how many of them one process looks at together."""
        if batch_size < 1:
            raise UserError(f"train.batch_size = {batch_size}: give a positive number of images")
        self.first = num_images * rank // num_processes
        self.last = num_images * (rank + 1) // num_processes
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches of this process."""
        return -(-(self.last - self.first) // self.batch_size)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield lists of keys; the last may be shorter."""
        for start in range(self.first, self.last, self.batch_size):
            stop = min(start + self.batch_size, self.last)
            yield [SampleKey(0, index, index, 0) for index in range(start, stop)]
