"""PK sampling: batches of P identities with K images each, for triplet losses."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.rng import SampleKey, generator

Indices = npt.NDArray[np.int64]


class PKSampler:
    """Sampler of batches of P identities x K images (Hermans et al. 2017, section 2).

    The images of an identity are shuffled, keyed by (seed, epoch, identity), and split into groups of K. The remainder is not used
    in this epoch; an identity with fewer than K images fills its single group by repeating images, with other augmentations. A
    batch has one group from each of P different identities.

    An epoch has S steps, the largest number for which every batch can be filled: sum over identities of min(groups, S) >= P * S.
    Market-1501 (12,936 images) gives about 184. At each step, identities with as many remaining groups as remaining steps are
    selected first; the others are drawn with probability proportional to their remaining groups, keyed by (seed, epoch).

    Process `rank` of N takes the identities [rank * P / N, (rank + 1) * P / N) of each batch, with all their images.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        batch_size: int,
        images_per_identity: int,
        seed: int,
        *,
        rank: int = 0,
        num_processes: int = 1,
    ) -> None:
        """Create the sampler from the images' identities, numbered from 0, the global batch size P * K, and K."""
        self.labels = np.asarray(labels, dtype=np.int64)
        self.members = [indices for indices in _members(self.labels) if len(indices)]
        self.batch_size, self.images_per_identity, self.seed = batch_size, images_per_identity, seed
        self.identities_per_batch = batch_size // images_per_identity
        self._check(num_processes)
        assert 0 <= rank < num_processes, f"rank {rank} of {num_processes} processes"
        local = batch_size // num_processes
        self.first, self.last = rank * local, (rank + 1) * local
        counts = np.array([len(indices) for indices in self.members])
        self.groups = np.maximum(1, counts // images_per_identity)
        self._steps = most_steps(self.groups, self.identities_per_batch)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches per epoch, the same for every epoch and process."""
        return self._steps

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, starting at step `first_step` of the epoch."""
        for step, chosen in enumerate(self.identities(epoch)):
            if step >= first_step:
                keys = self._batch(epoch, step, chosen)
                yield keys[self.first : self.last]

    def identities(self, epoch: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of an epoch as P pairs (identity, index of its group)."""
        rng = generator(self.seed, epoch=epoch, stream="identities")
        remaining = self.groups.copy()
        for remaining_steps in range(self._steps, 0, -1):
            # The smallest of independent exponential variables with these rates are a weighted draw without replacement.
            times = rng.exponential(size=len(remaining)) / np.maximum(remaining, 1)
            times[remaining >= remaining_steps] -= np.inf
            times[remaining == 0] = np.inf
            tie_breakers = rng.random(len(remaining))
            chosen = np.lexsort((tie_breakers, times))[: self.identities_per_batch]
            chosen = rng.permutation(chosen)
            group = self.groups[chosen] - remaining[chosen]
            remaining[chosen] -= 1
            yield list(zip(chosen.tolist(), group.tolist(), strict=True))

    def _batch(self, epoch: int, step: int, chosen: list[tuple[int, int]]) -> list[SampleKey]:
        """Return the keys of a global batch."""
        keys = list[SampleKey]()
        for identity, group in chosen:
            indices = self.members[identity]
            order = generator(self.seed, epoch=epoch, index=identity, stream="identity order").permutation(indices)
            for position in range(group * self.images_per_identity, (group + 1) * self.images_per_identity):
                repeat, index = divmod(position, len(order))
                keys.append(SampleKey(epoch, step * self.batch_size + len(keys), int(order[index]), repeat))
        return keys

    def _check(self, num_processes: int) -> None:
        """Raise UserError for a batch that cannot be filled or split over the processes."""
        num_identities = self.identities_per_batch
        keys = f"train.batch_size = {self.batch_size} with reid.images_per_identity = {self.images_per_identity}"
        if self.batch_size % self.images_per_identity or num_identities < 2:
            raise UserError(
                f"{keys}: a batch needs at least 2 identities with the same number of images each; use a multiple, at least twice"
                " reid.images_per_identity."
            )
        if num_identities > len(self.members):
            raise UserError(
                f"{keys}: a batch needs {num_identities} identities, but the training images have {len(self.members)}. Lower"
                " train.batch_size or raise reid.images_per_identity."
            )
        if num_identities % num_processes:
            raise UserError(
                f"{keys}: {num_identities} identities cannot be split evenly over {num_processes} processes; use a number of"
                f" processes that divides {num_identities}."
            )


def most_steps(groups: Indices, identities_per_batch: int) -> int:
    """Return the largest number S of batches of P different identities that can be filled: sum_i min(groups_i, S) >= P * S.

    The left side divided by S decreases as S grows, so the largest S is found by bisection.
    """
    low, high = 1, int(groups.sum()) // identities_per_batch
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(groups, middle).sum() >= identities_per_batch * middle:
            low = middle
        else:
            high = middle - 1
    return low


def _members(labels: Indices) -> list[Indices]:
    """Return the indices of each identity's images, in order."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels)) if len(labels) else np.zeros(0, dtype=np.int64)
    return np.split(order, ends[:-1])
