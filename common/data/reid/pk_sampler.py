"""Owns identity-balanced sampling: batches of a few identities with a few images of each, as triplet losses need them."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.rng import SampleKey, generator

Indices = npt.NDArray[np.int64]


class IdentitySampler:
    """Deal the images of an epoch to batches of P identities x K images (Hermans et al. 2017, section 2).

    An identity's n images stand in an order keyed by (seed, epoch, identity) and are cut into groups of K. What is left
    over waits for another epoch; an identity with fewer than K images fills its one group by coming again, with other
    draws. A batch holds groups of P different identities.

    An epoch has S steps, the most for which every batch can be filled: sum over identities of min(groups, S) >= P * S.
    Market-1501 (12,936 images) gives about 184. At each step the identities that must come now (as many groups as
    steps are left) come first, the others are drawn in proportion to the groups they have left, keyed by (seed, epoch).

    Process `rank` takes the block [rank * P / N, (rank + 1) * P / N) of each batch's identities, with all their images.
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
        """Take the (N,) identities of the images, counted from 0, the global batch size P * K, and K."""
        self.labels = np.asarray(labels, dtype=np.int64)
        self.members = [positions for positions in _members(self.labels) if len(positions)]
        self.batch_size, self.images_per_identity, self.seed = batch_size, images_per_identity, seed
        self.identities_per_batch = batch_size // images_per_identity
        self._check(num_processes)
        assert 0 <= rank < num_processes, f"rank {rank} of {num_processes} processes"
        local = batch_size // num_processes
        self.first, self.last = rank * local, (rank + 1) * local
        counts = np.array([len(positions) for positions in self.members])
        self.groups = np.maximum(1, counts // images_per_identity)
        self._steps = most_steps(self.groups, self.identities_per_batch)

    @property
    def steps_per_epoch(self) -> int:
        """Return the number of batches of an epoch, the same for every epoch and process."""
        return self._steps

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[list[SampleKey]]:
        """Yield this process's part of each batch, from step `first_step` of the epoch on."""
        for step, chosen in enumerate(self.identities(epoch)):
            if step >= first_step:
                keys = self._batch(epoch, step, chosen)
                yield keys[self.first : self.last]

    def identities(self, epoch: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the batches of an epoch as P pairs of (identity, number of its group)."""
        draws = generator(self.seed, epoch=epoch, stream="identities")
        left = self.groups.copy()
        for steps_left in range(self._steps, 0, -1):
            # The smallest of independent exponential times with these rates come first: a draw without replacement.
            times = draws.exponential(size=len(left)) / np.maximum(left, 1)
            times[left >= steps_left] -= np.inf
            times[left == 0] = np.inf
            forced = draws.random(len(left))
            chosen = np.lexsort((forced, times))[: self.identities_per_batch]
            chosen = draws.permutation(chosen)
            taken = self.groups[chosen] - left[chosen]
            left[chosen] -= 1
            yield list(zip(chosen.tolist(), taken.tolist(), strict=True))

    def _batch(self, epoch: int, step: int, chosen: list[tuple[int, int]]) -> list[SampleKey]:
        """Return the keys of a whole batch."""
        keys = list[SampleKey]()
        for identity, group in chosen:
            positions = self.members[identity]
            order = generator(self.seed, epoch=epoch, index=identity, stream="identity order").permutation(positions)
            for place in range(group * self.images_per_identity, (group + 1) * self.images_per_identity):
                repeat, at = divmod(place, len(order))
                keys.append(SampleKey(epoch, step * self.batch_size + len(keys), int(order[at]), repeat))
        return keys

    def _check(self, num_processes: int) -> None:
        """Raise UserError for a batch that cannot be filled or shared out."""
        wanted = self.identities_per_batch
        given = (
            f"train.batch_size = {self.batch_size} with identification.images_per_identity = {self.images_per_identity}"
        )
        if self.batch_size % self.images_per_identity or wanted < 2:
            raise UserError(f"{given}: a batch holds whole identities, at least 2; give a multiple of the second.")
        if wanted > len(self.members):
            raise UserError(
                f"{given}: a batch needs {wanted} identities, but the training images show {len(self.members)}. Lower"
                " train.batch_size or raise identification.images_per_identity."
            )
        if wanted % num_processes:
            raise UserError(
                f"{given}: {wanted} identities cannot be shared out among {num_processes} processes, each of which takes"
                f" whole ones; start a number of processes that divides {wanted}."
            )


def most_steps(groups: Indices, identities_per_batch: int) -> int:
    """Return the largest S with sum_i min(groups_i, S) >= P * S: so many batches of P different identities can be filled.

    The left side per step falls as S grows, so that it is enough to go on while the next S holds.
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
    """Return the positions of each identity's images, in order."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels)) if len(labels) else np.zeros(0, dtype=np.int64)
    return np.split(order, ends[:-1])
