"""The stratified choice: positions found by sorting are those of a loop over the classes."""

import numpy as np
import pytest

from common.data.splits.stratified import class_permutations, class_prefixes
from common.rng import generator


def naive(labels: np.ndarray, *, seed: int) -> list[tuple[int, list[int]]]:
    """Go through the classes one by one, and through all labels for each."""
    found = []
    for label in sorted({int(label) for label in labels}):
        positions = np.array([row for row, other in enumerate(labels) if other == label])
        found.append((label, generator(seed, index=label, stream="test").permutation(positions).tolist()))
    return found


CASES = {
    "no image": [],
    "one image": [0],
    "one image of a late class": [7],
    "one class": [0, 0, 0],
    "classes without images between": [5, 2, 5, 9, 2, 2],
    "the last class of 16 bits": [65535, 3, 65535, 0],
    "beyond 16 bits": [70000, 3, 65536, 70000, 4464],
    "many images": np.random.default_rng(0).integers(0, 40, 3000).tolist(),
}


@pytest.mark.parametrize("labels", CASES.values(), ids=CASES)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_permutations_are_those_of_a_loop_over_the_classes(labels: list[int], dtype: type) -> None:
    given = np.array(labels, dtype=dtype)
    found = [(label, order.tolist()) for label, order in class_permutations(given, seed=3, stream="test")]
    assert found == naive(given, seed=3)


def test_prefixes_of_no_image_are_empty() -> None:
    assert class_prefixes(np.zeros(0, np.int64), np.zeros(0, np.int64), seed=0, stream="test").tolist() == []
