"""Orientation, alpha, channels and bit depth: the only place that decides them, and converts decoded pixels to upright images.

Values are scaled from the full range of 16 bits to that of 8 bits or back, where Pillow would clip or truncate them. Transparent
pixels are composited on white, the most common background that images are shown on; not where all channels are kept. Color profiles
are not applied. Orientation is that of EXIF (in TIFF files the tag of the same number), in AVIF and HEIC that of the container; XMP
and text chunks never turn an image, as in browsers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.stored_pixels import StoredPixels, UnsupportedImageError
from common.data.images.tiff_tags import Directory, read_directory

_ORIENTATION = 0x0112
_EXIF_HEADER = b"Exif\0\0"
_FLIP_AXES = {1: None, 2: 1, 3: -1, 4: 0}
"""Axis of `cv2.flip` for the EXIF orientations 1 to 4; 5 to 8 are the same after a transposition."""

_UINT8, _UINT16 = np.dtype(np.uint8), np.dtype(np.uint16)

Range = tuple[float, float] | None
Pixels = npt.NDArray[Any]
"""(H, W) gray or (H, W, 3 or 4) RGB(A) pixels."""


def wrong_channels(found: int, wanted: int, *, remedy: str = "") -> UnsupportedImageError:
    """Return the error of an image with another number of channels than data.channels."""
    remedy = remedy or f"Set data.channels={found} if all images have as many, or remove it."
    return UnsupportedImageError(f"the image has {count(found, 'channel')}, but data.channels is {wanted}. {remedy}")


def count(number: int, word: str) -> str:
    """Return a number with its word."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def read_orientation(exif: bytes) -> int:
    """Return the orientation in an EXIF block, 1 to 8: 1 if it has none, or cannot be read."""
    while exif.startswith(_EXIF_HEADER):
        exif = exif[len(_EXIF_HEADER) :]
    return orientation_in(read_directory(exif))


def orientation_in(directory: Directory | None) -> int:
    """Return the orientation in the directory of an EXIF block or of a TIFF page, 1 to 8: 1 if it has no valid one."""
    values = () if directory is None else directory.integers(_ORIENTATION)
    return values[0] if len(values) == 1 and 1 <= values[0] <= 8 else 1


def standardize(
    stored: StoredPixels, *, channels: int = 3, bits: int = 8, value_range: tuple[float, float] | None = None
) -> ImageArray:
    """Return pixels as an upright image (H, W, C), uint8 or, of 16 `bits`, uint16.

    3 channels are opaque RGB, 1 is opaque gray, of colors their luma; another number has all channels as they are stored, alpha
    among them. The ends of `value_range`, or of the range that the file states, become 0 and the highest value; values beyond them
    are clipped. Without one, integers of 8 and 16 bits keep their full range.

    Raise UnsupportedImageError for another number of channels and, without a range, for floating-point values and integers outside
    of [0, 65535].
    """
    value_range = value_range or stored.value_range
    pixels = stored.pixels[..., 0] if stored.pixels.shape[2:] == (1,) else stored.pixels
    if value_range is None:
        pixels = _to_unsigned(pixels)
    if stored.transparent_color is not None and channels in (1, 3):
        pixels = _apply_transparent_color(_to_unsigned(pixels), stored.transparent_color)
    if stored.orientation != 1:
        pixels = _apply_orientation(pixels, stored.orientation)
    if stored.is_raw or channels not in (1, 3):
        _check_channels(pixels, channels)
    elif pixels.ndim == 3 and pixels.shape[2] == 4:
        if not stored.empty_alpha_is_unused or pixels[..., 3].any():
            opaque = _composite_on_white(
                _scale_colors(pixels, value_range, is_inverted=stored.is_inverted), premultiplied=stored.premultiplied
            )
            return _to_channels(_to_depth(opaque, bits), channels)
        pixels = np.ascontiguousarray(pixels[..., :3])
    scaled = _to_range(pixels, value_range, is_inverted=stored.is_inverted)
    return _to_channels(_to_depth(scaled, bits), channels)


def _check_channels(pixels: Pixels, channels: int) -> None:
    """Raise UnsupportedImageError unless (H, W) or (H, W, S) has so many channels, or 1 for RGB."""
    found = pixels.shape[2] if pixels.ndim == 3 else 1
    if found != channels and (found, channels) != (1, 3):
        raise wrong_channels(found, channels)


def _scale_colors(pixels: Pixels, value_range: Range, *, is_inverted: bool) -> Pixels:
    """Return RGBA whose colors are scaled from their range, and alpha from its full range."""
    if value_range is None and not is_inverted:
        return pixels
    colors = _to_range(pixels[..., :3], value_range, is_inverted=is_inverted)
    alpha = _to_unsigned(pixels[..., 3:])
    return np.concatenate([colors, alpha if alpha.dtype == colors.dtype else _to_depth(alpha, 16)], axis=2)


def _to_range(pixels: Pixels, value_range: Range, *, is_inverted: bool) -> Pixels:
    """Return the pixels as they are, or as uint16 whose ends are those of the range; black and white exchanged if inverted."""
    if value_range is None:
        return np.iinfo(pixels.dtype).max - pixels if is_inverted else pixels
    low, high = value_range
    wide: Pixels = pixels.astype(np.float32 if pixels.dtype in (_UINT8, _UINT16) else np.float64)
    if not np.isfinite(wide).all():
        raise UnsupportedImageError("the pixels have values that are not finite. Replace them by numbers.")
    scaled: Pixels = np.clip((wide - np.asarray(low)) / (high - low), 0, 1)
    return np.asarray(np.rint(65535 * (1 - scaled if is_inverted else scaled)), np.uint16)


def _to_unsigned(pixels: Pixels) -> Pixels:
    """Return the pixels as uint8 or uint16; raise UnsupportedImageError for values that are not in this range."""
    if pixels.dtype in (_UINT8, _UINT16):
        return pixels
    remedy = "Save it with 8 or 16 bits per channel, or set data.value_range=[low, high]."
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

    if pixels.ndim == 3 and pixels.shape[2] > 4:  # more than OpenCV transposes
        return np.dstack([_apply_orientation(plane, orientation) for plane in np.moveaxis(pixels, 2, 0)])
    if orientation > 4:
        pixels = cv2.transpose(np.ascontiguousarray(pixels))
    axis = _FLIP_AXES[(orientation - 1) % 4 + 1]
    return pixels if axis is None else cv2.flip(np.ascontiguousarray(pixels), axis)


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


def _to_channels(pixels: Pixels, channels: int) -> ImageArray:
    """Return (H, W) gray or (H, W, C) as (H, W, channels): gray three times as RGB, RGB as its luma (ITU-R 601) in gray."""
    if (pixels.ndim, channels) in ((2, 3), (3, 1)):
        import cv2

        code = cv2.COLOR_GRAY2RGB if channels == 3 else cv2.COLOR_RGB2GRAY
        pixels = cv2.cvtColor(pixels, code)
    return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])


def _to_depth(pixels: Pixels, bits: int) -> Pixels:
    """Scale pixels to 8 or 16 bits by 65535 / 255 = 257, to 8 rounded; there are no ties, so float32 is exact."""
    if bits == 16:
        return pixels.astype(np.uint16) * np.uint16(257) if pixels.dtype == _UINT8 else pixels
    if pixels.dtype == _UINT8:
        return pixels
    import cv2

    return np.asarray(cv2.convertScaleAbs(pixels, alpha=1 / 257)).reshape(pixels.shape)
