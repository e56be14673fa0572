"""Order of an epoch over shards: a disk or a server is read shard by shard, while the images of several are mixed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data.config import DataConfig
from common.data.images.shard_numbers import shard_numbers
from common.data.sources.split import Split
from common.errors import UserError


@dataclass(frozen=True)
class ShardOrder:
    """Order of N images in S shards, of which about `window` are mixed at any time.

    The shards take random places 0 ... S - 1. An image of the shard at place p is drawn at (p + window * u) modulo S, u uniform in
    [0, 1), and the images are sorted by it. So every stretch of an epoch mixes images of `window` shards, the last stretch those of
    the first one, and the images of a shard are spread over `window` shards' length of the epoch.
    """

    shards: npt.NDArray[np.int64]
    """(N,) number of each image's shard."""
    window: int

    def permutation(self, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Return (N,) a random order of the images, each once."""
        num_shards = int(self.shards.max()) + 1
        places = rng.permutation(num_shards)[self.shards]
        return np.argsort((places + self.window * rng.random(len(self.shards))) % num_shards, kind="stable")


def build_shard_order(config: DataConfig, train: Split) -> ShardOrder | None:
    """Return the order of the training images over shards, if the configuration asks for it; None for a permutation of all.

    Raise UserError if the images are in no shards.
    """
    if config.shuffle_shards is None:
        return None
    numbers = shard_numbers(train.images)
    if numbers is None:
        raise UserError(
            f"data.shuffle_shards is {config.shuffle_shards}, but data.source '{config.source}' has no shards, or has images"
            " without labels from other ones. Remove the key, or set data.source to tables or tar shards."
        )
    _, dense = np.unique(numbers, return_inverse=True)
    return ShardOrder(dense.astype(np.int64), config.shuffle_shards)
