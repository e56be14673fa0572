"""Which shard each image of a collection lies in."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from common.data.images.collections import Images, PixelImages, SelectedImages


@runtime_checkable
class ShardedImages(Protocol):
    """Images that lie in shards: files of many images each."""

    def shard_numbers(self) -> npt.NDArray[np.int64]:
        """Return (N,) the number of each image's shard, counted from 0."""


def shard_numbers(images: Images) -> npt.NDArray[np.int64] | None:
    """Return (N,) the number of each image's shard; None for images that are in no shards, or in those of several sources."""
    if isinstance(images, SelectedImages):
        numbers = shard_numbers(images.images)
        return None if numbers is None else numbers[images.indices]
    if isinstance(images, PixelImages):
        return None if images.origin is None else shard_numbers(images.origin)
    return images.shard_numbers() if isinstance(images, ShardedImages) else None
