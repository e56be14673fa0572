"""Resize of a complete image to cover a size or to squash to it, and padding.

Images of extreme aspect ratio are cropped to their center first. Shapes: H and W pixels.
"""

from typing import Any

import cv2

from common.data.augment.bicubic import resize
from common.data.augment.planes import by_planes, is_rgb8

_MAX_ASPECT_RATIO = 50


def resize_image(source: Any, size: tuple[int, int], *, squash: bool) -> Any:
    """Resize an (H, W, C) image (bicubic) to `size` (height, width) if `squash`, else to the smallest size that covers it.

    Without `squash`, an image of extreme aspect ratio is cropped to its center first: otherwise, covering a size with an image
    of 65,535 x 1 pixels would need gigabytes.
    """
    box = _center_box(*source.shape[:2], squash=squash)
    return resize(source, _resized_size(*box[2:], size, squash=squash), box=box)


def uncropped_geometry(
    height: int, width: int, size: tuple[int, int], *, squash: bool
) -> tuple[float, float, float, float]:
    """Return the (top, left) of the result of `resize_image` within the uncropped resized image, and the latter's (height, width).

    `height` and `width` are the original image's; all results are in pixels of the resized image. The two images differ only for
    an extreme aspect ratio.
    """
    top, left, kept_height, kept_width = _center_box(height, width, squash=squash)
    resized_height, resized_width = _resized_size(kept_height, kept_width, size, squash=squash)
    # Multiply first, so that the sizes of an image that is not cropped remain integers.
    down = (top * resized_height / kept_height, height * resized_height / kept_height)
    across = (left * resized_width / kept_width, width * resized_width / kept_width)
    return down[0], across[0], down[1], across[1]


def _center_box(height: int, width: int, *, squash: bool) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the center crop of aspect ratio at most 50; with `squash`, the complete image."""
    longest = max(height, width) if squash else _MAX_ASPECT_RATIO * min(height, width)
    top, left = (max(side - longest, 0) // 2 for side in (height, width))
    return top, left, min(height, longest), min(width, longest)


def _resized_size(height: int, width: int, size: tuple[int, int], *, squash: bool) -> tuple[int, int]:
    """Return the (height, width) of a resized image; the longer side is rounded down, as in torchvision."""
    if squash:
        return size
    if height * size[1] >= width * size[0]:
        return size[1] * height // width, size[1]
    return size[0], size[0] * width // height


def pad(source: Any, padding: int, border: int) -> Any:
    """Pad an (H, W, C) image by `padding` pixels on each side, with one of OpenCV's border types."""

    def pad_plane(pixels: Any) -> Any:
        return cv2.copyMakeBorder(pixels, padding, padding, padding, padding, border)

    return pad_plane(source) if is_rgb8(source) else by_planes(pad_plane, source)
