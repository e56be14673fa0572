"""The embedded digits: scikit-learn's own, divided once and for all, and open in a moment."""

import subprocess
import sys

import numpy as np

from common.data.config import DataConfig
from common.data.open_splits import Splits, open_splits
from common.data.sources.digits import DigitsSource, read_values


def opened(**options: object) -> Splits:
    """Open the digits."""
    return open_splits(DataConfig(workers=0, **options), labelled=True)


def sizes(splits: Splits) -> tuple[int, ...]:
    """Return the numbers of images that train, validate and test."""
    return tuple(len(part) for part in (splits.train, splits.validation, splits.test))


def test_the_digits_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    values = read_values()
    np.testing.assert_array_equal(values[:, :-1], digits.data)
    np.testing.assert_array_equal(values[:, -1], digits.target)


def test_the_digits_divide_into_training_validation_and_a_fixed_test_split() -> None:
    first, second = opened(split_seed=0), opened(split_seed=1)
    assert sizes(first) == sizes(second) == (1293, 145, 359)
    assert first.test.fingerprint == second.test.fingerprint
    assert first.validation.fingerprint != second.validation.fingerprint
    assert first.class_names == tuple("0123456789")
    assert min(first.test.class_counts().values()) >= 35


def test_every_digit_is_in_one_part_and_scaled_to_eight_bits() -> None:
    splits = opened()
    images = [
        part.image(index) for part in (splits.train, splits.validation, splits.test) for index in range(len(part))
    ]
    assert {tuple(image.shape) for image in images} == {(3, 8, 8)}
    assert all(bool((image == image[:1]).all()) for image in images)
    expected = sorted(row.tobytes() for row in np.round(read_values()[:, :-1] * (255 / 16)).astype(np.uint8))
    assert sorted(image[0].numpy().tobytes() for image in images) == expected


def test_digits_keep_their_label() -> None:
    split = DigitsSource().read("train", labelled=True)
    table = {row[:-1].tobytes(): row[-1] for row in read_values()}
    for index in range(0, len(split), 97):
        brightness = np.round(split.image(index)[0].numpy() / 255 * 16).astype(np.uint8)
        assert table[brightness.tobytes()] == split.labels[index]


def test_the_digits_open_without_the_slow_libraries() -> None:
    program = (
        "import sys\n"
        "from common.data.config import DataConfig\n"
        "from common.data.open_splits import open_splits\n"
        "open_splits(DataConfig(), labelled=True)\n"
        "print(*{'datasets', 'pyarrow', 'torchvision', 'sklearn', 'PIL', 'cv2', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
