"""Types of re-identification data: person images with identity and camera, query and gallery sets, splits.

Training identities are classes like any others. Test identities do not occur in training: instead of being classified, each image
of a query set is matched against a gallery. A query and a gallery set therefore take the place of a labeled split.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.collections import Images
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.data.splits.stratified import Indices

DISTRACTOR = 0
"""Identity of gallery images that match no query (Market-1501)."""
JUNK = -1
"""Identity of images that are ignored, neither correct nor wrong (Market-1501)."""

Part = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class PersonImages:
    """Images with identity and camera. The classes of `split` are the (identity, camera) pairs that occur; `pairs` lists them."""

    split: Split
    pairs: Indices
    """(C, 2): identity and camera."""

    @cached_property
    def identities(self) -> Indices:
        """Return the (N,) identities of the images, as numbered in the source."""
        assert self.split.labels is not None
        identities: Indices = self.pairs[self.split.labels, 0]
        return identities

    @cached_property
    def cameras(self) -> Indices:
        """Return the (N,) cameras of the images, as numbered in the source."""
        assert self.split.labels is not None
        cameras: Indices = self.pairs[self.split.labels, 1]
        return cameras

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.split)

    def select(self, indices: npt.ArrayLike) -> "PersonImages":
        """Return the images at `indices`, in that order."""
        return replace(self, split=self.split.select(indices))

    def as_classes(self) -> Split:
        """Return the images as a split whose classes are the identities, renumbered from 0."""
        identities, labels = np.unique(self.identities, return_inverse=True)
        names = tuple(f"{identity:04d}" for identity in identities.tolist())
        return replace(self.split, labels=labels.reshape(-1).astype(np.int64), class_names=names)


def person_images(images: Images, identities: npt.ArrayLike, cameras: npt.ArrayLike) -> PersonImages:
    """Return images with their (N,) identities and cameras."""
    both = np.stack([np.asarray(identities, dtype=np.int64), np.asarray(cameras, dtype=np.int64)], axis=1)
    pairs, labels = np.unique(both, axis=0, return_inverse=True)
    names = tuple(f"{identity:04d}_c{camera}" for identity, camera in pairs.tolist())
    return PersonImages(split=Split(images=images, labels=labels.reshape(-1), class_names=names), pairs=pairs)


class QueryGallery(NamedTuple):
    """A query set and the gallery that it is matched against."""

    query: PersonImages
    gallery: PersonImages

    def has_match(self) -> npt.NDArray[np.bool_]:
        """Return (Q,) whether each query's identity is in the gallery under another camera."""
        labels = self.gallery.split.labels
        assert labels is not None
        cameras: dict[int, set[int]] = {}
        for identity, camera in self.gallery.pairs[np.unique(labels)].tolist():
            cameras.setdefault(identity, set()).add(camera)
        queries = zip(self.query.identities.tolist(), self.query.cameras.tolist(), strict=True)
        return np.array([bool(cameras.get(identity, set()) - {camera}) for identity, camera in queries], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class IdentitySet:
    """A re-identification dataset as read from its source."""

    title: str
    train: PersonImages
    test: QueryGallery
    shared_ids: bool
    """Whether a number is the same identity in `train` and `test`, and 0 a distractor. MSMT17 numbers both from 0 separately."""


@dataclass(frozen=True, kw_only=True)
class IdentitySplits(Splits):
    """Splits of a re-identification run. Query and gallery sets take the place of labeled validation and test splits."""

    query_gallery: dict[Part, QueryGallery]
