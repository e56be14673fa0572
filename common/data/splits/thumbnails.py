"""Thumbnails of images, and the features by which near duplicates are recognized."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.sources.split import Split
from common.errors import ProcessError, UserError

SIDE = 16
"""Side of a thumbnail in pixels. A smaller image has no detail to compare: its thumbnail is black."""
BLOCK_LENGTH = 2048
"""Number of images whose thumbnails are made at a time."""
_GROUP_LENGTH = 64
_GRAY = np.array([0.299, 0.587, 0.114], np.float32)
_MIN_CONTRAST = 2.0
_MIN_DETAIL = 0.5

Thumbnails = npt.NDArray[np.uint8]
"""(n, 16, 16, 3)."""


class Features(NamedTuple):
    """What is compared of n thumbnails, relative to their contrast.

    coarse: (n, 192), the colors of 8 x 8 pixels without their mean, of norm 1; detail: (n, 256), the gray values of 16 x 16 pixels
    without those of 8 x 8; comparable: (n,), whether there is something to compare: not for black thumbnails and flat images.
    """

    coarse: npt.NDArray[np.float32]
    detail: npt.NDArray[np.float32]
    comparable: npt.NDArray[np.bool_]


def thumbnail_blocks(split: Split, *, threads: int) -> Iterator[Thumbnails]:
    """Yield the thumbnails of a split in blocks of 2,048, in order; a corrupt image has a black one.

    Threads suffice, because the decoders release the GIL. They end with the next image when the caller stops early, or a signal
    ends the run.
    """
    is_over = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for start in range(0, len(split), BLOCK_LENGTH):
                indices = range(start, min(start + BLOCK_LENGTH, len(split)))
                if threads == 1:
                    yield _thumbnails(split, indices, is_over)
                else:
                    groups = [indices[first : first + _GROUP_LENGTH] for first in range(0, len(indices), _GROUP_LENGTH)]
                    yield np.concatenate(list(pool.map(lambda group: _thumbnails(split, group, is_over), groups)))
        finally:
            is_over.set()


def thumbnails(split: Split, *, threads: int) -> Thumbnails:
    """Return the thumbnails of a split."""
    return np.concatenate([np.zeros((0, SIDE, SIDE, 3), np.uint8), *thumbnail_blocks(split, threads=threads)])


def _thumbnails(split: Split, indices: range, is_over: threading.Event) -> Thumbnails:
    """Return the thumbnails of the images at `indices`; the rest stays black once nobody needs them."""
    found = np.zeros((len(indices), SIDE, SIDE, 3), np.uint8)
    for row, index in enumerate(indices):
        if is_over.is_set():
            break
        try:
            found[row] = thumbnail(split.image(index))
        except ProcessError:
            raise
        except UserError:  # reported by verification or in training
            continue
    return found


def thumbnail(image: ImageArray) -> Thumbnails:
    """Return the image (H, W, C) squashed to (16, 16, 3), each pixel the mean of an area; black if a side is shorter than 16.

    Of more than 3 channels, the first 3 count; of fewer, the last one stands for those that are missing.
    """
    if min(image.shape[:2]) < SIDE:
        return np.zeros((SIDE, SIDE, 3), np.uint8)
    import cv2

    if image.shape[2] != 3:
        image = np.ascontiguousarray(image[..., [min(channel, image.shape[2] - 1) for channel in range(3)]])
    resized = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized if image.dtype == np.uint8 else resized // 257, np.uint8)


def features(thumbs: Thumbnails) -> Features:
    """Return the features of (n, 16, 16, 3) thumbnails.

    `coarse` and `detail` are orthogonal parts of an image: the means of 2 x 2 pixels, and the deviations from them. Two images
    that look alike from afar share the first, only copies share the second, too.
    """
    pixels = thumbs.astype(np.float32)
    coarse = _halve(pixels).reshape(len(thumbs), -1)
    coarse -= coarse.mean(1, keepdims=True)
    gray = pixels @ _GRAY
    detail = (gray - _halve(gray).repeat(2, axis=1).repeat(2, axis=2)).reshape(len(thumbs), -1)
    norm = np.linalg.norm(coarse, axis=1, keepdims=True)
    contrast = norm[:, 0] / np.sqrt(coarse.shape[1])
    comparable = (contrast >= _MIN_CONTRAST) & (detail.std(1) >= _MIN_DETAIL)
    norm = np.maximum(norm, 1e-6)
    return Features(coarse / norm, detail / norm, comparable)


def _halve(pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the means of 2 x 2 pixels; a sum of slices takes a fifth of the time of `mean` over two axes."""
    sums = pixels[:, ::2, ::2] + pixels[:, 1::2, ::2] + pixels[:, ::2, 1::2] + pixels[:, 1::2, 1::2]
    return sums * np.float32(0.25)
