"""Owns what the steps of timm's augmentation policies do to pixels, by OpenCV and tables on (H, W, 3) uint8 arrays.

timm draws which step comes and how strong it is; here is only its execution, several times as fast as Pillow's. Tables
give Pillow's very numbers. Rotation and shear use OpenCV's bicubic kernel (a = -0.75, where Pillow's transforms have
a = -1) and blend the image's edge with the filling; on photographs they stay within a mean of 1 of 255 of Pillow.
Shapes: H and W pixels, RGB.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from PIL import Image

Operation = Callable[..., Any]

_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS = np.arange(256)
_REAL_LEVELS = _LEVELS.astype(np.float32)
# OpenCV rounds and Pillow cuts off: half a level less makes one the other, and a little more keeps whole numbers whole.
_CUT_OFF = -0.499
_ONE = np.ones(1)
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def through_pillow(operation: Operation) -> Operation:
    """Return a step that Pillow executes as one that takes and returns an array."""

    def run(pixels: Any, *level: Any, **settings: Any) -> Any:
        return np.asarray(operation(Image.fromarray(pixels), *level, **settings))

    return run


def _blend(grey: int, factor: float) -> np.ndarray:
    """Return the table of grey + factor (x - grey), in float32 and cut off to whole numbers, as Pillow blends."""
    blended = np.float32(grey) + np.float32(factor) * (_REAL_LEVELS - np.float32(grey))
    return blended.clip(0, 255).astype(np.uint8)


def auto_contrast(pixels: Any, **_: Any) -> Any:
    """Stretch each colour to the whole range."""
    table = np.empty((1, 256, 3), dtype=np.uint8)
    for channel, plane in enumerate(cv2.split(pixels)):
        low, high, _, _ = cv2.minMaxLoc(plane)
        scale = 255 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        table[0, :, channel] = np.clip(_LEVELS * scale + offset, 0, 255).astype(np.uint8)
    return cv2.LUT(pixels, table)


def equalize(pixels: Any, **_: Any) -> Any:
    """Give each colour an even histogram."""
    table = np.empty((1, 256, 3), dtype=np.uint8)
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).ravel().astype(np.int64)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        below = np.cumsum(counts) - counts
        table[0, :, channel] = np.minimum((step // 2 + below) // step, 255) if step else _LEVELS
    return cv2.LUT(pixels, table)


def invert(pixels: Any, **_: Any) -> Any:
    """Turn x into 255 - x."""
    return cv2.bitwise_not(pixels)


def posterize(pixels: Any, bits: int, **_: Any) -> Any:
    """Keep the highest `bits` bits; at 0, which policies do draw and Pillow refuses, all is black."""
    return pixels if bits >= 8 else pixels & np.uint8(256 - (1 << (8 - max(bits, 0))))


def solarize(pixels: Any, threshold: int, **_: Any) -> Any:
    """Invert what is not below the threshold."""
    return cv2.LUT(pixels, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS).astype(np.uint8))


def solarize_add(pixels: Any, addend: int, **_: Any) -> Any:
    """Brighten what is below 128."""
    return cv2.LUT(pixels, np.where(_LEVELS < 128, np.minimum(_LEVELS + addend, 255), _LEVELS).astype(np.uint8))


def brightness(pixels: Any, factor: float, **_: Any) -> Any:
    """Multiply."""
    return cv2.LUT(pixels, _blend(0, factor))


def contrast(pixels: Any, factor: float, **_: Any) -> Any:
    """Move away from the mean grey, or towards it."""
    grey = math.floor(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return cv2.LUT(pixels, _blend(grey, factor))


def colour(pixels: Any, factor: float, **_: Any) -> Any:
    """Move away from a pixel's own grey, or towards it."""
    matrix = np.empty((3, 4), dtype=np.float32)
    matrix[:, :3] = factor * np.eye(3) + (1 - factor) * _LUMA
    matrix[:, 3] = _CUT_OFF if factor else 0
    return cv2.transform(pixels, matrix)


def desaturate(pixels: Any, factor: float, **_: Any) -> Any:
    """Take that share of the colour away."""
    return colour(pixels, min(1.0, max(0.0, 1 - factor)))


def sharpness(pixels: Any, factor: float, **_: Any) -> Any:
    """Move away from the image smoothed over 3 x 3 pixels, or towards it; the outermost pixels stay as they are."""
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    sharpened = cv2.filter2D(pixels, -1, kernel, delta=_CUT_OFF)
    sharpened[[0, -1]], sharpened[:, [0, -1]] = pixels[[0, -1]], pixels[:, [0, -1]]
    return sharpened


def rotate(pixels: Any, degrees: float, *, fillcolor: Sequence[float], **_: Any) -> Any:
    """Turn counter-clockwise about the centre."""
    height, width = pixels.shape[:2]
    inverse = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    return _warp(pixels, inverse, fillcolor)


def shear_x(pixels: Any, factor: float, *, fillcolor: Sequence[float], **_: Any) -> Any:
    """Take row y from `factor` * y further right."""
    return _warp(pixels, np.array([[1, factor, factor / 2], [0, 1, 0]]), fillcolor)


def shear_y(pixels: Any, factor: float, *, fillcolor: Sequence[float], **_: Any) -> Any:
    """Take column x from `factor` * x further down."""
    return _warp(pixels, np.array([[1, 0, 0], [factor, 1, factor / 2]]), fillcolor)


def _warp(pixels: Any, inverse: np.ndarray, fill: Sequence[float]) -> Any:
    """Return the image whose pixel (x, y) is the given one's at `inverse` (x, y, 1); (2, 3), between pixels' centres."""
    return cv2.warpAffine(
        pixels,
        inverse,
        (pixels.shape[1], pixels.shape[0]),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=tuple(fill),
    )


def translate(pixels: Any, distance: float, *, axis: int, fillcolor: Sequence[float], **_: Any) -> Any:
    """Take each pixel from `distance` pixels further down (axis 0) or further right (axis 1)."""
    first, last, start, taps = _shifted(distance, pixels.shape[axis])
    moved = np.empty_like(pixels)
    moved[:] = fillcolor
    if first < last:
        down, right = (2, 0) if axis == 0 else (0, 2)
        padded = cv2.copyMakeBorder(pixels, down, down, right, right, cv2.BORDER_REPLICATE)
        across, along = (_ONE, taps) if axis == 0 else (taps, _ONE)
        between = cv2.sepFilter2D(padded, -1, across, along, anchor=(right // 2, down // 2), delta=_CUT_OFF)
        lines = np.moveaxis(between, axis, 0)[start : start + last - first]
        np.moveaxis(moved, axis, 0)[first:last] = lines
    return moved


def _shifted(distance: float, side: int) -> tuple[int, int, int, np.ndarray]:
    """Return which pixels along a line a shift leaves inside, from where (2 being the first pixel), and the bicubic taps.

    Pixel i comes from i + distance; it is inside while that point lies within the outermost pixels' outer edges.
    """
    whole = math.floor(distance)
    first, last = max(0, math.ceil(-distance - 0.5)), min(side, math.ceil(side - distance - 0.5))
    away = np.abs(np.arange(-1, 3) - (distance - whole))
    near, far = away**3 - 2 * away**2 + 1, 4 - 8 * away + 5 * away**2 - away**3
    return first, last, first + whole + 2, np.where(away <= 1, near, far)


def translate_by_share(pixels: Any, share: float, *, axis: int, **settings: Any) -> Any:
    """Do as `translate` by a share of the side instead of pixels."""
    return translate(pixels, share * pixels.shape[axis], axis=axis, **settings)


OPERATIONS: dict[str, Operation] = {
    "AutoContrast": auto_contrast,
    "Equalize": equalize,
    "Invert": invert,
    "Rotate": rotate,
    **dict.fromkeys(("Posterize", "PosterizeIncreasing", "PosterizeOriginal"), posterize),
    **dict.fromkeys(("Solarize", "SolarizeIncreasing"), solarize),
    "SolarizeAdd": solarize_add,
    **dict.fromkeys(("Color", "ColorIncreasing"), colour),
    **dict.fromkeys(("Contrast", "ContrastIncreasing"), contrast),
    **dict.fromkeys(("Brightness", "BrightnessIncreasing"), brightness),
    **dict.fromkeys(("Sharpness", "SharpnessIncreasing"), sharpness),
    "ShearX": shear_x,
    "ShearY": shear_y,
    "TranslateX": partial(translate, axis=1),
    "TranslateY": partial(translate, axis=0),
    "TranslateXRel": partial(translate_by_share, axis=1),
    "TranslateYRel": partial(translate_by_share, axis=0),
    "Desaturate": desaturate,
}
"""What executes a step, by timm's name of it."""
