"""Fields of a TIFF page that say what its pixels are: photometric interpretation, bits, compression, kind of numbers."""

from common.data.images.tiff_tags import Directory

WHITE_IS_ZERO, GRAY, RGB, PALETTE, CMYK, YCBCR, LAB = 0, 1, 2, 3, 5, 6, 8
"""Photometric interpretations."""
OLD_JPEG, JPEG = 6, 7
COMPRESSIONS = frozenset((1, 2, 3, 4, 5, OLD_JPEG, JPEG, 8, 32773, 32946, 34925, 50000))
"""None, CCITT, LZW, JPEG, deflate, PackBits, LZMA and Zstandard."""
UNSIGNED, SIGNED, FLOATING_POINT, UNDEFINED = 1, 2, 3, 4
"""Kinds of numbers (SampleFormat)."""


def kind_of(directory: Directory) -> int:
    """Return the kind of numbers: unsigned where the page does not define it."""
    kind = max(directory.integers(339), default=UNSIGNED)
    return UNSIGNED if kind == UNDEFINED else kind


def is_jpeg(directory: Directory) -> bool:
    """Return whether a page is compressed as JPEG."""
    return directory.integer(259, 1) in (OLD_JPEG, JPEG)


def photometric_of(directory: Directory) -> int:
    """Return the photometric interpretation; old JPEG compression is always YCbCr."""
    return YCBCR if directory.integer(259, 1) == OLD_JPEG else directory.integer(262, WHITE_IS_ZERO)


def bits_of(directory: Directory) -> tuple[int, ...]:
    """Return the bits of every sample of a pixel."""
    old_jpeg = directory.integer(259, 1) == OLD_JPEG
    samples = directory.integer(277, 3 if old_jpeg else 1)
    bits = directory.integers(258) or (8 if old_jpeg else 1,)
    if not 0 < samples <= 1024:
        raise OSError(f"{samples} samples per pixel")
    return (bits * samples if len(bits) == 1 else bits)[:samples]
