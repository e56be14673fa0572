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


def test_gray_is_taken_as_it_is_and_colors_as_their_luma() -> None:
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    np.testing.assert_array_equal(standardize(StoredPixels(gray), channels=1)[..., 0], gray)
    equal = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(standardize(StoredPixels(equal), channels=1)[..., 0], gray)
    rgb = np.array([[[200, 100, 50]]], np.uint8)
    assert standardize(StoredPixels(rgb), channels=1).item() == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    transparent = np.dstack([equal, np.zeros_like(gray)])
    assert (standardize(StoredPixels(transparent), channels=1) == 255).all()
    assert standardize(StoredPixels(gray), channels=1).shape == (3, 4, 1)


def test_sixteen_bits_are_kept_and_eight_bits_fill_them() -> None:
    deep = np.array([[0, 1, 257, 65535]], np.uint16)
    np.testing.assert_array_equal(standardize(StoredPixels(deep), channels=1, bits=16)[..., 0], deep)
    np.testing.assert_array_equal(standardize(StoredPixels(deep), bits=16), np.repeat(deep[..., None], 3, axis=2))
    shallow = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_array_equal(
        standardize(StoredPixels(shallow), channels=1, bits=16)[..., 0], shallow * np.uint16(257)
    )
    rgba = np.array([[[65535, 0, 0, 32768]]], np.uint16)
    assert standardize(StoredPixels(rgba), bits=16).tolist() == [[[65535, 32767, 32767]]]


def test_a_range_is_of_colors_not_of_alpha() -> None:
    deep = np.array([[100, 200, 300, 400]], np.uint16)
    scaled = standardize(StoredPixels(deep), channels=1, bits=16, value_range=(200, 400))
    assert scaled[..., 0].tolist() == [[0, 0, 32768, 65535]]  # clipped below, rounded half to even
    eight = standardize(StoredPixels(deep, is_inverted=True), channels=1, value_range=(200, 400))
    assert eight[..., 0].tolist() == [[255, 255, 128, 0]]
    assert standardize(StoredPixels(deep, value_range=(0, 400)), channels=1)[0, 3, 0] == 255
    opaque = np.array([[[300, 200, 400, 65535]]], np.uint16)
    assert standardize(StoredPixels(opaque), value_range=(200, 400)).tolist() == [[[128, 0, 255]]]
    floats = np.array([[0.25, -1.0, 2.0]])
    assert standardize(StoredPixels(floats), channels=1, value_range=(0, 1)).ravel().tolist() == [64, 0, 255]


@pytest.mark.parametrize("channels", [2, 4, 6])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_channel_is_turned_alike(channels: int, orientation: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (3, 5, channels)).astype(np.uint16)
    turned = standardize(StoredPixels(pixels, orientation, is_raw=True), channels=channels, bits=16)
    for channel in range(channels):
        alone = standardize(StoredPixels(np.ascontiguousarray(pixels[..., channel]), orientation), channels=1, bits=16)
        np.testing.assert_array_equal(turned[..., channel], alone[..., 0])


@pytest.mark.parametrize(
    ("stored", "channels", "found"),
    [
        (StoredPixels(np.zeros((2, 2, 3), np.uint8)), 4, "3 channels, but data.channels is 4"),
        (StoredPixels(np.zeros((2, 2, 4), np.uint8), is_raw=True), 3, "4 channels, but data.channels is 3"),
        (StoredPixels(np.zeros((2, 2, 3), np.uint8), is_raw=True), 1, "3 channels, but data.channels is 1"),
        (StoredPixels(np.zeros((2, 2), np.uint8)), 2, "1 channel, but data.channels is 2"),
    ],
)
def test_another_number_of_channels_is_refused(stored: StoredPixels, channels: int, found: str) -> None:
    with pytest.raises(UnsupportedImageError, match=found):
        standardize(stored, channels=channels)
