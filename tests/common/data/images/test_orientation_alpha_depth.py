"""Standardization of pixels: orientation, alpha and bit depth match a reference implementation in plain numpy."""

import numpy as np
import pytest

from common.data.images.orientation_alpha_depth import standardize
from common.data.images.stored_pixels import StoredPixels, UnsupportedImageError


def reference(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels as upright opaque uint8 RGB (H, W, 3), computed in 64-bit integers."""
    white = 255 if pixels.dtype == np.uint8 else 65535
    values = pixels.astype(np.int64)
    if values.ndim == 2:
        values = np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 4:
        color, alpha = values[..., :3], values[..., 3:]
        values = (color * alpha + white * (white - alpha) + white // 2) // white
    if white == 65535:
        values = (values + 128) // 257
    if orientation > 4:
        values = values.transpose(1, 0, 2)
    rows, columns = ((1, 1), (1, -1), (-1, -1), (-1, 1))[(orientation - 1) % 4]
    return values[::rows, ::columns].astype(np.uint8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [(), (3,), (4,)], ids=["gray", "RGB", "RGBA"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, ">u2", np.int32])
def test_pixels_match_the_reference(dtype: object, channels: tuple[int, ...], orientation: int) -> None:
    high = 256 if dtype == np.uint8 else 65536
    pixels = np.random.default_rng(0).integers(0, high, (7, 5, *channels)).astype(dtype)
    image = standardize(StoredPixels(pixels, orientation))
    np.testing.assert_array_equal(image, reference(pixels, orientation))


def test_all_8_bit_colors_and_alphas_are_composited_exactly() -> None:
    color, alpha = np.meshgrid(np.arange(256), np.arange(256))
    pixels = np.stack([color, color, color, alpha], -1).astype(np.uint8)
    np.testing.assert_array_equal(standardize(StoredPixels(pixels)), reference(pixels, 1))


def test_all_16_bit_values_are_scaled_exactly() -> None:
    pixels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(standardize(StoredPixels(pixels)), reference(pixels, 1))


@pytest.mark.parametrize("value", [-1, 65536, 0.5])
def test_values_without_a_known_range_are_rejected(value: float) -> None:
    with pytest.raises(UnsupportedImageError, match="the pixels "):
        standardize(StoredPixels(np.full((2, 2), value)))
