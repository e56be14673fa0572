"""PNG: the header, and decoding by OpenCV or Pillow.

Gray and RGB of 8 and 16 bits are decoded by OpenCV, palettes, 8-bit alpha, interlacing and fewer bits by Pillow. Both get only the
chunks that hold pixels: a long text, a large color profile or a damaged checksum of another chunk refuses no image. The
transparent color of gray and RGB is applied to the stored values. (The PNG decoder of torchvision aborts the process on damaged
data, and its decoders are deprecated.)
"""

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.orientation_alpha_depth import read_orientation
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, open_with_pillow, to_rgb

PNG_START = b"\x89PNG\r\n\x1a\n"
_HEADER, _PALETTE, _TRANSPARENCY, _PIXELS, _END, _EXIF = b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf"
_APPLE = b"CgBI"
_GRAY, _RGB, _INDEXED = 0, 2, 3


class _Header(NamedTuple):
    height: int
    width: int
    bits: int
    color: int
    interlaced: bool
    transparency: bytes | None
    """Content of the tRNS chunk of gray and RGB; that of a palette stays in `plain`."""
    exif: bytes
    plain: bytes
    """The file without metadata."""


def open_png(data: bytes) -> StoredImage:
    """Read the header and the chunks of a PNG; of an animation, the default image counts."""
    header = _read_header(data)
    return StoredImage(header.height, header.width, lambda: _read_pixels(header))


def _read_header(data: bytes) -> _Header:
    """Walk the chunks; raise OSError if the file ends before the IEND chunk."""
    view, position = memoryview(data), len(PNG_START)
    kept: list[memoryview] = []
    start, exif, transparency, first = 0, b"", None, b""
    while position + 12 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + size
        if end > len(data):
            raise OSError(f"the chunk {kind!r} is truncated")
        if kind == _APPLE:
            raise UnsupportedImageError(
                "PNG in Apple's variant (CgBI) is not supported. Convert it with `sips -s format png`."
            )
        if not first and (kind != _HEADER or size != 13):
            raise OSError("the IHDR chunk is missing")
        first = first or data[position + 8 : end]
        is_color = kind == _TRANSPARENCY and first[9] in (_GRAY, _RGB)
        if is_color:
            transparency = data[position + 8 : end - 4]
        elif kind == _EXIF:
            exif = exif or data[position + 8 : end - 4]
        if is_color or kind not in (_HEADER, _PALETTE, _TRANSPARENCY, _PIXELS, _END):
            kept.append(view[start:position])
            start = end
        position = end
        if kind == _END:
            plain = b"".join((*kept, view[start:end])) if kept or end < len(data) else data
            width, height, bits, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", first)
            return _Header(height, width, bits, color, bool(interlaced), transparency, exif, plain)
    raise OSError("the IEND chunk is missing")


def _read_pixels(header: _Header) -> StoredPixels:
    """Decode the pixels."""
    pixels = None
    if header.bits == 16:
        pixels = _read_opencv_16_bit(header.plain)
    elif header.bits == 8 and header.color in (_GRAY, _RGB) and not header.interlaced:
        pixels = _read_opencv(header.plain)
    if pixels is None:
        image = open_with_pillow(header.plain, "PNG")
        if image.size != (header.width, header.height):
            raise OSError("the header is repeated with another size")
        pixels = to_rgb(image)
        if header.bits == 16 and pixels.dtype == np.uint8:  # Pillow truncates color of 16 bits
            raise OSError("OpenCV cannot decode it")
    return StoredPixels(pixels, read_orientation(header.exif), transparent_color=_transparent_color(header))


def _transparent_color(header: _Header) -> tuple[int, ...] | None:
    """Return the gray or RGB value of transparent pixels in the depth of the decoded ones; fewer than 8 bits decode to 8."""
    length = 2 if header.color == _GRAY else 6
    if header.transparency is None or len(header.transparency) < length:
        return None
    values = struct.unpack(f">{length // 2}H", header.transparency[:length])
    highest = 2**header.bits - 1
    scale = 1 if header.bits >= 8 else 255 // highest
    return tuple((value & highest) * scale for value in values)


def _read_opencv(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode 8-bit gray or RGB to RGB; None if OpenCV rejects the file."""
    import cv2

    return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def _read_opencv_16_bit(data: bytes) -> npt.NDArray[Any] | None:
    """Decode 16-bit gray, RGB or RGBA as stored; gray with alpha to RGBA; None if OpenCV rejects the file."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim == 2:
        return pixels
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB))
