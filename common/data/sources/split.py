"""Owns the split: what every source is turned into, and all that training and evaluation see of the data."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from common.data.images.collections import Images, SelectedImages, content_hash
from common.data.images.decode import MAX_PIXELS


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with, or without, labels. `labels` is (N,) int64 in [0, len(class_names)) or None.

    An image of more than `max_pixels` counts as broken.
    """

    images: Images
    labels: npt.NDArray[np.int64] | None
    class_names: tuple[str, ...]
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        """Hold the labels to the images and the class names."""
        if self.labels is not None:
            assert self.labels.shape == (len(self.images),), "one label per image"
            assert len(self.labels) == 0 or 0 <= self.labels.min() <= self.labels.max() < len(self.class_names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def image(self, index: int) -> Tensor:
        """Return image `index` as uint8 RGB (3, H, W), read-only; raise UserError with its name when it is broken."""
        return self.images.decode(index, max_pixels=self.max_pixels)

    def name(self, index: int) -> str:
        """Return the path of image `index`, or its file and row."""
        return self.images.name(index)

    def file_name(self, index: int) -> str | None:
        """Return the relative path the data set itself gives image `index`, or None where it has none."""
        return self.images.file_name(index)

    def file_names(self) -> list[str | None]:
        """Return `file_name` of every image, much faster than one by one."""
        return self.images.file_names()

    def select(self, indices: npt.ArrayLike) -> "Split":
        """Return the split of these images, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        if isinstance(self.images, SelectedImages):
            images = SelectedImages(self.images.images, self.images.indices[chosen])
        else:
            images = SelectedImages(self.images, chosen)
        return replace(self, images=images, labels=None if self.labels is None else self.labels[chosen])

    @cached_property
    def fingerprint(self) -> str:
        """Return a hash over the number of images, labels, class names and the content of 256 evenly spaced images.

        It does not depend on where the data lies, nor on what is cached.
        """
        digest = hashlib.blake2b(content_hash(self.images).encode(), digest_size=16)
        digest.update("\0".join(self.class_names).encode())
        digest.update(b"unlabelled" if self.labels is None else self.labels.tobytes())
        return digest.hexdigest()

    def class_counts(self) -> dict[str, int]:
        """Return the number of images of each class; empty without labels."""
        if self.labels is None:
            return {}
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))
