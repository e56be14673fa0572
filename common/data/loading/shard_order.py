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


def build_shard_order(shuffle_shards: int | None, config: DataConfig, train: Split) -> ShardOrder | None:
    """Return the order of the training images over shards of which `shuffle_shards` are mixed; None for a permutation of all.

    Raise UserError if the images are in no shards, or if a permutation of all would read copies that have been removed.
    """
    if shuffle_shards is None:
        if config.stage_gigabytes is not None:
            raise UserError(
                f"data.stage_gigabytes is {config.stage_gigabytes:g}, but without train.shuffle_shards every batch has images of"
                " other shards, whose copies would be removed and made again. Set train.shuffle_shards=16, or remove the key."
            )
        return None
    numbers = shard_numbers(train.images)
    if numbers is None:
        raise UserError(
            f"train.shuffle_shards is {shuffle_shards}, but data.source '{config.source}' has no shards, or has images without"
            " labels from other ones. Remove the key, or set data.source to tables or tar shards."
        )
    found, dense = np.unique(numbers, return_inverse=True)
    if len(found) < 2:
        raise UserError(
            f"train.shuffle_shards is {shuffle_shards}, but the training images of data.source '{config.source}' are read as one"
            " shard, so that there is no order over shards. Remove the key, or set data.source to several tables or tar shards."
        )
    return ShardOrder(dense.astype(np.int64), shuffle_shards)
