"""Antialiased bicubic resizing, as in Pillow. A C++ kernel (`bicubic.cpp`) or PyTorch does it; both give the same pixels.

Images that are not RGB of 8 bits are resized by PyTorch in floating-point numbers, with the same geometry.

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

LEVEL = 257
"""Values of 16 bits for one of 8 bits: 65535 / 255."""

Box = tuple[int, int, int, int]
"""Region of an image in pixels: (top, left, height, width)."""


def resize(pixels: Any, size: tuple[int, int], *, box: Box | None = None, flip: bool = False) -> Any:
    """Return a copy of an (H, W, C) uint8 or uint16 image, resized to `size` (height, width).

    If `box` is given, only that region is resized. With `flip`, the result is flipped horizontally. That of uint8 is uint8, that
    of uint16 float32 in 0..255 (`LEVEL`), not rounded; so is that of such a float32 image.
    """
    top, left, height, width = box = box or (0, 0, *pixels.shape[:2])
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return _resize_other(pixels, size, box, flip=flip)
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


def _resize_other(pixels: Any, size: tuple[int, int], box: Box, *, flip: bool) -> Any:
    """Return what `resize` returns, for any number of channels and either depth."""
    top, left, height, width = box
    part = pixels[top : top + height, left : left + width]
    scaled = part / np.float32(LEVEL) if part.dtype == np.uint16 else part.astype(np.float32)
    if size != (height, width):
        planes = torch.from_numpy(scaled).permute(2, 0, 1)[None]
        resized = F.interpolate(planes, size=size, mode="bicubic", antialias=True)[0].permute(1, 2, 0).numpy()
        scaled = resized.clip(0, 255)  # bicubic overshoots at edges
    if pixels.dtype == np.uint8:
        scaled = np.rint(scaled).astype(np.uint8)
    return np.array(scaled[:, ::-1] if flip else scaled, order="C")
