"""Orientation, alpha and bit depth: the only place that decides them, and converts decoded pixels to upright opaque uint8 RGB.

16-bit values are scaled to 8 bits, where Pillow would clip or truncate them. Transparent pixels are composited on white, the
most common background that images are shown on. Color profiles are not applied. Orientation is that of EXIF (in TIFF files the
tag of the same number), in AVIF and HEIC that of the container; XMP and text chunks never turn an image, as in browsers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images import RGBImage
from common.data.images.stored_pixels import StoredPixels, UnsupportedImageError
from common.data.images.tiff_tags import Directory, read_directory

_ORIENTATION = 0x0112
_EXIF_HEADER = b"Exif\0\0"
_FLIP_AXES = {1: None, 2: 1, 3: -1, 4: 0}
"""Axis of `cv2.flip` for the EXIF orientations 1 to 4; 5 to 8 are the same after a transposition."""

_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)

Pixels = npt.NDArray[Any]
"""(H, W) gray or (H, W, 3 or 4) RGB(A) pixels."""


def read_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8: 1 if it has none, or cannot be read."""
    while exif.startswith(_EXIF_HEADER):
        exif = exif[len(_EXIF_HEADER) :]
    return orientation_in(read_directory(exif))


def orientation_in(directory: Directory | None) -> int:
    """Return the orientation in the directory of an EXIF block or of a TIFF page, 1 to 8: 1 if it has no valid one."""
    values = () if directory is None else directory.integers(_ORIENTATION)
    return values[0] if len(values) == 1 and 1 <= values[0] <= 8 else 1


def standardize(stored: StoredPixels) -> RGBImage:
    """Return pixels as upright opaque uint8 RGB (H, W, 3).

    Raise UnsupportedImageError for floating-point values and integers outside of [0, 65535].
    """
    pixels = _to_unsigned(stored.pixels)
    if stored.transparent_color is not None:
        pixels = _apply_transparent_color(pixels, stored.transparent_color)
    if stored.orientation != 1:
        pixels = _apply_orientation(pixels, stored.orientation)
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        if stored.empty_alpha_is_unused and not pixels[..., 3].any():
            pixels = np.ascontiguousarray(pixels[..., :3])
        else:
            pixels = _composite_on_white(pixels, premultiplied=stored.premultiplied)
    eight_bit = _to_8_bit(pixels)
    return _gray_to_rgb(eight_bit) if eight_bit.ndim == 2 else eight_bit


def _to_unsigned(pixels: Pixels) -> Pixels:
    """Return the pixels as uint8 or uint16; raise UnsupportedImageError for values that are not in this range."""
    if pixels.dtype in (_UINT8, _UINT16):
        return pixels
    remedy = "Save it with 8 or 16 bits per channel."
    if pixels.dtype.kind == "f":
        raise UnsupportedImageError(f"the pixels are floating-point numbers of unknown range. {remedy}")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
        raise UnsupportedImageError(
            f"the pixels range from {pixels.min()} to {pixels.max()}, which exceeds 16 bits. {remedy}"
        )
    return pixels.astype(np.uint16)


def _apply_transparent_color(pixels: Pixels, color: tuple[int, ...]) -> Pixels:
    """Return (H, W) gray or (H, W, 3) RGB as (H, W, 4): pixels of the color are transparent, all others opaque."""
    colors = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    is_transparent = (colors == np.asarray(color)).all(axis=2)
    alpha = np.where(is_transparent, 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.concatenate([colors, alpha[..., None]], axis=2)


def _apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Rotate or flip (H, W, ...) according to its EXIF orientation."""
    import cv2

    if orientation > 4:
        pixels = cv2.transpose(pixels)
    axis = _FLIP_AXES[(orientation - 1) % 4 + 1]
    return pixels if axis is None else cv2.flip(pixels, axis)


def _composite_on_white(pixels: Pixels, *, premultiplied: bool) -> Pixels:
    """Return (H, W, 4) as (H, W, 3), composited on white: (color * alpha + white * (white - alpha)) / white, rounded.

    Premultiplied colors have been multiplied by alpha / white already.
    """
    import cv2

    white, wide = (255, np.uint16) if pixels.dtype == _UINT8 else (65535, np.uint32)
    *colors, alpha = cv2.split(pixels)
    if premultiplied:
        composited = [np.minimum(color, alpha) + (white - alpha) for color in colors]
        return np.asarray(cv2.merge(composited))
    wide_alpha = alpha.astype(wide)
    background = white * (white - wide_alpha) + white // 2
    composited = [((color * wide_alpha + background) // white).astype(pixels.dtype) for color in colors]
    return np.asarray(cv2.merge(composited))


def _gray_to_rgb(pixels: Pixels) -> Pixels:
    """Return (H, W) as (H, W, 3)."""
    import cv2

    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB))


def _to_8_bit(pixels: Pixels) -> Pixels:
    """Scale 16-bit pixels by 255 / 65535 = 1 / 257, rounded; there are no ties, so float32 is exact."""
    import cv2

    return pixels if pixels.dtype == _UINT8 else cv2.convertScaleAbs(pixels, alpha=1 / 257)
