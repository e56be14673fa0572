"""Stratified sampling: indices found by sorting match those of a loop over the classes."""

import numpy as np
import pytest

from common.data.splits.stratified import class_permutations, class_prefixes
from common.rng import generator


def naive(labels: np.ndarray, *, seed: int) -> list[tuple[int, list[int]]]:
    """Return the permutations by a loop over the classes, and over all labels for each."""
    found = []
    for label in sorted({int(label) for label in labels}):
        indices = np.array([row for row, other in enumerate(labels) if other == label])
        found.append((label, generator(seed, index=label, stream="test").permutation(indices).tolist()))
    return found


CASES = {
    "no images": [],
    "one image": [0],
    "one image of a later class": [7],
    "one class": [0, 0, 0],
    "empty classes in between": [5, 2, 5, 9, 2, 2],
    "largest 16-bit class": [65535, 3, 65535, 0],
    "more than 16 bits": [70000, 3, 65536, 70000, 4464],
    "many images": np.random.default_rng(0).integers(0, 40, 3000).tolist(),
}


@pytest.mark.parametrize("labels", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_permutations_match_a_loop_over_the_classes(labels: list[int], dtype: type) -> None:
    given = np.array(labels, dtype=dtype)
    found = [(label, order.tolist()) for label, order in class_permutations(given, seed=3, stream="test")]
    assert found == naive(given, seed=3)


def test_prefixes_of_no_images_are_empty() -> None:
    assert class_prefixes(np.zeros(0, np.int64), np.zeros(0, np.int64), seed=0, stream="test").tolist() == []
