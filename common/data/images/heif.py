"""AVIF, decoded by Pillow, and HEIC, decoded by the package `pillow-heif` where it is installed.

Their container turns the image; the orientation in EXIF is ignored, as the standard demands.
"""

import importlib
from typing import Any

import numpy as np

from common.data.images.orientation_alpha_depth import read_orientation
from common.data.images.stored_pixels import (
    StoredImage,
    StoredPixels,
    UnsupportedImageError,
    open_with_pillow,
    pillow,
    to_rgb,
)

_BOX_HEADER = 8


def open_avif(data: bytes) -> StoredImage:
    """Read the header of an AVIF; raise UnsupportedImageError if Pillow was built without AVIF."""
    from PIL import features

    pillow().init()
    if not features.check("avif"):
        raise UnsupportedImageError(
            "AVIF needs Pillow 11.3 or newer. Run `pip install -U pillow`, or convert it to PNG."
        )
    image = open_with_pillow(_without_exif(data), "AVIF")
    exif: bytes = image.info.get("exif", b"")  # Pillow's own, of the container's orientation
    return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image), read_orientation(exif)))


def _without_exif(data: bytes) -> bytes:
    """Return the file with its EXIF items renamed, of the same length: Pillow refuses an image whose EXIF is damaged."""
    position = 0
    while position + _BOX_HEADER <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"meta":
            end = position + size
            return data[:position] + data[position:end].replace(b"Exif", b"skip") + data[end:]
        if size < _BOX_HEADER:
            break
        position += size
    return data


def open_heic(data: bytes) -> StoredImage:
    """Read the header of the primary image of a HEIC; raise UnsupportedImageError without the package `pillow-heif`."""
    try:
        pillow_heif: Any = importlib.import_module("pillow_heif")
    except ImportError as error:
        raise UnsupportedImageError(
            "HEIC needs the package pillow-heif. Run `pip install pillow-heif`, or convert the image to JPEG or PNG."
        ) from error
    image: Any = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
    width, height = image.size

    def read() -> StoredPixels:
        if image.mode.startswith(("LA", "La")):
            raise UnsupportedImageError(f"HEIC with pixels of mode {image.mode} is not supported. Convert it to PNG.")
        return StoredPixels(np.ascontiguousarray(np.asarray(image)), premultiplied=bool(image.premultiplied_alpha))

    return StoredImage(height, width, read)
