"""Near duplicates: images that are resized, recompressed or mirrored copies of each other.

A pair is compared in two steps, both relative to what the images of the data set have in common: the correlation of 8 x 8 colors
selects candidates, the correlation of the detail that these leave out confirms them. The first alone takes two airplanes in a blue
sky for copies, and every two images of an aligned camera.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.splits.stratified import Indices
from common.data.splits.thumbnails import BLOCK_LENGTH, Features, Thumbnails, features

MIN_COARSE = 0.975
"""Smallest correlation of the colors of two copies. JPEG of quality 50 leaves 0.98 at 32 pixels, more at larger sizes."""
MIN_DETAIL = 0.85
"""Smallest correlation of their detail: 0.9 after a resize to 24 pixels and quality 75; two planes in the sky have 0.5 or less."""
_SHRINKAGE = 32
"""Number of images of mean zero that are averaged with those of the data set."""
_KEPT_DIM = 31
_CHUNK = 1024
_SAMPLE_SIZE = 8192
_MAX_PAIRS = 2**14
_ROUNDING = 1e-4

Array = npt.NDArray[np.float32]


class Partners(NamedTuple):
    """Duplicates between two parts: for every image of each, the index of one in the other part, or -1."""

    of_first: Indices
    of_second: Indices

    @classmethod
    def none(cls, num_first: int, num_second: int) -> "Partners":
        """Return partners of no image."""
        return cls(np.full(num_first, -1, np.int64), np.full(num_second, -1, np.int64))


class Common(NamedTuple):
    """What the images of a data set have in common: their mean features."""

    coarse: Array
    detail: Array


class NearIndex:
    """Thumbnails of one part, with which those of another are compared. 3 KB per image."""

    def __init__(self, thumbs: Thumbnails, common: Common) -> None:
        self._common = common
        self._features = self._center(_features(thumbs))
        self._basis = _principal_axes(self._features.coarse)
        self._projected = self._project(self._features.coarse)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._features.coarse)

    def compare(self, thumbs: Thumbnails, start: int, partners: Partners) -> None:
        """Write the near duplicates between a block of another part, from its image `start` on, and the index to `partners`."""
        for first in range(0, len(thumbs), BLOCK_LENGTH):
            block = thumbs[first : first + BLOCK_LENGTH]
            for queries in (block, block[:, :, ::-1]):
                self._find(self._center(features(queries)), start + first, partners)

    def _find(self, queries: Features, start: int, partners: Partners) -> None:
        """Write the partners of the images from number `start` on.

        With the coarse features x = (p, r), p their projection, x . y <= p . q + |r| |s|: the product of a sixth of their length
        excludes nearly all pairs, and none wrongly.
        """
        projected = self._project(queries.coarse)
        for first in range(0, len(self), _CHUNK):
            products = projected @ self._projected[first : first + _CHUNK].T
            rows, columns = np.divmod(np.flatnonzero(products >= MIN_COARSE - _ROUNDING), products.shape[1])
            for part in range(0, len(rows), _MAX_PAIRS):
                row, column = rows[part : part + _MAX_PAIRS], columns[part : part + _MAX_PAIRS] + first
                new = (partners.of_first[row + start] < 0) | (partners.of_second[column] < 0)
                row, column = row[new], column[new]
                for mine, theirs, least in (
                    (queries.coarse, self._features.coarse, MIN_COARSE),
                    (queries.detail, self._features.detail, MIN_DETAIL),
                ):
                    alike = np.einsum("pd,pd->p", mine[row], theirs[column]) >= least
                    row, column = row[alike], column[alike]
                # In reverse, so that the first of several partners is written last.
                partners.of_first[row[::-1] + start] = column[::-1]
                partners.of_second[column[::-1]] = row[::-1] + start

    def _center(self, found: Features) -> Features:
        """Return the features without what all images have in common, of norm 1; zero where there is nothing to compare."""
        coarse, detail = _normalize(found.coarse - self._common.coarse), _normalize(found.detail - self._common.detail)
        coarse[~found.comparable] = 0
        return Features(coarse, detail, found.comparable)

    def _project(self, coarse: Array) -> Array:
        """Return (n, 32): the projections on the principal axes, and the norm of what they leave."""
        projected = coarse @ self._basis
        rest = np.maximum((coarse**2).sum(1) - (projected**2).sum(1), 0)
        return np.concatenate([projected, np.sqrt(rest)[:, None]], axis=1)


def common_features(thumbs: Thumbnails) -> Common | None:
    """Return what the images have in common; None if none of them can be compared."""
    found = _features(thumbs)
    number = np.count_nonzero(found.comparable)
    if not number:
        return None
    # With few images the mean is shrunk towards zero: of two copies and little else it would leave nothing.
    return Common(*(values[found.comparable].sum(0) / (number + _SHRINKAGE) for values in (found.coarse, found.detail)))


def _features(thumbs: Thumbnails) -> Features:
    """Return the features of any number of thumbnails, computed in blocks."""
    starts = range(0, max(1, len(thumbs)), BLOCK_LENGTH)
    blocks = [features(thumbs[start : start + BLOCK_LENGTH]) for start in starts]
    return Features(*(np.concatenate(values) for values in zip(*blocks, strict=True)))


def _normalize(values: Array) -> Array:
    """Return rows of norm 1."""
    norms: Array = np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)
    return values / norms


def _principal_axes(coarse: Array) -> Array:
    """Return (192, 31): the directions of most variance of a sample of the images."""
    sample = coarse[:: max(1, len(coarse) // _SAMPLE_SIZE)].astype(np.float64)
    return np.linalg.eigh(sample.T @ sample)[1][:, -_KEPT_DIM:].astype(np.float32)
