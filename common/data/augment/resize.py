"""Owns how an image is resized in whole: until it covers a view or to its very size, the ends of strips cut off; and padded.

Shapes: H and W pixels.
"""

from typing import Any

import cv2

from common.data.augment.bicubic import resize

_LONGEST_STRIP = 50


def resize_whole(source: Any, size: tuple[int, int], *, stretch: bool) -> Any:
    """Return an (H, W, 3) image as one of `size` (height, width) where `stretch`; else as the smallest that covers it (bicubic).

    Of a strip, the ends are cut off before it is to cover: resized in whole, 65,535 x 1 pixels would fill gigabytes.
    """
    box = _kept(*source.shape[:2], stretch=stretch)
    return resize(source, _size_after(*box[2:], size, stretch=stretch), box=box)


def whole_after(height: int, width: int, size: tuple[int, int], *, stretch: bool) -> tuple[float, float, float, float]:
    """Return where in the whole image of (height, width) lies what `resize_whole` gives: (top, left) of it, (height, width) of all.

    Pixels are those of the resized image; only of a strip is there more than it.
    """
    top, left, kept_height, kept_width = _kept(height, width, stretch=stretch)
    resized_height, resized_width = _size_after(kept_height, kept_width, size, stretch=stretch)
    # Multiplied first, so that the sides of an image that is kept in whole stay whole numbers.
    down = (top * resized_height / kept_height, height * resized_height / kept_height)
    across = (left * resized_width / kept_width, width * resized_width / kept_width)
    return down[0], across[0], down[1], across[1]


def _kept(height: int, width: int, *, stretch: bool) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of the middle of a strip, its longer side 50 times its shorter; else all of it."""
    longest = max(height, width) if stretch else _LONGEST_STRIP * min(height, width)
    top, left = (max(side - longest, 0) // 2 for side in (height, width))
    return top, left, min(height, longest), min(width, longest)


def _size_after(height: int, width: int, size: tuple[int, int], *, stretch: bool) -> tuple[int, int]:
    """Return the (height, width) of a resized image; the further side is rounded down, as torchvision does."""
    if stretch:
        return size
    if height * size[1] >= width * size[0]:
        return size[1] * height // width, size[1]
    return size[0], size[0] * width // height


def pad(source: Any, padding: int, border: int) -> Any:
    """Return an (H, W, 3) image with `padding` pixels more on each side, by one of OpenCV's borders."""
    return cv2.copyMakeBorder(source, padding, padding, padding, padding, border)
