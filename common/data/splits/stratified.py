"""Stratified sampling for subsets and hold-outs: prefixes of one seeded permutation per class."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from common.rng import generator

Indices = npt.NDArray[np.int64]


def class_permutations(labels: Indices, *, seed: int, stream: str) -> Iterator[tuple[int, Indices]]:
    """Yield (class, indices of its images in random order) for every class that occurs.

    The order of a class depends only on the seed, the stream, the class and its number of images.
    """
    order = np.argsort(_narrow_dtype(labels), kind="stable")
    ends = np.cumsum(np.bincount(labels))
    for label, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        if end > start:
            yield label, generator(seed, index=label, stream=stream).permutation(order[start:end])


def _narrow_dtype(labels: Indices) -> npt.NDArray[np.integer]:
    """Return the labels as uint16 if they fit: numpy radix-sorts 16-bit integers, an order of magnitude faster."""
    return labels.astype(np.uint16) if len(labels) and labels.max() < 2**16 else labels


def class_prefixes(labels: Indices, counts: Indices, *, seed: int, stream: str) -> Indices:
    """Return the sorted indices of the first `counts[class]` images of each class's permutation.

    Larger counts give supersets: a prefix is contained in every longer prefix.
    """
    prefixes = [order[: counts[label]] for label, order in class_permutations(labels, seed=seed, stream=stream)]
    return np.sort(np.concatenate(prefixes)) if prefixes else np.zeros(0, dtype=np.int64)
