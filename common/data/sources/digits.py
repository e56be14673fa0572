"""Owns the embedded data set: scikit-learn's 1,797 scanned digits of 8 by 8 pixels, which come with the package."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data.images.collections import PixelImages
from common.data.sources.split import Split
from common.rng import generator

_BRIGHTEST = 16
_SIDE = 8
_TEST_SEED = 0
_TEST_FRACTION = 0.2


def read_values() -> npt.NDArray[np.uint8]:
    """Return (1797, 65): 64 brightnesses of 0 to 16 and the digit.

    The file is read without importing scikit-learn, which takes over a second and would be the longest part of a
    short run's start; where the package keeps it elsewhere, its own loader is asked.
    """
    package = find_spec("sklearn")
    folders = package.submodule_search_locations if package is not None else None
    path = Path(folders[0]) / "datasets" / "data" / "digits.csv.gz" if folders else None
    if path is not None and path.is_file():
        with gzip.open(path, "rt") as file:
            return np.loadtxt(file, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.uint8)


class DigitsSource:
    """The digits as two splits: a fixed stratified test split of 20% (359 images), and the other 1,438 for training.

    Brightness is scaled from 0..16 to 0..255. The test split is the same for every seed a user can set.
    """

    title = "the embedded digits"

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return ("train", "test")

    def read(self, name: str, *, labelled: bool) -> Split:
        """Return split `name`; the digits are always labelled."""
        values = read_values()
        labels = values[:, -1].astype(np.int64)
        counts = np.floor(np.bincount(labels) * _TEST_FRACTION + 0.5).astype(np.int64)
        in_test = np.zeros(len(labels), dtype=bool)
        for digit, count in enumerate(counts.tolist()):
            order = generator(_TEST_SEED, index=digit, stream="digits test").permutation(
                np.flatnonzero(labels == digit)
            )
            in_test[order[:count]] = True
        chosen = np.flatnonzero(in_test if name == "test" else ~in_test)
        grey = np.round(values[chosen, :-1] * (255 / _BRIGHTEST)).astype(np.uint8).reshape(-1, 1, _SIDE, _SIDE)
        pixels = np.repeat(grey, 3, axis=1).reshape(-1)
        shapes = np.full((len(chosen), 2), _SIDE, dtype=np.int64)
        images = PixelImages([pixels], shapes, block_length=len(chosen), title=f"digits {name} image")
        return Split(images=images, labels=labels[chosen], class_names=tuple("0123456789"))
