"""Reading of encoded images with OpenCV and Pillow, as stored: without orientation (except TIFF), compositing and scaling.

Complete JPEGs and simple PNGs are decoded by OpenCV, which returns the same pixels as Pillow in at most half the time and
releases the GIL; everything else is decoded by Pillow. OpenCV fills a truncated JPEG with gray without an error, so it is only
used for JPEGs with an end marker. (The PNG decoder of torchvision aborts the process on damaged data, and its decoders are
deprecated.) Only formats of photographs are tried: Pillow passes others (PostScript, WMF) to external programs.
"""

import io
import struct
import warnings
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.orientation_alpha_depth import read_orientation

JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND"
_PNG_GRAY, _PNG_RGB = 0, 2
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")


class UnknownFormatError(Exception):
    """The bytes are not an image."""


class PillowLimitError(Exception):
    """The header declares more pixels than Pillow opens."""


class StoredPixels(NamedTuple):
    """Pixels as stored, (H, W) gray or (H, W, 3 or 4) RGB(A) of any depth, and their EXIF orientation, 1 to 8."""

    pixels: npt.NDArray[Any]
    orientation: int


@cache
def pillow() -> ModuleType:
    """Return Pillow's module without its warnings: about sizes, which are limited here, and about odd metadata."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return Image


def open_header(data: bytes) -> Any:
    """Open an image with Pillow: its header is read, no pixels are decoded."""
    library = pillow()
    try:
        return library.open(io.BytesIO(data), formats=_FORMATS)
    except library.UnidentifiedImageError as error:
        raise UnknownFormatError from error
    except library.DecompressionBombError as error:
        raise PillowLimitError(str(error)) from error


def read_pixels(data: bytes, image: Any) -> StoredPixels:
    """Decode `data`, of which `image` is the opened header; the first frame of an animation."""
    if data.startswith(JPEG_START) and data.endswith(_JPEG_END):
        pixels = _read_opencv(data)
        if pixels is not None:
            return StoredPixels(pixels, read_orientation(image))
    if data.startswith(PNG_START):
        return _read_png(data, image)
    return _read_pillow(image)


def _read_png(data: bytes, image: Any) -> StoredPixels:
    """Decode a PNG: opaque 8-bit and all 16-bit ones by OpenCV, with palette, transparency, EXIF or interlacing by Pillow."""
    import cv2

    if _PNG_END not in data:
        raise OSError("the IEND chunk is missing")
    bits, color, _, _, interlaced = struct.unpack_from("5B", data, 24)
    pixels = None
    if bits == 16:
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.ndim == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    elif bits == 8 and color in (_PNG_GRAY, _PNG_RGB) and not (interlaced or b"tRNS" in data or b"eXIf" in data):
        pixels = _read_opencv(data)
    if pixels is None:
        return _read_pillow(image)
    if bits == 8:
        return StoredPixels(pixels, 1)
    if "exif" not in image.info:
        image.load()  # the EXIF chunk may follow the pixels
    return StoredPixels(pixels, read_orientation(image))


def _read_opencv(data: bytes) -> npt.NDArray[np.uint8] | None:
    """Decode a JPEG of any color space, or an 8-bit PNG, to RGB; None if OpenCV rejects it."""
    import cv2

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)


def _read_pillow(image: Any) -> StoredPixels:
    """Decode any format that Pillow reads."""
    image.load()  # applies and removes the orientation of TIFF files
    orientation = read_orientation(image)
    if not image.mode.startswith(("I", "F")):
        mode = "RGBA" if image.has_transparency_data else "RGB"
        image = image if image.mode == mode else image.convert(mode)
    return StoredPixels(np.array(image), orientation)
