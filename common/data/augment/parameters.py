"""Augmentation parameters of views, drawn for a batch at a time.

The parameters of a view are drawn once, as a flat float32 vector with the columns below, and applied later: geometry in the
worker, color augmentation in the worker or on the device.
Shapes: B samples, V views of a sample, U uniform random numbers of a view, P parameters of a view.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from common.rng import SampleKey, generators

(TOP, LEFT, HEIGHT, WIDTH, FLIP, ANGLE, TRANSLATE_X, TRANSLATE_Y) = range(8)
"""Geometry: the crop in pixels of the image, 1 for a flip, the rotation in degrees, the translation in fractions of the view."""
(BRIGHTNESS, CONTRAST, SATURATION, HUE, ORDER, GRAYSCALE, BLUR_SIGMA, SOLARIZE) = range(8, 16)
"""Color: three factors (1 = unchanged), hue shift in turns (0 = unchanged), index of the drawn order in `ORDERS`, 1 for grayscale,
standard deviation of the blur in pixels (0 = no blur), 1 for solarize."""
NUM_PARAMETERS = 16

ORDERS = tuple(permutations(range(4)))
"""Possible orders of brightness, contrast, saturation and hue (0 to 3)."""

_ATTEMPTS = 10
_CROP_UNIFORMS = 2 * _ATTEMPTS + 2
_NUM_UNIFORMS = _CROP_UNIFORMS + 14


@dataclass(frozen=True, kw_only=True)
class ViewRanges:
    """Ranges and probabilities of the parameters of a sample's V views; per-view values are arrays of length V."""

    scale: np.ndarray
    """(V, 2) bounds of the crop's area as a fraction of the image's."""
    ratio: tuple[float, float]
    hflip_prob: float
    degrees: float
    translate: float
    color_jitter_prob: float
    """Probability that brightness, contrast, saturation and hue change."""
    color_jitter: tuple[float, float, float, float]
    """Largest change of the brightness, contrast and saturation factors from 1, and of the hue from 0."""
    grayscale_prob: float
    blur_prob: np.ndarray
    """(V,) probability of blur."""
    blur_sigma: tuple[float, float]
    solarize_prob: np.ndarray
    """(V,) probability of solarizing."""


def draw_uniforms(seed: int, keys: Sequence[SampleKey], num_views: int, *, stream: str) -> np.ndarray:
    """Return (B, V, U) uniform random numbers in [0, 1); those of view v are a pure function of (seed, epoch, index, repeat, v).

    A sample's generator is keyed by the first four; view v uses the v-th block of U numbers of its stream.
    """
    uniforms = np.empty((len(keys), num_views, _NUM_UNIFORMS))
    for row, rng in zip(uniforms, generators(seed, keys, stream=stream), strict=True):
        rng.random(out=row)
    return uniforms


def draw_parameters(ranges: ViewRanges, heights: np.ndarray, widths: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """Return the (B, V, P) float32 parameters of views of images with (B,) heights and widths, from (B, V, U) uniforms."""
    drawn = np.zeros((*uniforms.shape[:2], NUM_PARAMETERS), dtype=np.float32)
    drawn[..., TOP : WIDTH + 1] = draw_crops(ranges.scale, ranges.ratio, heights, widths, uniforms)
    uniform = np.moveaxis(uniforms[..., _CROP_UNIFORMS:], -1, 0)
    drawn[..., FLIP] = uniform[0] < ranges.hflip_prob
    drawn[..., ANGLE] = ranges.degrees * (2 * uniform[1] - 1)
    drawn[..., TRANSLATE_X] = ranges.translate * (2 * uniform[2] - 1)
    drawn[..., TRANSLATE_Y] = ranges.translate * (2 * uniform[3] - 1)
    jittered = uniform[4] < ranges.color_jitter_prob
    for column, center, strength, draw in zip(
        (BRIGHTNESS, CONTRAST, SATURATION, HUE), (1, 1, 1, 0), ranges.color_jitter, uniform[5:9], strict=True
    ):
        low = center - strength if center == 0 else max(0.0, center - strength)
        drawn[..., column] = np.where(jittered, low + (center + strength - low) * draw, center)
    drawn[..., ORDER] = np.floor(uniform[9] * len(ORDERS))
    drawn[..., GRAYSCALE] = uniform[10] < ranges.grayscale_prob
    low, high = ranges.blur_sigma
    drawn[..., BLUR_SIGMA] = np.where(uniform[11] < ranges.blur_prob, low + (high - low) * uniform[12], 0.0)
    drawn[..., SOLARIZE] = uniform[13] < ranges.solarize_prob
    return drawn


def draw_crops(
    scale: np.ndarray, ratio: tuple[float, float], heights: np.ndarray, widths: np.ndarray, uniforms: np.ndarray
) -> np.ndarray:
    """Return the (B, V, 4) crops (top, left, height, width) of torchvision's `RandomResizedCrop`.

    Up to ten attempts draw an area (uniform in `scale`, a fraction of the image's) and an aspect ratio (log-uniform); the first
    crop that fits into the image is taken. If none fits, the largest center crop with an allowed aspect ratio is taken.
    """
    height, width = heights.astype(np.float64)[:, None, None], widths.astype(np.float64)[:, None, None]
    low, high = scale[:, :1], scale[:, 1:]
    area = height * width * (low + (high - low) * uniforms[..., :_ATTEMPTS])
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect_ratio = np.exp(log_low + (log_high - log_low) * uniforms[..., _ATTEMPTS : 2 * _ATTEMPTS])
    crop_width, crop_height = np.rint(np.sqrt(area * aspect_ratio)), np.rint(np.sqrt(area / aspect_ratio))
    fits = (crop_width >= 1) & (crop_width <= width) & (crop_height >= 1) & (crop_height <= height)
    first = np.argmax(fits, axis=-1)[..., None]
    crop_width = np.take_along_axis(crop_width, first, axis=-1)
    crop_height = np.take_along_axis(crop_height, first, axis=-1)
    top = np.floor(uniforms[..., 2 * _ATTEMPTS, None] * (height - crop_height + 1))
    left = np.floor(uniforms[..., 2 * _ATTEMPTS + 1, None] * (width - crop_width + 1))
    crops = np.concatenate([top, left, crop_height, crop_width], axis=-1)
    return np.where(fits.any(axis=-1, keepdims=True), crops, _center_crops(ratio, height, width))


def _center_crops(ratio: tuple[float, float], height: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Return the (B, 1, 4) largest center crops whose aspect ratio is within the bounds."""
    crop_height = np.maximum(np.minimum(height, np.rint(width / ratio[0])), 1)
    crop_width = np.maximum(np.minimum(width, np.rint(height * ratio[1])), 1)
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return np.concatenate([top, left, crop_height, crop_width], axis=-1)


def view_affines(parameters: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Return the (B, 2, 3) float32 affine maps from view to image, for (B, P) parameters and images with (B,) heights and widths.

    Coordinates (x, y) range from -1 to 1 between the outer edges, as in `torch.nn.functional.affine_grid`. The maps cover the
    operations of `multi_crop.crop_and_resize`: crop, flip, rotation, translation; not those of a policy applied afterwards.
    """
    parameters = np.asarray(parameters, dtype=np.float64)
    top, left, height, width = np.moveaxis(parameters[:, TOP : WIDTH + 1], -1, 0)
    cosine, sine = np.cos(np.radians(parameters[:, ANGLE])), np.sin(np.radians(parameters[:, ANGLE]))
    crop = np.zeros((len(parameters), 2, 2))
    crop[:, 0, 0], crop[:, 1, 1] = np.where(parameters[:, FLIP] > 0, -1, 1) * width / widths, height / heights
    center = np.stack([(2 * left + width) / widths - 1, (2 * top + height) / heights - 1], axis=-1)
    # The view was rotated and then translated, so the inverse undoes the translation first.
    inverse_rotation = np.stack([np.stack([cosine, -sine], axis=-1), np.stack([sine, cosine], axis=-1)], axis=-2)
    linear = crop @ inverse_rotation
    translation = 2 * parameters[:, [TRANSLATE_X, TRANSLATE_Y]]
    offset = center - (linear @ translation[..., None])[..., 0]
    return np.concatenate([linear, offset[..., None]], axis=-1).astype(np.float32)
