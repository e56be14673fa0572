"""Antialiased bicubic resizing, as in Pillow. A C++ kernel (`bicubic_kernel/`) or PyTorch does it; both give the same pixels.

Images that are not RGB of 8 bits are resized by PyTorch in floating-point numbers, with the same geometry.

The kernel is built when the project is installed, if there is a C++ compiler. It has variants for AVX2, AVX-512, and AVX-512 with
VBMI and VNNI; the processor decides which one is used. Before its first use in a process, a variant is compared with PyTorch.
"""

import logging
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

try:
    from common.data.augment import _bicubic_kernel
except ImportError:  # installed without a compiler
    VARIANTS: tuple[str, ...] = ()
else:
    VARIANTS = _bicubic_kernel.variants()
"""Variants of the kernel that the processor supports, the fastest first."""

LEVEL = 257
"""Values of 16 bits for one of 8 bits: 65535 / 255."""

Box = tuple[int, int, int, int]
"""Region of an image in pixels: (top, left, height, width)."""

logger = logging.getLogger(__name__)


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
    variant = chosen_variant()
    if variant is None:
        return resize_by_pytorch(pixels, size, box=box, flip=flip)
    return resize_by_kernel(pixels, size, box=box, flip=flip, variant=variant)


@cache
def chosen_variant() -> str | None:
    """Return the variant of the kernel that this process uses, None for PyTorch.

    It is the fastest one that the processor supports, within PyTorch's own limit (`ATEN_CPU_CAPABILITY`), and that gives PyTorch's
    pixels on a small image. A variant that does not is left out with a warning.
    """
    for variant in VARIANTS:
        if not _is_allowed(variant):
            continue
        if _equals_pytorch(variant):
            return variant
        logger.warning(
            "resizing: the kernel's variant %s does not give PyTorch's pixels on this machine and is not used; please report the"
            " processor and the compiler",
            variant,
        )
    return None


def description() -> str:
    """Return what resizes RGB images of 8 bits in this process, for `environment.json`."""
    variant = chosen_variant()
    return "PyTorch" if variant is None else f"own kernel, {variant}"


def _is_allowed(variant: str) -> bool:
    """Return whether PyTorch uses the variant's instruction set, too."""
    capability = torch.backends.cpu.get_cpu_capability()
    return capability.startswith("AVX512") or capability == variant == "AVX2"


def _equals_pytorch(variant: str) -> bool:
    """Return whether a variant gives PyTorch's pixels where it makes a random image smaller and larger."""
    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    boxes: list[tuple[tuple[int, int], Box]] = [((24, 37), (2, 1, 59, 82)), ((35, 41), (30, 62, 31, 21))]
    return all(
        np.array_equal(
            resize_by_kernel(image, size, box=box, flip=flip, variant=variant),
            resize_by_pytorch(image, size, box=box, flip=flip),
        )
        for size, box in boxes
        for flip in (False, True)
    )


def resize_by_kernel(pixels: Any, size: tuple[int, int], *, box: Box, flip: bool = False, variant: str) -> Any:
    """Return what `resize` returns for an RGB image of 8 bits, computed by a variant of the kernel."""
    resized = np.empty((*size, 3), dtype=np.uint8)
    _bicubic_kernel.resize_into(variant, np.ascontiguousarray(pixels), *box, flip, resized)
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
