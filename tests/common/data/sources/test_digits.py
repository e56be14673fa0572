"""The bundled digits: they match scikit-learn, have a fixed test split, and open without slow imports."""

import subprocess
import sys

import numpy as np

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.open_splits import Splits, open_splits
from common.data.sources.digits import DigitsSource, read_values


def opened(**options: object) -> Splits:
    """Open the digits."""
    return open_splits(DataConfig(workers=0, **options), labeled=True)


def sizes(splits: Splits) -> tuple[int, ...]:
    """Return the numbers of training, validation and test images."""
    return tuple(len(part) for part in (splits.train, splits.validation, splits.test))


def test_digits_match_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    values = read_values()
    np.testing.assert_array_equal(values[:, :-1], digits.data)
    np.testing.assert_array_equal(values[:, -1], digits.target)


def test_digits_have_a_fixed_test_split_and_a_seeded_validation_split() -> None:
    first, second = opened(split_seed=0), opened(split_seed=1)
    assert sizes(first) == sizes(second) == (1293, 145, 359)
    assert first.test.fingerprint == second.test.fingerprint
    assert first.validation.fingerprint != second.validation.fingerprint
    assert first.class_names == tuple("0123456789")
    assert min(first.test.class_counts().values()) >= 35


def test_every_digit_is_in_one_split_and_scaled_to_8_bits() -> None:
    splits = opened()
    images = [
        part.image(index) for part in (splits.train, splits.validation, splits.test) for index in range(len(part))
    ]
    assert {image.shape for image in images} == {(8, 8, 3)}
    assert all(bool((image == image[..., :1]).all()) for image in images)
    expected = sorted(row.tobytes() for row in np.round(read_values()[:, :-1] * (255 / 16)).astype(np.uint8))
    assert sorted(image[..., 0].tobytes() for image in images) == expected


def test_digits_keep_their_label() -> None:
    split = DigitsSource(decoder=ImageDecoder()).read("train", labeled=True)
    table = {row[:-1].tobytes(): row[-1] for row in read_values()}
    for index in range(0, len(split), 97):
        values = np.round(split.image(index)[..., 0] / 255 * 16).astype(np.uint8)
        assert table[values.tobytes()] == split.labels[index]


def test_digits_open_without_importing_slow_libraries() -> None:
    program = (
        "import sys\n"
        "from common.data.config import DataConfig\n"
        "from common.data.open_splits import open_splits\n"
        "open_splits(DataConfig(), labeled=True)\n"
        "print(*{'datasets', 'pyarrow', 'torchvision', 'sklearn', 'PIL', 'cv2', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
