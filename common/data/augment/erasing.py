"""Random erasing (Zhong et al. 2020) in timm's `pixel` mode: one rectangle of noise per image, after normalization.

The worker draws the rectangle and its noise, keyed by the sample; the device only copies. Shapes: B samples, C channels, H and W
pixels, E erasures.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

_AREA = (0.02, 1 / 3)
_LOG_ASPECT = math.log(1 / 0.3)


class Erasures(NamedTuple):
    """Rectangles of a batch to overwrite with noise after normalization."""

    boxes: Tensor
    """(E, 5) int64: index in the batch, top, left, height, width."""
    noise: Tensor
    """The rectangles' (C, height, width) float32 values, flattened and concatenated."""


def draw_erasure(
    rng: np.random.Generator, size: tuple[int, int], probability: float
) -> tuple[int, int, int, int] | None:
    """Return (top, left, height, width) of the rectangle to erase in a view of `size` (height, width) pixels, or None."""
    if rng.random() >= probability:
        return None
    for area, log_aspect, down, right in rng.random((10, 4)).tolist():
        low, high = _AREA
        target = (low + (high - low) * area) * size[0] * size[1]
        ratio = math.exp(_LOG_ASPECT * (2 * log_aspect - 1))
        height, width = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if height < size[0] and width < size[1]:
            return int(down * (size[0] - height + 1)), int(right * (size[1] - width + 1)), height, width
    return None


def erase(images: Tensor, erasures: Erasures | None) -> Tensor:
    """Overwrite the rectangles in normalized (B, C, H, W) images with their noise, in place; return the images."""
    if erasures is None:
        return images
    first, channels = 0, images.shape[1]
    for index, top, left, height, width in erasures.boxes.tolist():
        noise = erasures.noise[first : first + channels * height * width].view(channels, height, width)
        images[index, :, top : top + height, left : left + width] = noise
        first += noise.numel()
    return images


def stack_erasures(erasures: Sequence[tuple[tuple[int, ...], Any]]) -> Erasures:
    """Collate the (box, noise) pairs of a batch."""
    boxes = torch.tensor([box for box, _ in erasures], dtype=torch.int64).view(-1, 5)
    noise = np.concatenate([noise for _, noise in erasures]) if erasures else np.empty(0, dtype=np.float32)
    return Erasures(boxes, torch.from_numpy(noise))
