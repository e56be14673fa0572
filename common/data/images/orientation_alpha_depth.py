"""Orientation, alpha and bit depth: the only place that decides them, and converts decoded pixels to upright opaque uint8 RGB.

16-bit values are scaled to 8 bits, where Pillow would clip or truncate them. Transparent pixels are composited on white, the
most common background that images are shown on. Color profiles are not applied. Only TIFF files arrive upright: Pillow applies
and removes their orientation while it decodes them.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images import RGBImage

_EXIF_ORIENTATION = 0x0112
_FLIP_AXES = {1: None, 2: 1, 3: -1, 4: 0}
"""Axis of `cv2.flip` for the EXIF orientations 1 to 4; 5 to 8 are the same after a transposition."""

_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)

Pixels = npt.NDArray[Any]
"""(H, W) gray or (H, W, 3 or 4) RGB(A) pixels."""


class UnsupportedPixelsError(Exception):
    """The pixel values have no known range."""


def read_orientation(image: Any) -> int:
    """Return the EXIF orientation of an image, 1 to 8: 1 if it has none, or damaged metadata.

    Pillow falls back to the orientation in XMP metadata. It is ignored for JPEGs, as in OpenCV and browsers.
    """
    from PIL import Image

    is_jpeg = image.format in ("JPEG", "MPO")
    if is_jpeg and "exif" not in image.info:
        return 1
    try:
        exif = Image.Exif() if is_jpeg else image.getexif()
        if is_jpeg:
            exif.load(image.info["exif"])
        orientation = exif.get(_EXIF_ORIENTATION, 1)
        return int(orientation) if orientation in range(1, 9) else 1
    except Exception:  # damaged metadata raises SyntaxError, struct.error, KeyError, ...
        return 1


def standardize(pixels: Pixels, orientation: int) -> RGBImage:
    """Return pixels as upright opaque uint8 RGB (H, W, 3).

    pixels: (H, W) gray or (H, W, 3 or 4) RGB(A), uint8 or integers in [0, 65535]; orientation: EXIF orientation, 1 to 8. Raise
    UnsupportedPixelsError for floating-point and other integer values.
    """
    unsigned = _to_unsigned(pixels)
    if orientation != 1:
        unsigned = _apply_orientation(unsigned, orientation)
    if unsigned.ndim == 3 and unsigned.shape[2] == 4:
        unsigned = _composite_on_white(unsigned)
    eight_bit = _to_8_bit(unsigned)
    return _gray_to_rgb(eight_bit) if eight_bit.ndim == 2 else eight_bit


def _to_unsigned(pixels: Pixels) -> Pixels:
    """Return the pixels as uint8 or uint16; raise UnsupportedPixelsError for values that are not in this range."""
    if pixels.dtype in (_UINT8, _UINT16):
        return pixels
    if pixels.dtype.kind == "f":
        raise UnsupportedPixelsError("the pixels are floating-point numbers of unknown range.")
    if pixels.size and (pixels.min() < 0 or pixels.max() > 65535):
        raise UnsupportedPixelsError(f"the pixels range from {pixels.min()} to {pixels.max()}, which exceeds 16 bits.")
    return pixels.astype(np.uint16)


def _apply_orientation(pixels: Pixels, orientation: int) -> Pixels:
    """Rotate or flip (H, W, ...) according to its EXIF orientation."""
    import cv2

    if orientation > 4:
        pixels = cv2.transpose(pixels)
    axis = _FLIP_AXES[(orientation - 1) % 4 + 1]
    return pixels if axis is None else cv2.flip(pixels, axis)


def _composite_on_white(pixels: Pixels) -> Pixels:
    """Return (H, W, 4) as (H, W, 3), composited on white: (color * alpha + white * (white - alpha)) / white, rounded."""
    import cv2

    white, wide = (255, np.uint16) if pixels.dtype == _UINT8 else (65535, np.uint32)
    *colors, alpha = cv2.split(pixels)
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
