"""Splits: indexed images with optional labels, the common interface of all data sources."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.collections import Images, SelectedImages, content_hash
from common.data.images.copied_as_read import copied_as_read, num_stored

UNLABELED = -1
"""Label of an image without one, in a partly labeled split."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Images with or without labels. `labels` is (N,) int64 in [0, len(class_names)), or None.

    Sources and the training images of pre-training may be partly labeled: then `labels` is UNLABELED where an image has none.
    """

    images: Images
    labels: npt.NDArray[np.int64] | None
    class_names: tuple[str, ...]
    groups: npt.NDArray[np.str_] | None = None
    """(N,) names of the groups (patients, sites, cameras) that no two parts of the data may share; None: there are no groups."""

    def __post_init__(self) -> None:
        """Check that the labels match the images and the class names."""
        if self.labels is not None:
            assert self.labels.shape == (len(self.images),), "one label per image"
            assert len(self.labels) == 0 or UNLABELED <= self.labels.min() <= self.labels.max() < len(self.class_names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def image(self, index: int) -> ImageArray:
        """Return image `index` as uint8 RGB (H, W, 3), read-only; raise UserError with its name if it is corrupt."""
        return self.images.decode(index)

    def name(self, index: int) -> str:
        """Return the path of image `index`, or its table and row."""
        return self.images.name(index)

    def file_names(self) -> list[str | None]:
        """Return the relative path of every image within the dataset, or None for images without one."""
        return self.images.file_names()

    def image_ids(self) -> list[str]:
        """Return a unique name of every image that does not depend on where the dataset is or on caching.

        It is the relative path within the dataset; for rows of a table without a path, the table and the row. Equal names (tables
        that store 'image.png' in every row, lists that repeat a file) are numbered from the second one on, in the split's order.
        A content hash would not be unique for copies of an image, and takes reading all images.
        """
        names = [
            name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
            for name in self.images.image_ids()
        ]
        taken, used, ids = set(names), set[str](), list[str]()
        numbers = defaultdict[str, Iterator[int]](lambda: count(2))
        for name in names:
            if name in used:
                name = next(numbered for k in numbers[name] if (numbered := f"{name} ({k})") not in taken)
            used.add(name)
            ids.append(name)
        return ids

    def select(self, indices: npt.ArrayLike) -> "Split":
        """Return a split of the images at `indices`, in this order."""
        selected = np.asarray(indices, dtype=np.int64)
        if isinstance(self.images, SelectedImages):
            images = SelectedImages(self.images.images, self.images.indices[selected])
        else:
            images = SelectedImages(self.images, selected)
        labels = None if self.labels is None else self.labels[selected]
        return replace(
            self, images=images, labels=labels, groups=None if self.groups is None else self.groups[selected]
        )

    def copied_as_read(self) -> "Split":
        """Return the same split, of which the images of a server's shards are copied to the node as they are read."""
        return replace(self, images=copied_as_read(self.images))

    def is_sample(self) -> bool:
        """Return whether the split has less than half of the images of the source's splits that it is selected from.

        Copies of the shards of a sample are mostly images that nobody reads.
        """
        return 2 * len(self.images) < num_stored(self.images)

    def labeled(self) -> "Split":
        """Return the images that have labels: the split itself, unless it is partly labeled."""
        if self.labels is None or not (self.labels == UNLABELED).any():
            return self
        return self.select(np.flatnonzero(self.labels != UNLABELED))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the number of images, the labels, the class names and the content of 256 evenly spaced images.

        It depends neither on the location of the data nor on caching.
        """
        digest = hashlib.blake2b(content_hash(self.images).encode(), digest_size=16)
        digest.update("\0".join(self.class_names).encode())
        digest.update(b"unlabeled" if self.labels is None else self.labels.tobytes())
        return digest.hexdigest()

    def class_counts(self) -> dict[str, int]:
        """Return the number of labeled images per class name; empty without labels."""
        if self.labels is None:
            return {}
        counts = np.bincount(self.labels[self.labels != UNLABELED], minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))
