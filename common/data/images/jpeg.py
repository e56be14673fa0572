"""JPEG: the header, and decoding by OpenCV or Pillow to the same pixels.

OpenCV returns the same pixels as Pillow in at most half the time and releases the GIL. It fills a truncated JPEG with gray
without an error, so it only decodes files that end with the end marker. Both get the file without its metadata.
"""

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.orientation_alpha_depth import read_orientation
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, open_with_pillow

_END = b"\xff\xd9"
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LOSSLESS = frozenset((0xC3, 0xC7, 0xCB, 0xCF))
_JPEG_LS = 0xF7
_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
_EXIF_SEGMENT, _EXIF = 0xE1, b"Exif\0\0"
_METADATA = frozenset((*range(0xE1, 0xF0), 0xFE)) - {0xEE}
"""Segments that decoding does not need: all application data but JFIF's (0xE0) and Adobe's (0xEE), and comments."""


class _Header(NamedTuple):
    height: int
    width: int
    exif: bytes
    plain: bytes
    """The file without metadata."""


def open_jpeg(data: bytes) -> StoredImage:
    """Read the header of a JPEG of any color space."""
    header = _read_header(data)

    def read() -> StoredPixels:
        pixels = _read_opencv(header.plain) if header.plain.endswith(_END) else None
        if pixels is None:
            pixels = _read_pillow(header.plain)
        return StoredPixels(pixels, read_orientation(header.exif))

    return StoredImage(header.height, header.width, read)


def _read_header(data: bytes) -> _Header:
    """Walk the segments up to the first scan; raise OSError if the file ends before."""
    height = width = 0
    exif, kept, start, position = b"", list[memoryview](), 0, 2
    view, length = memoryview(data), len(data)
    while position + 4 <= length:
        if data[position] != 0xFF or data[position + 1] == 0xFF:
            position = data.find(b"\xff", position + 1)  # fill bytes, or bytes between segments
            if position < 0:
                break
            continue
        marker = data[position + 1]
        if marker == _START_OF_SCAN:
            if not height:
                raise OSError("no frame header before the first scan")
            plain = b"".join((*kept, view[start:])) if kept else data
            return _Header(height, width, exif, plain)
        if marker == _END_OF_IMAGE:
            break
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        end = position + 2 + (data[position + 2] << 8 | data[position + 3])
        if marker in _FRAMES or marker == _JPEG_LS:
            height, width = _read_frame(data, position, marker)
        elif marker in _METADATA:
            if marker == _EXIF_SEGMENT and not exif and data.startswith(_EXIF, position + 4):
                exif = data[position + 4 : end]
            kept.append(view[start:position])
            start = end
        position = end
    raise OSError("no scan")


def _read_frame(data: bytes, position: int, marker: int) -> tuple[int, int]:
    """Return height and width in a frame header; raise UnsupportedImageError for frames that libjpeg does not decode."""
    precision, height, width, components = struct.unpack_from(">BHHB", data, position + 4)
    remedy = "Save it as a JPEG with 8 bits per channel, or as a PNG."
    if marker == _JPEG_LS or marker in _LOSSLESS:
        raise UnsupportedImageError(f"lossless JPEG is not supported. {remedy}")
    if precision != 8:
        raise UnsupportedImageError(f"JPEG with {precision} bits per channel is not supported. {remedy}")
    if components not in (1, 3, 4):
        raise UnsupportedImageError(f"JPEG with {components} channels is not supported. {remedy}")
    if height == 0 or width == 0:
        raise OSError(f"the frame header declares {width} x {height} pixels")
    return height, width


def _read_opencv(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode to RGB; None if OpenCV rejects the file."""
    import cv2

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)


def _read_pillow(data: bytes) -> npt.NDArray[Any]:
    """Decode to gray or RGB."""
    image = open_with_pillow(data, "JPEG")
    image.load()
    pixels = np.array(image)
    return _cmyk_to_rgb(255 - pixels) if image.mode == "CMYK" else pixels


def _cmyk_to_rgb(inverted: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Convert (H, W, 4) inverted CMYK, as Adobe stores it, as OpenCV does: k - (255 - c) * k / 256, rounded down."""
    color, black = inverted[..., :3].astype(np.uint16), inverted[..., 3:].astype(np.uint16)
    return np.ascontiguousarray((black - ((255 - color) * black >> 8)).astype(np.uint8))
