"""Owns bicubic resizing with antialiasing, as PIL's: by our kernel (`bicubic.cpp`) or PyTorch's, which give the same pixels.

The kernel is built when the project is installed, where there is a C++ compiler, and runs where the processor has what it
takes: AVX-512 with VBMI and VNNI (Ice Lake, Zen 4 and later). It is three to four times as fast.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

try:
    from common.data.augment import _bicubic
except ImportError:  # installed without a compiler
    HAS_KERNEL = False
else:
    HAS_KERNEL = _bicubic.available()

Box = tuple[int, int, int, int]
"""Part of an image in pixels: (top, left, height, width)."""


def resize(pixels: Any, size: tuple[int, int], *, box: Box | None = None, flip: bool = False) -> Any:
    """Return an (H, W, 3) uint8 image as a new one of `size` (height, width).

    Only the `box` of it, where one is given; with `flip` the result is mirrored left to right.
    """
    top, left, height, width = box = box or (0, 0, *pixels.shape[:2])
    if size == (height, width):
        part = pixels[top : top + height, left : left + width]
        return np.array(part[:, ::-1] if flip else part, order="C")
    if not HAS_KERNEL:
        return resize_by_pytorch(pixels, size, box=box, flip=flip)
    resized = np.empty((*size, 3), dtype=np.uint8)
    _bicubic.resize_into(np.ascontiguousarray(pixels), *box, flip, resized)
    return resized


def resize_by_pytorch(pixels: Any, size: tuple[int, int], *, box: Box, flip: bool = False) -> Any:
    """Return what `resize` does, by PyTorch."""
    top, left, height, width = box
    planes = torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    return np.array(resized[:, ::-1], order="C") if flip else resized
