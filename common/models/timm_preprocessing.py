"""The preprocessing of an evaluation in the words of timm's `pretrained_cfg`, and what these words cannot express."""

import math
from collections.abc import Mapping
from typing import Any

from common.sizes import height_and_width, size_before_crop


def timm_crop_pct(image_size: int | tuple[int, int], crop_pct: float) -> float:
    """Return the `crop_pct` with which timm resizes to the same size before its center crop.

    timm rounds side / crop_pct down, the evaluation to the nearest integer: 32 / 0.875 = 36.6 gives 36 and 37 pixels. If no value
    gives both sides of an oblong image, `crop_pct` is returned as it is.
    """
    sides, resized = height_and_width(image_size), size_before_crop(image_size, crop_pct)
    largest = min(side / target for side, target in zip(sides, resized, strict=True))
    candidates = (crop_pct, largest, math.nextafter(largest, 0))
    return next((each for each in candidates if _timm_resized(sides, each) == resized), crop_pct)


def describe_evaluation(
    image_size: int | tuple[int, int], crop_pct: float, *, squash: bool, images: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the size that the evaluation resizes images to, and where its pixels differ from those of timm's evaluation.

    `images` describes images that are not RGB of 8 bits; {} for RGB.
    """
    sides, resized = height_and_width(image_size), size_before_crop(image_size, crop_pct)
    of_timm = _timm_resized(sides, timm_crop_pct(image_size, crop_pct))
    differences = [
        "pixels may differ by 1 of 255, by more where a bicubic overshoot is clipped: timm resizes with Pillow",
        "images are turned upright by their EXIF orientation, 16-bit pixels scaled to 8 bits, transparent pixels shown on white:"
        " timm reads them as stored, by Pillow's convert('RGB')",
    ]
    if images:
        differences[1] = (
            "timm reads RGB of 8 bits: pass images as `images` describes them, with values in [0, 1] before mean and std"
        )
    if of_timm != resized:
        differences.append(
            f"no crop_pct makes timm resize to {resized[0]}x{resized[1]}: it resizes to {of_timm[0]}x{of_timm[1]}"
        )
    if not squash:
        differences.append("an image whose aspect ratio exceeds 50 is first cropped to 50 at its center")
        if resized[0] != resized[1]:
            differences.append(
                "the side that exceeds the crop is rounded down, by timm to the nearest integer for an oblong input_size: by up to"
                " 1 pixel in its length"
            )
    described = {"images": dict(images)} if images else {}
    return {"crop_pct": crop_pct, "resized": list(resized), "different_in_timm": differences, **described}


def _timm_resized(sides: tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return the (height, width) that timm resizes to before its center crop."""
    height, width = (math.floor(side / crop_pct) for side in sides)
    return height, width
