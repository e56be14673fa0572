"""All samples of a TIFF as they are stored: every channel of a page, and of all pages if they are channels of one image."""

from collections.abc import Sequence

import numpy as np

from common.data.images import tiff_samples
from common.data.images.orientation_alpha_depth import count, orientation_in, wrong_channels
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, Wanted
from common.data.images.tiff_fields import (
    CMYK,
    COMPRESSIONS,
    GRAY,
    RGB,
    UNSIGNED,
    WHITE_IS_ZERO,
    bits_of,
    is_jpeg,
    kind_of,
    photometric_of,
)
from common.data.images.tiff_tags import Directory

_NOT_IMAGES = 1 | 4
"""Bits of the tag NewSubfileType: a smaller version of another page, a mask."""
_REMEDY = "Save it as a TIFF of 8 or 16 bits per channel, uncompressed or with deflate, or as a NumPy array (H, W, C)."


def open_pages(data: bytes, directories: Sequence[Directory], wanted: Wanted) -> StoredImage:
    """Read the tags of the wanted pages; raise UnsupportedImageError unless they have the wanted channels, of one size and kind."""
    pages = [directories[0], *(page for page in directories[1:] if not page.integer(254, 0) & _NOT_IMAGES)]
    num_pages = len(pages)
    pages = pages if wanted.pages == "channels" else pages[:1]
    shapes = {(page.integer(257, 0), page.integer(256, 0)) for page in pages}
    if len(shapes) > 1:
        sizes = ", ".join(f"{width} x {height}" for height, width in sorted(shapes))
        raise UnsupportedImageError(
            f"its {num_pages} pages have different sizes ({sizes}). Save them as images of their own."
        )
    found = sum(len(bits_of(page)) for page in pages)
    if found != wanted.channels:
        remedy = ""
        if len(pages) < num_pages:
            remedy = (
                f"It is the first of {num_pages} pages: set data.pages=channels if they are the channels of one image, or save them"
                " as images of their own."
            )
        elif num_pages > 1:
            remedy = f"They are those of its {count(num_pages, 'page')}: data.pages=first takes the first one alone."
        raise wrong_channels(found, wanted.channels, remedy=remedy)
    for page in pages:
        _check(page, has_range=wanted.has_range)
    if len({_kind(page) for page in pages}) > 1:
        raise UnsupportedImageError(f"its {num_pages} pages have different kinds of pixels. {_REMEDY}")
    ((height, width),) = shapes

    def read() -> StoredPixels:
        samples = [tiff_samples.read_samples(data, page, bits_of(page)[0], len(bits_of(page))) for page in pages]
        return StoredPixels(
            np.concatenate(samples, axis=2),
            orientation_in(pages[0]),
            is_raw=True,
            is_inverted=photometric_of(pages[0]) == WHITE_IS_ZERO,
        )

    return StoredImage(height, width, read)


def _kind(page: Directory) -> tuple[int, int, bool]:
    """Return what all pages of an image must have in common: the kind of numbers, their bits, and what is black."""
    return kind_of(page), bits_of(page)[0], photometric_of(page) == WHITE_IS_ZERO


def _check(page: Directory, *, has_range: bool) -> None:
    """Raise UnsupportedImageError for a page whose samples are not read as they are stored."""
    bits, photometric = bits_of(page), photometric_of(page)
    depth = "/".join(map(str, sorted(set(bits))))
    dtype = tiff_samples.dtype_of(page, bits[0])
    problem = ""
    if len(set(bits)) > 1 or dtype is None:
        problem = f"TIFF with channels of {depth} bits is not supported"
    elif (kind_of(page) != UNSIGNED or bits[0] > 16) and not has_range:
        problem = f"the channels are {np.dtype(dtype).name}, whose range is unknown: set data.value_range=[low, high]"
    elif is_jpeg(page) or page.integer(259, 1) not in COMPRESSIONS:
        problem = f"TIFF with compression {page.integer(259, 1)} is not supported where all channels are read"
    elif photometric not in (WHITE_IS_ZERO, GRAY, RGB, CMYK):
        problem = f"TIFF of photometric interpretation {photometric} is not supported where all channels are read"
    if problem:
        raise UnsupportedImageError(f"{problem}. {_REMEDY}")
