"""JPEG 2000: decoded by Pillow, color of more than 8 bits by OpenCV: Pillow wraps its brightest values around to black."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, open_with_pillow, to_rgb

_CODESTREAM = b"\xff\x4f\xff\x51"
_SRGB = 16


def open_jpeg2000(data: bytes) -> StoredImage:
    """Read the header; raise UnsupportedImageError for deep pixels that would not come out right."""
    image = open_with_pillow(data, "JPEG2000")
    start = data.find(_CODESTREAM)
    if start < 0:
        raise OSError("no codestream")
    (num_channels,) = struct.unpack_from(">H", data, start + 40)
    kinds = {data[position] for position in range(start + 42, start + 42 + 3 * num_channels, 3)}
    bits = 1 + max(kind & 0x7F for kind in kinds)
    if num_channels == 1 or bits <= 8:
        return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image)))
    color = data.find(b"colr\x01", 0, start)
    color_space = struct.unpack_from(">I", data, color + 7)[0] if color >= 0 else _SRGB
    if num_channels not in (3, 4) or len(kinds) > 1 or bits > 16 or kinds.pop() & 0x80 or color_space != _SRGB:
        raise UnsupportedImageError(
            f"JPEG 2000 with {bits} bits per channel is only supported in gray and in RGB. Save it as a PNG with 8 or 16 bits per"
            " channel."
        )
    return StoredImage(image.height, image.width, lambda: StoredPixels(_read_opencv(data, bits)))


def _read_opencv(data: bytes, bits: int) -> npt.NDArray[Any]:
    """Decode RGB or RGBA of 9 to 16 bits, scaled to 16 bits."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3 or pixels.dtype != np.uint16:
        raise OSError("OpenCV cannot decode it")
    highest = 2**bits - 1
    scaled = pixels if bits == 16 else ((pixels.astype(np.uint32) * 65535 + highest // 2) // highest).astype(np.uint16)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB))
