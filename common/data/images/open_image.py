"""Opening of encoded images of any format: the bytes decide it."""

from collections.abc import Callable, Mapping

from common.data.images.arrays import open_array
from common.data.images.bitmaps import open_bmp, open_ico, open_tga
from common.data.images.dicom import open_dicom
from common.data.images.formats import Format, describe_other, find_format
from common.data.images.heif import open_avif, open_heic
from common.data.images.jpeg import open_jpeg
from common.data.images.jpeg2000 import open_jpeg2000
from common.data.images.orientation_alpha_depth import read_orientation
from common.data.images.png import open_png
from common.data.images.stored_pixels import (
    StoredImage,
    StoredPixels,
    UnknownFormatError,
    UnsupportedImageError,
    Wanted,
    open_with_pillow,
    to_rgb,
)
from common.data.images.tiff import open_tiff

WANTED = Wanted()


def open_image(data: bytes, wanted: Wanted = WANTED) -> StoredImage:
    """Read the header of an image, without its pixels; the first frame counts, where no pages are `wanted` as channels.

    Raise UnknownFormatError for other bytes, UnsupportedImageError for a known format that is not read, and other errors for
    damage.
    """
    kind = find_format(data)
    if kind is not None and kind in _OPENERS_OF_CHANNELS:
        return _OPENERS_OF_CHANNELS[kind](data, wanted)
    if kind is not None:
        return _OPENERS[kind](data)
    other = describe_other(data)
    if other is None:
        raise UnknownFormatError
    name, remedy = other
    raise UnsupportedImageError(f"the file is {name}, which is not supported. {remedy}")


def _open_webp(data: bytes) -> StoredImage:
    image = open_with_pillow(data, "WEBP")
    orientation = read_orientation(image.info.pop("exif", b""))
    return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image), orientation))


def _open_gif(data: bytes) -> StoredImage:
    image = open_with_pillow(data, "GIF")
    return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image)))


def _open_ppm(data: bytes) -> StoredImage:
    """Open PBM, PGM or PPM; Pillow scales gray of more than 8 bits to 16 bits."""
    if data[1:2] in b"fF":
        raise UnsupportedImageError(
            "the pixels are floating-point numbers (PFM), whose range is unknown. Save it with 8 or 16 bits per channel."
        )
    image = open_with_pillow(data, "PPM")
    return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image)))


_OPENERS: Mapping[Format, Callable[[bytes], StoredImage]] = {
    Format.JPEG: open_jpeg,
    Format.PNG: open_png,
    Format.WEBP: _open_webp,
    Format.BMP: open_bmp,
    Format.GIF: _open_gif,
    Format.PPM: _open_ppm,
    Format.JPEG2000: open_jpeg2000,
    Format.AVIF: open_avif,
    Format.HEIC: open_heic,
    Format.ICO: open_ico,
    Format.TGA: open_tga,
}
_OPENERS_OF_CHANNELS: Mapping[Format, Callable[[bytes, Wanted], StoredImage]] = {
    Format.TIFF: open_tiff,
    Format.NPY: open_array,
    Format.DICOM: open_dicom,
}
"""Formats whose files may have any number of channels, or several pages."""
