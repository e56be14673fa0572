"""Multi-crop augmentation (DINO): random crops of decoded images, assembled into batches in the worker.

Parameters are drawn for the complete batch (`parameters.py`); each view is cropped and resized in one operation on uint8.
Shapes: B samples, V views of one resolution, P parameters of a view, C channels, H and W pixels.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import cv2
import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import AreaRange, PositiveRange, Probability, up_to
from common.data.augment import parameters as columns
from common.data.augment.bicubic import resize
from common.data.augment.color import apply_on_crop, color_ops
from common.data.augment.erasing import Erasures
from common.data.augment.parameters import ViewRanges, draw_parameters, draw_uniforms
from common.data.augment.planes import by_planes, empty_block, is_rgb8, write_view
from common.data.images import ImageArray
from common.rng import SampleKey
from common.sizes import MAX_SIDE, height_and_width

_MAX_VIEWS = 1000
_MAX_BLUR_SIGMA = 100
_Side = Annotated[int, Field(ge=1, le=MAX_SIDE), Otherwise(f"is not a valid size, use 1 to {MAX_SIDE} pixels")]


class Views(NamedTuple):
    """Views of a batch of images, one list entry per resolution."""

    blocks: list[Tensor]
    """(V, B, C, H, W) uint8; float32 in 0..255 for images of 16 bits."""
    parameters: list[Tensor]
    """(V, B, P) float32, for the color augmentation; empty if the views need none."""
    erasures: Erasures | None
    geometry: Tensor | None = None
    """(B, 2, 3) float32 maps from view to image (`parameters.view_affines`); None unless requested."""


class CropsConfig(Config):
    """DINO's multi-crop augmentation (Caron et al. 2021); the defaults are the paper's."""

    num_global: Annotated[
        int, Field(ge=2, le=_MAX_VIEWS), Otherwise(f": the loss compares global views, use 2 to {_MAX_VIEWS}")
    ] = 2
    """Number of global views, which are passed to teacher and student; at least 2."""
    global_size: _Side | tuple[_Side, _Side] = 224
    """Size of a global view in pixels: the side of a square, or [height, width]; at most `data.image_size`. Smaller views save
    compute; features are evaluated at `data.image_size`."""
    global_scale: AreaRange = (0.4, 1.0)
    """Range of a global crop's area, as a fraction of the image's area."""
    num_local: Annotated[
        int, Field(ge=0, le=_MAX_VIEWS), Otherwise(f"is not a valid number of views, use 0 to {_MAX_VIEWS}")
    ] = 8
    """Number of local views, which are passed to the student only; 0 for none."""
    local_size: _Side | tuple[_Side, _Side] = 96
    """Size of a local view in pixels: the side of a square, or [height, width]."""
    local_scale: AreaRange = (0.05, 0.4)
    """Range of a local crop's area, as a fraction of the image's area."""
    ratio: PositiveRange = (3 / 4, 4 / 3)
    """Range of a crop's aspect ratio, width over height, before it is resized to the size of its view."""
    hflip_prob: Probability = 0.5
    """Probability of a horizontal flip."""
    degrees: Annotated[float, *up_to(180)] = 0.0
    """Largest rotation of a view in either direction, in degrees."""
    translate: Annotated[float, *up_to(1)] = 0.0
    """Largest translation of a view along each axis, as a fraction of its side."""
    color_jitter_prob: Probability = 0.8
    """Probability that brightness, contrast, saturation and hue are jittered."""
    brightness: Annotated[float, *up_to(10)] = 0.4
    """Largest change of brightness, as a fraction."""
    contrast: Annotated[float, *up_to(10)] = 0.4
    """Largest change of contrast, as a fraction."""
    saturation: Annotated[float, *up_to(10)] = 0.2
    """Largest change of saturation, as a fraction."""
    hue: Annotated[float, *up_to(0.5)] = 0.1
    """Largest hue shift in either direction, in turns of the color circle; at most 0.5."""
    grayscale_prob: Probability = 0.2
    """Probability of conversion to grayscale."""
    blur_prob: tuple[Probability, Probability, Probability] = (1.0, 0.1, 0.5)
    """Probability of a Gaussian blur of the first global view, the other global views, the local views."""
    blur_sigma: PositiveRange = (0.1, 2.0)
    """Range of the blur's standard deviation, in pixels of the view."""
    solarize_prob: tuple[Probability, Probability, Probability] = (0.0, 0.2, 0.0)
    """Probability of solarizing the first global view, the other global views, the local views."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what is allowed)."""
        if self.blur_sigma[1] > _MAX_BLUR_SIGMA:
            yield "blur_sigma", f"{self.blur_sigma} removes all detail, use at most {_MAX_BLUR_SIGMA} pixels"


COLOR_KEYS = ("saturation", "hue", "grayscale_prob")
"""Keys of `CropsConfig` that need RGB: they are not applied to images of another number of channels."""


def build_multi_crop(config: CropsConfig, seed: int, *, color_in_worker: bool, channels: int = 3) -> "MultiCrop":
    """Return the configured multi-crop augmentation; with `color_in_worker` the worker also applies color, blur and solarize."""
    if channels != 3:
        config = config.model_copy(update=dict.fromkeys(COLOR_KEYS, 0.0))
    kinds = [0] + [1] * (config.num_global - 1) + [2] * config.num_local
    ranges = ViewRanges(
        scale=np.array([config.local_scale if kind == 2 else config.global_scale for kind in kinds]),
        ratio=config.ratio,
        hflip_prob=config.hflip_prob,
        degrees=config.degrees,
        translate=config.translate,
        color_jitter_prob=config.color_jitter_prob,
        color_jitter=(config.brightness, config.contrast, config.saturation, config.hue),
        grayscale_prob=config.grayscale_prob,
        blur_prob=np.array([config.blur_prob[kind] for kind in kinds]),
        blur_sigma=config.blur_sigma,
        solarize_prob=np.array([config.solarize_prob[kind] for kind in kinds]),
    )
    sizes = height_and_width(config.global_size), height_and_width(config.local_size)
    groups = list(zip(sizes, (config.num_global, config.num_local), strict=True))
    return MultiCrop(ranges, groups, seed, color_in_worker=color_in_worker)


class MultiCrop:
    """Create views of images, grouped by resolution, each view with its own random parameters."""

    def __init__(
        self, ranges: ViewRanges, groups: Sequence[tuple[tuple[int, int], int]], seed: int, *, color_in_worker: bool
    ) -> None:
        """Create the augmentation from the ranges of all views and, in the same order, groups of a size and a number of views."""
        ends = np.cumsum([count for _, count in groups]).tolist()
        self.groups = [
            (size, slice(end - count, end)) for (size, count), end in zip(groups, ends, strict=True) if count
        ]
        self.num_views: int = ends[-1]
        self.ranges, self.seed, self.color_in_worker = ranges, seed, color_in_worker

    def __call__(self, images: Sequence[ImageArray], keys: Sequence[SampleKey]) -> Views:
        """Return the views of B (H, W, C) images of any sizes, one block per resolution."""
        heights, widths = np.array([image.shape[:2] for image in images]).T
        drawn = draw_parameters(
            self.ranges, heights, widths, draw_uniforms(self.seed, keys, self.num_views, stream="views")
        )
        # One call for all views: the cost of its many small operations does not depend on their number.
        flat = torch.from_numpy(drawn.reshape(-1, columns.NUM_PARAMETERS))
        ops = color_ops(flat, images[0].shape[2]) if self.color_in_worker else None
        views = Views([], [], None)
        for size, members in self.groups:
            parameters = np.ascontiguousarray(drawn[:, members].swapaxes(0, 1))
            views.blocks.append(empty_block(images, len(parameters), size))
            views.parameters.append(torch.from_numpy(parameters))
        planes = [view for block in views.blocks for view in block.numpy()]
        # Image by image, so that its pixels stay in the processor's cache for all of its views.
        for sample, (image, parameters_of_views) in enumerate(zip(images, drawn.tolist(), strict=True)):
            for view, view_parameters in enumerate(parameters_of_views):
                target = planes[view][sample]
                crop = crop_and_resize(image, view_parameters, target.shape[1:])
                if ops is not None:
                    crop = apply_on_crop(crop, ops[sample * self.num_views + view])
                write_view(crop, target)
        return views


def crop_and_resize(source: Any, parameters: Sequence[float], size: tuple[int, int]) -> Any:
    """Return a (height, width, C) crop of an (H, W, C) image: cropped, resized, flipped, rotated and translated.

    Resizing is bicubic with antialiasing, as in Pillow. Rotation and translation are applied to the resized crop, with replicated
    edges.
    """
    top, left, height, width = map(int, parameters[: columns.WIDTH + 1])
    pixels = resize(source, size, box=(top, left, height, width), flip=bool(parameters[columns.FLIP]))
    angle, x, y = parameters[columns.ANGLE], parameters[columns.TRANSLATE_X], parameters[columns.TRANSLATE_Y]
    if angle or x or y:
        pixels = _rotate_and_translate(pixels, angle, x * size[1], y * size[0])
    return pixels


def _rotate_and_translate(pixels: Any, degrees: float, right: float, down: float) -> Any:
    """Rotate an (H, W, C) image counter-clockwise about its center, then translate it by pixels, with replicated edges."""
    height, width = pixels.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    offset_x = center_x * (1 - cosine) - center_y * sine + right
    offset_y = center_y * (1 - cosine) + center_x * sine + down
    matrix = np.array([[cosine, sine, offset_x], [-sine, cosine, offset_y]])

    def warp(pixels: Any) -> Any:
        return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    return warp(pixels) if is_rgb8(pixels) else by_planes(warp, pixels)
