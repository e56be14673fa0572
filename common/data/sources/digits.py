"""The bundled digits dataset: scikit-learn's 1,797 grayscale images of 8 x 8 pixels."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.images.stored_pixels import UnsupportedImageError
from common.data.sources.split import Split
from common.errors import UserError
from common.rng import generator

_MAX_VALUE = 16
_SIDE = 8
_TEST_SEED = 0
_TEST_FRACTION = 0.2


def read_values() -> npt.NDArray[np.uint8]:
    """Return (1797, 65): 64 gray values in 0..16, then the digit.

    The file is read without importing scikit-learn: the import takes over a second, the longest part of the startup of a
    short run. If the package stores the file elsewhere, scikit-learn's loader reads it.
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


def standardize_bundled(pixels: npt.NDArray[np.uint8], decoder: ImageDecoder, name: str) -> ImageArray:
    """Return bundled images, one below the other, in the channels and depth of the decoder; raise UserError if they cannot be."""
    try:
        return decoder.standardize(pixels)
    except UnsupportedImageError as error:
        raise UserError(f"data.source '{name}': {error}") from error


class DigitsSource:
    """The digits in two splits: a fixed stratified test split of 20% (359 images), and 1,438 training images.

    Gray values are scaled from 0..16 to 0..255. The test split does not depend on any seed of the configuration.
    """

    title = "the bundled digits"

    def __init__(self, *, decoder: ImageDecoder) -> None:
        self._decoder = decoder

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return ("train", "test")

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return split `name`; it always has labels."""
        values = read_values()
        labels = values[:, -1].astype(np.int64)
        counts = np.floor(np.bincount(labels) * _TEST_FRACTION + 0.5).astype(np.int64)
        in_test = np.zeros(len(labels), dtype=bool)
        for digit, count in enumerate(counts.tolist()):
            order = generator(_TEST_SEED, index=digit, stream="digits test").permutation(
                np.flatnonzero(labels == digit)
            )
            in_test[order[:count]] = True
        selected = np.flatnonzero(in_test if name == "test" else ~in_test)
        gray = np.round(values[selected, :-1] * (255 / _MAX_VALUE)).astype(np.uint8).reshape(-1, _SIDE)
        if self._decoder.channels == 3:
            gray = np.repeat(gray[..., None], 3, axis=2)  # by numpy: OpenCV takes a while to import
        pixels = standardize_bundled(gray, self._decoder, "digits").reshape(-1)
        shapes = np.full((len(selected), 2), _SIDE, dtype=np.int64)
        images = PixelImages(
            [pixels], shapes, block_length=len(selected), decoder=self._decoder, title=f"digits {name} image"
        )
        return Split(images=images, labels=labels[selected], class_names=tuple("0123456789"))
