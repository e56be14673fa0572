"""Owns DINO's views of an image: the geometry, done in the worker on the decoded image, and their assembly to batches.

Parameters are drawn for the whole batch at once (`parameters.py`); each view is cut and resized in one step on uint8.
Shapes: B samples, V views of one resolution, P numbers of a view, S pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.augment import parameters as columns
from common.data.augment.bicubic import resize
from common.data.augment.color import apply_on_crop, crop_steps
from common.data.augment.erasing import Erasures
from common.data.augment.parameters import ViewRanges, draw_uniforms, draw_views
from common.rng import SampleKey
from common.sizes import MOST_SIDE

_MOST_VIEWS = 1000
_MOST_BLUR = 100


class Views(NamedTuple):
    """Hold the views of a batch of images, one entry a resolution."""

    blocks: list[Tensor]
    """(V, B, 3, S, S) uint8."""
    parameters: list[Tensor]
    """(V, B, P) float32; empty where the views need no photometry."""
    erasures: Erasures | None
    geometry: Tensor | None = None
    """(B, 2, 3) float32: where in its image a view lies (`parameters.view_affines`); none where nobody asked."""


@dataclass(frozen=True, kw_only=True)
class ViewsConfig:
    """Set what DINO's views of an image are (Caron et al. 2021); the defaults are the paper's."""

    global_count: int = 2
    """Number of global views, which the teacher and the student see; at least 2."""
    global_size: int = 224
    """Side of a global view, in pixels."""
    global_scale: tuple[float, float] = (0.4, 1.0)
    """Bounds of a global crop's share of the image's area."""
    local_count: int = 8
    """Number of local views, which only the student sees; 0 for none."""
    local_size: int = 96
    """Side of a local view, in pixels."""
    local_scale: tuple[float, float] = (0.05, 0.4)
    """Bounds of a local crop's share of the image's area."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Bounds of a crop's width over height."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    rotation_degrees: float = 0.0
    """Largest rotation of a view either way, in degrees."""
    shift: float = 0.0
    """Largest shift of a view in each direction, as a fraction of its side."""
    jitter_probability: float = 0.8
    """Probability that brightness, contrast, saturation and hue change."""
    brightness: float = 0.4
    """Largest change of brightness, as a fraction."""
    contrast: float = 0.4
    """Largest change of contrast, as a fraction."""
    saturation: float = 0.2
    """Largest change of saturation, as a fraction."""
    hue: float = 0.1
    """Largest change of hue either way, in turns of the colour circle; at most 0.5."""
    grey: float = 0.2
    """Probability that a view loses its colour."""
    blur: tuple[float, float, float] = (1.0, 0.1, 0.5)
    """Probability of a Gaussian blur of the first global view, the other global views, the local views."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Bounds of the blur's standard deviation, in pixels of the view."""
    solarize: tuple[float, float, float] = (0.0, 0.2, 0.0)
    """Probability of solarizing the first global view, the other global views, the local views."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong with it and what is allowed)."""
        if not 2 <= self.global_count <= _MOST_VIEWS:
            yield "global_count", f"{self.global_count}: the loss compares global views, so give 2 to {_MOST_VIEWS}"
        if not 0 <= self.local_count <= _MOST_VIEWS:
            yield "local_count", f"{self.local_count} is no number of views: give 0 to {_MOST_VIEWS}"
        for name in ("global_size", "local_size"):
            if not 1 <= getattr(self, name) <= MOST_SIDE:
                yield name, f"{getattr(self, name)} is no size: give a number of pixels from 1 to {MOST_SIDE}"
        for name in ("global_scale", "local_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                yield name, f"({low}, {high}) are no shares of an area: give 0 < lowest <= highest <= 1"
        for name in ("aspect", "blur_sigma"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                yield name, f"({low}, {high}) is no range: give 0 < lowest <= highest"
        if self.blur_sigma[1] > _MOST_BLUR:
            yield "blur_sigma", f"{self.blur_sigma} leaves nothing to see: give at most {_MOST_BLUR} pixels"
        for name in ("flip", "jitter_probability", "grey", "blur", "solarize"):
            values = getattr(self, name)
            if not all(0 <= value <= 1 for value in (values if isinstance(values, tuple) else (values,))):
                yield name, f"{values} is no probability: give values in [0, 1]"
        limits = {"rotation_degrees": 180.0, "shift": 1.0, "hue": 0.5}
        for name in ("rotation_degrees", "shift", "brightness", "contrast", "saturation", "hue"):
            limit = limits.get(name, 10.0)
            if not 0 <= getattr(self, name) <= limit:
                yield name, f"{getattr(self, name)} is out of range: give a value in [0, {limit:g}]"


def build_multi_crop(config: ViewsConfig, seed: int, *, photometry_in_worker: bool) -> "MultiCrop":
    """Return the views that the recipe sets; with `photometry_in_worker` they come with colour, blur and solarize."""
    kinds = [0] + [1] * (config.global_count - 1) + [2] * config.local_count
    ranges = ViewRanges(
        scale=np.array([config.local_scale if kind == 2 else config.global_scale for kind in kinds]),
        aspect=config.aspect,
        flip=config.flip,
        rotation_degrees=config.rotation_degrees,
        shift=config.shift,
        jitter=config.jitter_probability,
        strengths=(config.brightness, config.contrast, config.saturation, config.hue),
        grey=config.grey,
        blur=np.array([config.blur[kind] for kind in kinds]),
        blur_sigma=config.blur_sigma,
        solarize=np.array([config.solarize[kind] for kind in kinds]),
    )
    groups = [(config.global_size, config.global_count), (config.local_size, config.local_count)]
    return MultiCrop(ranges, groups, seed, photometry_in_worker=photometry_in_worker)


class MultiCrop:
    """Turn images into views in groups of one resolution, each view with its own numbers."""

    def __init__(
        self, ranges: ViewRanges, groups: Sequence[tuple[int, int]], seed: int, *, photometry_in_worker: bool
    ) -> None:
        """Take the ranges of all views, and their groups in the same order: (side in pixels, number of views)."""
        ends = np.cumsum([count for _, count in groups]).tolist()
        self.groups = [
            (size, slice(end - count, end)) for (size, count), end in zip(groups, ends, strict=True) if count
        ]
        self.num_views: int = ends[-1]
        self.ranges, self.seed, self.photometry_in_worker = ranges, seed, photometry_in_worker

    def __call__(self, images: Sequence[Tensor], keys: Sequence[SampleKey]) -> Views:
        """Return the views of B (3, H, W) uint8 images of any sizes, one block a resolution."""
        heights, widths = np.array([tuple(image.shape[1:]) for image in images]).T
        drawn = draw_views(self.ranges, heights, widths, draw_uniforms(self.seed, keys, self.num_views, stream="views"))
        # One call for all views: its many small steps cost the same for any number.
        steps = (
            crop_steps(torch.from_numpy(drawn.reshape(-1, columns.NUM_PARAMETERS)))
            if self.photometry_in_worker
            else None
        )
        views = Views([], [], None)
        for size, members in self.groups:
            records = np.ascontiguousarray(drawn[:, members].swapaxes(0, 1))
            views.blocks.append(torch.empty((*records.shape[:2], 3, size, size), dtype=torch.uint8))
            views.parameters.append(torch.from_numpy(records))
        planes = [view for block in views.blocks for view in block.numpy()]
        # Image by image, so that its pixels stay in the processor's cache for all of its views.
        for place, (image, records) in enumerate(zip(images, drawn.tolist(), strict=True)):
            source = as_interleaved(image)
            for view, record in enumerate(records):
                target = planes[view][place]
                crop = crop_and_resize(source, record, target.shape[1:])
                if steps is not None:
                    crop = apply_on_crop(crop, steps[place * self.num_views + view])
                cv2.split(crop, list(target))
        return views


def as_interleaved(image: Tensor) -> Any:
    """Return a (3, H, W) uint8 image as (H, W, 3) whose colours lie together in memory, as OpenCV has them."""
    pixels = image.permute(1, 2, 0)
    # Merging is nine times as fast as `contiguous`.
    return pixels.numpy() if pixels.is_contiguous() else cv2.merge(list(image.contiguous().numpy()))


def crop_and_resize(source: Any, record: Sequence[float], size: tuple[int, int]) -> Any:
    """Return the (height, width, 3) uint8 crop of an (H, W, 3) image that a record names: cut, resized, flipped, turned.

    Resizing is bicubic with antialiasing, as PIL's; a rotation or shift moves the resized crop, its edges repeated.
    """
    top, left, height, width = map(int, record[: columns.WIDTH + 1])
    pixels = resize(source, size, box=(top, left, height, width), flip=bool(record[columns.FLIP]))
    angle, shift_x, shift_y = record[columns.ANGLE], record[columns.SHIFT_X], record[columns.SHIFT_Y]
    if angle or shift_x or shift_y:
        pixels = _move(pixels, angle, shift_x * size[1], shift_y * size[0])
    return pixels


def _move(pixels: Any, degrees: float, right: float, down: float) -> Any:
    """Turn an (H, W, 3) image counter-clockwise about its centre, then shift it by pixels; its edges are repeated."""
    height, width = pixels.shape[:2]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    across, down_to = (width - 1) / 2, (height - 1) / 2
    offset_x, offset_y = across * (1 - cosine) - down_to * sine + right, down_to * (1 - cosine) + across * sine + down
    matrix = np.array([[cosine, sine, offset_x], [-sine, cosine, offset_y]])
    return cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
