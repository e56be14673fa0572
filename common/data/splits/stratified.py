"""Owns the stratified choice behind subsets and hold-outs: prefixes of one keyed permutation per class."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from common.rng import generator

Indices = npt.NDArray[np.int64]


def class_permutations(labels: Indices, *, seed: int, stream: str) -> Iterator[tuple[int, Indices]]:
    """Yield (class, its positions in a keyed random order) for every class that occurs.

    The order of one class depends on the seed, the stream, the class and its number of images, on nothing else.
    """
    order = np.argsort(_narrowed(labels), kind="stable")
    ends = np.cumsum(np.bincount(labels))
    for label, (start, end) in enumerate(pairwise([0, *ends.tolist()])):
        if end > start:
            yield label, generator(seed, index=label, stream=stream).permutation(order[start:end])


def _narrowed(labels: Indices) -> npt.NDArray[np.integer]:
    """Return the labels in 16 bits where they fit: numpy sorts those by radix, an order of magnitude faster."""
    return labels.astype(np.uint16) if len(labels) and labels.max() < 2**16 else labels


def class_prefixes(labels: Indices, counts: Indices, *, seed: int, stream: str) -> Indices:
    """Return the sorted positions of the first `counts[class]` images of every class's permutation.

    Larger counts give supersets: a prefix lies inside every longer prefix.
    """
    chosen = [order[: counts[label]] for label, order in class_permutations(labels, seed=seed, stream=stream)]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
