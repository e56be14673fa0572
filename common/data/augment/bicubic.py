"""Antialiased bicubic resizing, as in Pillow. A C++ kernel (`bicubic.cpp`) or PyTorch does it; both give the same pixels.

The kernel is built when the project is installed, if there is a C++ compiler. It needs AVX-512 with VBMI and VNNI (Ice Lake,
Zen 4 and later), and is three to four times as fast as PyTorch.
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
"""Region of an image in pixels: (top, left, height, width)."""


def resize(pixels: Any, size: tuple[int, int], *, box: Box | None = None, flip: bool = False) -> Any:
    """Return a copy of an (H, W, 3) uint8 image, resized to `size` (height, width).

    If `box` is given, only that region is resized. With `flip`, the result is flipped horizontally.
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
    """Return what `resize` returns, computed by PyTorch."""
    top, left, height, width = box
    planes = torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1)[None]
    resized = F.interpolate(planes, size=size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
    return np.array(resized[:, ::-1], order="C") if flip else resized
