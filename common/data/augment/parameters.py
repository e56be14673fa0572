"""Owns the numbers of a view: which there are, and how they are drawn, for a whole batch at once.

A view is drawn once, as a flat float32 record with the columns below, and applied later: geometry in the worker,
photometry there or on the device. Shapes: B samples, V views of a sample, U uniforms of a view, P numbers of a view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from common.rng import SampleKey, generator

(TOP, LEFT, HEIGHT, WIDTH, FLIP, ANGLE, SHIFT_X, SHIFT_Y) = range(8)
"""Geometry: the crop in pixels of the image, 1 for a flip, degrees, and shifts in fractions of the crop."""
(BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GREY, SIGMA, SOLARIZE) = range(8, 16)
"""Photometry: three factors (1 = as it was), hue in turns (0), the place of the drawn order in `ORDERS`, 1 for grey,
the blur's standard deviation in pixels (0 = none), 1 for solarize."""
NUM_PARAMETERS = 16

ORDERS = tuple(permutations(range(4)))
"""The orders in which brightness, contrast, saturation and hue (0 to 3) may come."""

_ATTEMPTS = 10
_CROP_UNIFORMS = 2 * _ATTEMPTS + 2
_NUM_UNIFORMS = _CROP_UNIFORMS + 14


@dataclass(frozen=True, kw_only=True)
class ViewRanges:
    """Say between which bounds the numbers of a sample's V views are drawn; per-view values are arrays of length V."""

    scale: np.ndarray
    """(V, 2) bounds of the crop's share of the image's area."""
    aspect: tuple[float, float]
    flip: float
    rotation_degrees: float
    shift: float
    jitter: float
    """Probability that brightness, contrast, saturation and hue move at all."""
    strengths: tuple[float, float, float, float]
    """Bounds around 1 of brightness, contrast and saturation, around 0 of hue."""
    grey: float
    blur: np.ndarray
    """(V,) probability of a blur."""
    blur_sigma: tuple[float, float]
    solarize: np.ndarray
    """(V,) probability of solarizing."""


def draw_uniforms(seed: int, keys: Sequence[SampleKey], num_views: int, *, stream: str) -> np.ndarray:
    """Return (B, V, U) uniforms in [0, 1), those of view v a pure function of (seed, epoch, index, repeat, v).

    A sample's generator is keyed by the first four; view v reads the v-th stretch of U numbers of its stream.
    """
    uniforms = np.empty((len(keys), num_views, _NUM_UNIFORMS))
    for row, key in zip(uniforms, keys, strict=True):
        generator(seed, epoch=key.epoch, index=key.index, repeat=key.repeat, stream=stream).random(out=row)
    return uniforms


def draw_views(ranges: ViewRanges, heights: np.ndarray, widths: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Return the (B, V, P) float32 records of views of images of (B,) heights and widths, from (B, V, U) uniforms."""
    drawn = np.zeros((*uniforms.shape[:2], NUM_PARAMETERS), dtype=np.float32)
    drawn[..., TOP : WIDTH + 1] = draw_crops(ranges.scale, ranges.aspect, heights, widths, uniforms)
    uniform = np.moveaxis(uniforms[..., _CROP_UNIFORMS:], -1, 0)
    drawn[..., FLIP] = uniform[0] < ranges.flip
    drawn[..., ANGLE] = ranges.rotation_degrees * (2 * uniform[1] - 1)
    drawn[..., SHIFT_X] = ranges.shift * (2 * uniform[2] - 1)
    drawn[..., SHIFT_Y] = ranges.shift * (2 * uniform[3] - 1)
    jittered = uniform[4] < ranges.jitter
    for column, centre, strength, draw in zip(
        (BRIGHTNESS, CONTRAST, SATURATION, HUE), (1, 1, 1, 0), ranges.strengths, uniform[5:9], strict=True
    ):
        low = centre - strength if centre == 0 else max(0.0, centre - strength)
        drawn[..., column] = np.where(jittered, low + (centre + strength - low) * draw, centre)
    drawn[..., ORDER] = np.floor(uniform[9] * len(ORDERS))
    drawn[..., GREY] = uniform[10] < ranges.grey
    low, high = ranges.blur_sigma
    drawn[..., SIGMA] = np.where(uniform[11] < ranges.blur, low + (high - low) * uniform[12], 0.0)
    drawn[..., SOLARIZE] = uniform[13] < ranges.solarize
    return drawn


def draw_crops(
    scale: np.ndarray, aspect: tuple[float, float], heights: np.ndarray, widths: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """Return the (B, V, 4) crops (top, left, height, width) of torchvision's random resized crop.

    Ten times an area (uniform in `scale`, a share of the image) and an aspect ratio (log-uniform) are tried; the first
    crop that fits into the image counts. Where none does, the largest central crop of an allowed aspect is taken.
    """
    height, width = heights.astype(np.float64)[:, None, None], widths.astype(np.float64)[:, None, None]
    low, high = scale[:, :1], scale[:, 1:]
    area = height * width * (low + (high - low) * uniforms[..., :_ATTEMPTS])
    log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
    ratio = np.exp(log_low + (log_high - log_low) * uniforms[..., _ATTEMPTS : 2 * _ATTEMPTS])
    crop_width, crop_height = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (crop_width >= 1) & (crop_width <= width) & (crop_height >= 1) & (crop_height <= height)
    first = np.argmax(fits, axis=-1)[..., None]
    crop_width = np.take_along_axis(crop_width, first, axis=-1)
    crop_height = np.take_along_axis(crop_height, first, axis=-1)
    top = np.floor(uniforms[..., 2 * _ATTEMPTS, None] * (height - crop_height + 1))
    left = np.floor(uniforms[..., 2 * _ATTEMPTS + 1, None] * (width - crop_width + 1))
    crops = np.concatenate([top, left, crop_height, crop_width], axis=-1)
    return np.where(fits.any(axis=-1, keepdims=True), crops, _central_crops(aspect, height, width))


def _central_crops(aspect: tuple[float, float], height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the (B, 1, 4) largest central crops whose aspect ratio lies within the bounds."""
    crop_height = np.maximum(np.minimum(height, np.rint(width / aspect[0])), 1)
    crop_width = np.maximum(np.minimum(width, np.rint(height * aspect[1])), 1)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return np.concatenate([top, left, crop_height, crop_width], axis=-1)


def view_affines(records: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the (B, 2, 3) float32 affine maps from a view to its image, for (B, P) records of images of (B,) sizes.

    Both are measured from -1 to 1 between their outer edges, (x, y), as `torch.nn.functional.affine_grid` wants it. The
    maps hold what `views.crop_and_resize` does: crop, flip, rotation, shift; nothing of what a policy does afterwards.
    """
    records = np.asarray(records, dtype=np.float64)
    top, left, height, width = np.moveaxis(records[:, TOP : WIDTH + 1], -1, 0)
    cosine, sine = np.cos(np.radians(records[:, ANGLE])), np.sin(np.radians(records[:, ANGLE]))
    crop = np.zeros((len(records), 2, 2))
    crop[:, 0, 0], crop[:, 1, 1] = np.where(records[:, FLIP] > 0, -1, 1) * width / widths, height / heights
    centre = np.stack([(2 * left + width) / widths - 1, (2 * top + height) / heights - 1], axis=-1)
    # A view was turned and then shifted: going back, the shift is taken off first.
    back = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
    linear = crop @ back
    shift = 2 * records[:, [SHIFT_X, SHIFT_Y]]
    offset = centre - (linear @ shift[..., None])[..., 0]
    return np.concatenate([linear, offset[..., None]], axis=-1).astype(np.float32)
