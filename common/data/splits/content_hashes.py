"""64-bit hashes of the stored bytes of images: exact duplicates, and labels that contradict each other."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from common.data.images.collections import Images
from common.data.sources.split import UNLABELED
from common.data.splits.near_duplicates import Partners
from common.data.splits.stratified import Indices

Hashes = npt.NDArray[np.uint64]
UNREADABLE = 0
"""Hash of an image whose bytes cannot be read; it equals no other image."""
_GROUP_LENGTH = 256
_PROBE_SIZE = 16
_MIN_BYTES_FOR_THREADS = 32_768


def content_hashes(images: Images, *, threads: int) -> Hashes:
    """Return (n,) hashes of the bytes of every image: of the file, or of the row of a table."""

    def hash_group(start: int) -> list[int]:
        return [_hash(images.content(index)) for index in range(start, min(start + _GROUP_LENGTH, len(images)))]

    starts = range(0, len(images), _GROUP_LENGTH)
    if threads == 1 or mean_bytes(images) < _MIN_BYTES_FOR_THREADS:
        groups = [hash_group(start) for start in starts]
    else:
        with ThreadPoolExecutor(threads) as pool:
            groups = list(pool.map(hash_group, starts))
    return np.array([value for group in groups for value in group], dtype=np.uint64)


def mean_bytes(images: Images) -> float:
    """Return the mean number of bytes of an image, estimated from 16."""
    probe = np.unique(np.linspace(0, len(images) - 1, min(_PROBE_SIZE, len(images))).astype(np.int64))
    return sum(len(images.content(int(index))) for index in probe) / max(1, len(probe))


def _hash(content: bytes) -> int:
    """Return a hash in [1, 2^64), or 0 without content."""
    return max(1, int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")) if content else UNREADABLE


def exact_duplicates(first: Hashes, second: Hashes) -> Partners:
    """Return the images with the same content in two parts."""
    return Partners(_find(first, second), _find(second, first))


def _find(hashes: Hashes, others: Hashes) -> Indices:
    """Return for each hash the first index of the same one in `others`, or -1."""
    if not len(others):
        return np.full(len(hashes), -1, np.int64)
    order = np.argsort(others, kind="stable")
    place = np.minimum(np.searchsorted(others, hashes, sorter=order), len(others) - 1)
    partner = order[place].astype(np.int64)
    return np.where((others[partner] == hashes) & (hashes != UNREADABLE), partner, -1)


def label_conflicts(hashes: Hashes, labels: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return (first image, later image) for every image with the content of an earlier one, and another label than that.

    Images without a label contradict none.
    """
    labeled = np.flatnonzero(labels != UNLABELED)
    hashes, labels = hashes[labeled], labels[labeled]
    first = _find(hashes, hashes)
    later = np.flatnonzero((first >= 0) & (labels[first] != labels))
    return [(int(labeled[first[index]]), int(labeled[index])) for index in later]
