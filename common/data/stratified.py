"""Owns the stratified choice behind subsets and hold-outs: prefixes of one keyed permutation per class."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from common.data.keyed import generator

Indices = npt.NDArray[np.int64]


def class_permutations(labels: Indices, *, seed: int, stream: str) -> Iterator[tuple[int, Indices]]:
    """Yield (class, its positions in a keyed random order) for every class that occurs.

    The order of one class depends on the seed, the stream, the class and its number of images, on nothing else.
    """
    order = np.argsort(labels, kind="stable")
    classes, starts = np.unique(labels[order], return_index=True)
    for label, positions in zip(classes.tolist(), np.split(order, starts[1:]), strict=True):
        yield label, generator(seed, index=label, stream=stream).permutation(positions)


def class_prefixes(labels: Indices, counts: Indices, *, seed: int, stream: str) -> Indices:
    """Return the sorted positions of the first `counts[class]` images of every class's permutation.

    Larger counts give supersets: a prefix lies inside every longer prefix.
    """
    chosen = [order[: counts[label]] for label, order in class_permutations(labels, seed=seed, stream=stream)]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
