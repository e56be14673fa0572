"""Owns what data for re-identification is: who is seen by which camera, and the parts of such a set.

Training identities are classes like any others. At the test, none of them appears: every image of a query set is searched
for in a gallery, so that a search is what stands in the place of a test split.
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
"""Identity of images that count neither as right nor as wrong (Market-1501)."""

Part = Literal["validation", "test"]


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """Images of identities by cameras. The classes of `split` are the pairs that occur; `pairs` is (C, 2): identity, camera."""

    split: Split
    pairs: Indices

    @cached_property
    def identities(self) -> Indices:
        """Return the (N,) identities of the images, as their source counts them."""
        assert self.split.labels is not None
        identities: Indices = self.pairs[self.split.labels, 0]
        return identities

    @cached_property
    def cameras(self) -> Indices:
        """Return the (N,) cameras of the images, as their source counts them."""
        assert self.split.labels is not None
        cameras: Indices = self.pairs[self.split.labels, 1]
        return cameras

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.split)

    def select(self, indices: npt.ArrayLike) -> "Sightings":
        """Return these images, in this order."""
        return replace(self, split=self.split.select(indices))


def sightings(images: Images, identities: npt.ArrayLike, cameras: npt.ArrayLike) -> Sightings:
    """Return images with the (N,) identities and cameras they show."""
    both = np.stack([np.asarray(identities, dtype=np.int64), np.asarray(cameras, dtype=np.int64)], axis=1)
    pairs, labels = np.unique(both, axis=0, return_inverse=True)
    names = tuple(f"{identity:04d}_c{camera}" for identity, camera in pairs.tolist())
    return Sightings(split=Split(images=images, labels=labels.reshape(-1), class_names=names), pairs=pairs)


class Search(NamedTuple):
    """Hold what is searched for, and where."""

    query: Sightings
    gallery: Sightings

    def answerable(self) -> npt.NDArray[np.bool_]:
        """Return which queries have their identity in the gallery under another camera, (Q,)."""
        labels = self.gallery.split.labels
        assert labels is not None
        seen_by: dict[int, set[int]] = {}
        for identity, camera in self.gallery.pairs[np.unique(labels)].tolist():
            seen_by.setdefault(identity, set()).add(camera)
        asked = zip(self.query.identities.tolist(), self.query.cameras.tolist(), strict=True)
        return np.array([bool(seen_by.get(who, set()) - {camera}) for who, camera in asked], dtype=bool)


@dataclass(frozen=True, kw_only=True)
class IdentitySet:
    """A data set for re-identification as its source holds it."""

    title: str
    train: Sightings
    test: Search
    shared_numbers: bool
    """Whether a number means the same identity in `train` and `test`, and 0 a distractor (MSMT17 counts both from 0)."""


@dataclass(frozen=True, kw_only=True)
class IdentitySplits(Splits):
    """What a run for re-identification trains on, and the searches that judge it, in the place of labelled splits."""

    searches: dict[Part, Search]
