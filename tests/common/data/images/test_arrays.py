"""NumPy arrays as images: taken as they are, never unpickled, and only where the recipe says what they are."""

import io
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.data.images.decode import ImageDecoder
from common.data.sources.folders import FolderSource
from common.errors import UserError

VALUES = np.arange(4 * 6 * 5).reshape(4, 6, 5)


def saved(array: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def decode(array: npt.NDArray[Any], **options: Any) -> npt.NDArray[Any]:
    return ImageDecoder(**{"channels": 5, **options}).decode(saved(array), "x.npy")


@pytest.mark.parametrize("make", [np.ascontiguousarray, np.asfortranarray])
def test_channels_are_taken_as_they_are(make: Any) -> None:
    np.testing.assert_array_equal(decode(make(VALUES.astype(np.uint8))), VALUES)
    np.testing.assert_array_equal(decode(make(VALUES.astype(np.uint16) * 500), bits=16), VALUES * 500)
    np.testing.assert_array_equal(decode(VALUES[..., 0].astype(np.uint8), channels=1), VALUES[..., :1])
    of_gray = decode(VALUES[..., 0].astype(np.uint8), channels=3, bits=16)
    np.testing.assert_array_equal(of_gray, np.repeat(VALUES[..., :1], 3, axis=2) * 257)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int64])
def test_other_numbers_need_a_range(dtype: type) -> None:
    values = (VALUES - 30).astype(dtype)
    expected = np.rint(65535 * np.clip((VALUES - 30) / 80, 0, 1))
    np.testing.assert_array_equal(decode(values, bits=16, value_range=(0, 80)), expected)
    with pytest.raises(UserError, match=r"or set data\.value_range=\[low, high\]"):
        decode(values, bits=16)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((5, 4, 6), np.uint8),
            r"6 channels, but data\.channels is 5\. Its shape is \(5, 4, 6\): save it as \(H, W, C\)",
        ),
        (np.zeros((4, 6, 4), np.uint8), r"4 channels, but data\.channels is 5\. Set data\.channels=4 if all images"),
        (np.zeros(7, np.uint8), r"the array has the shape \(7,\)\. Save it as \(H, W\) or \(H, W, C\)"),
        (np.zeros((0, 6, 5), np.uint8), r"the array has the shape \(0, 6, 5\)"),
        (np.zeros((4, 6, 5), bool), "the array holds bool, not numbers"),
        (np.full((4, 6, 5), print, object), "the array holds object, not numbers"),
        (np.full((4, 6, 5), 70_000), r"the array holds int64, whose range is unknown\. Save it as uint8"),
    ],
)
def test_other_arrays_are_named(array: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        decode(array)


def test_values_that_are_not_finite_and_cut_files_are_named() -> None:
    with pytest.raises(UserError, match="values that are not finite"):
        decode(np.full((4, 6, 5), np.nan), value_range=(0, 1))
    with pytest.raises(UserError, match="truncated or damaged"):
        ImageDecoder(channels=5).decode(saved(VALUES.astype(np.uint8))[:-10], "x.npy")
    with pytest.raises(UserError, match=r"too large: 6 x 4 = 24 pixels"):
        ImageDecoder(channels=5, max_pixels=20).decode(saved(VALUES.astype(np.uint8)), "x.npy")


def test_arrays_beside_photographs_are_passed_over_unless_they_are_the_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "features.npy").write_bytes(saved(VALUES))
    (tmp_path / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with caplog.at_level(logging.INFO):
        split = FolderSource(tmp_path, decoder=ImageDecoder()).read("train", labeled=True)
    assert split.file_names() == ["cat/1.png"]
    assert "1 .npy (arrays: set data.channels, data.bit_depth or data.value_range to read them)" in caplog.text
    split = FolderSource(tmp_path, decoder=ImageDecoder(channels=5)).read("train", labeled=True)
    assert split.file_names() == ["cat/1.png", "cat/features.npy"]
