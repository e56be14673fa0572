"""TIFF: the first page, decoded by Pillow from a file that has only the tags that say how its pixels are stored.

Pillow gets many kinds of pixels silently wrong: planar ones of 16 bits, white-is-zero of 16 bits, signed integers, 12 bits, color
maps of 8 bits. So only kinds that are known to come out right are decoded, others are named; and samples that Pillow decodes only
in part are read as gray values first: of 16 bits, in planes, or with extra samples.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images import tiff_samples, tiff_tags
from common.data.images.orientation_alpha_depth import orientation_in
from common.data.images.stored_pixels import (
    StoredImage,
    StoredPixels,
    UnsupportedImageError,
    Wanted,
    open_with_pillow,
    to_rgb,
)
from common.data.images.tiff_fields import (
    CMYK,
    COMPRESSIONS,
    GRAY,
    LAB,
    PALETTE,
    RGB,
    UNSIGNED,
    WHITE_IS_ZERO,
    YCBCR,
    bits_of,
    is_jpeg,
    kind_of,
    photometric_of,
)
from common.data.images.tiff_pages import open_pages
from common.data.images.tiff_tags import Directory

_PIXEL_TAGS = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347)
    + (*range(512, 522), 529, 530, 531, 532)
)
"""Tags that say how pixels are stored; all others are metadata."""
_COLORS = {WHITE_IS_ZERO: 1, GRAY: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, LAB: 3}
"""Samples per pixel by photometric interpretation, without extra samples."""
_NAMES = {4: "a transparency mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "a color filter array", 34892: "linear raw"}
_KINDS = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
"""Names of sample formats."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REMEDY = "Save it as a PNG or TIFF in gray or RGB with 8 or 16 bits per channel."
_RAW_REMEDY = "Develop it and save it as a JPEG, PNG or TIFF."


def open_tiff(data: bytes, wanted: Wanted) -> StoredImage:
    """Read the tags of the first page, or of all; raise UnsupportedImageError for pixels that would not come out right."""
    directories = tiff_tags.read_directories(data)
    directory = directories[0] if directories else None
    if directory is None or not directory.entries:
        raise OSError("the directory of the first page is missing")
    width, height = directory.integer(256, 0), directory.integer(257, 0)
    if width <= 0 or height <= 0:
        raise OSError("the size is missing")
    if 0xC612 in directory.entries or (directory.integer(254, 0) & 1 and 330 in directory.entries):
        raise UnsupportedImageError(f"raw images of cameras (TIFF with a preview) are not supported. {_RAW_REMEDY}")
    if wanted.is_raw and (wanted.channels not in (1, 3) or len(directories) > 1):
        return open_pages(data, directories, wanted)
    _check_supported(directory, has_range=wanted.has_range)
    return StoredImage(height, width, lambda: _read(data, directory, height))


def _check_supported(directory: Directory, *, has_range: bool) -> None:
    """Raise UnsupportedImageError for pixels of a kind that does not come out right; with a range, more kinds of numbers do."""
    photometric, bits, extra = photometric_of(directory), bits_of(directory), directory.integers(338)
    compression, is_gray = directory.integer(259, 1), photometric in (WHITE_IS_ZERO, GRAY, PALETTE)
    depth = "/".join(map(str, sorted(set(bits))))
    kind = kind_of(directory)
    problem, remedy = "", _REMEDY
    is_read = tiff_samples.is_other(directory) and photometric in (WHITE_IS_ZERO, GRAY, RGB) and not is_jpeg(directory)
    if (kind != UNSIGNED or max(bits) > 16) and not (has_range and is_read):
        named = _KINDS.get(kind, "unsigned integers")
        problem = f"the pixels are {named} of {depth} bits, whose range is unknown"
        if is_read:
            remedy = f"{_REMEDY.removesuffix('.')}, or set data.value_range=[low, high]."
    elif photometric not in _COLORS:
        named = _NAMES.get(photometric, f"of photometric interpretation {photometric}")
        problem = f"TIFF whose pixels are {named} is not supported"
    elif compression not in COMPRESSIONS:
        problem = f"TIFF with compression {compression} is not supported"
    elif len(bits) < _COLORS[photometric]:
        raise OSError(f"{len(bits)} samples per pixel, of {_COLORS[photometric]}")
    elif is_gray and len(bits) > 2:
        problem = f"TIFF with {len(bits)} channels that are not RGB is not supported"
        remedy = f"{_REMEDY.removesuffix('.')}, or set data.channels={len(bits)} to take them all."
    elif len(set(bits)) > 1 or (not is_read and bits[0] not in _depths(photometric, num_samples=len(bits))):
        problem = f"TIFF with {depth} bits per channel, {len(bits)} channels, is not supported"
    elif (
        photometric in (YCBCR, LAB, PALETTE)
        and directory.integer(284, 1) == 2
        and len(bits) > 1
        and not is_jpeg(directory)
    ):
        problem = "TIFF in planes is only supported for gray, RGB and CMYK"
    elif photometric == YCBCR and not is_jpeg(directory) and set(directory.integers(530)) != {1}:
        problem = "TIFF in YCbCr with subsampling and without JPEG compression is not supported"
    elif photometric in (YCBCR, LAB) and extra:
        problem = "TIFF in YCbCr or Lab with extra channels is not supported"
    if problem:
        raise UnsupportedImageError(f"{problem}. {remedy}")


def _depths(photometric: int, *, num_samples: int) -> set[int]:
    """Return the supported bits per sample."""
    depths = {8} if photometric in (PALETTE, YCBCR, LAB) else {8, 16}
    few = photometric in (WHITE_IS_ZERO, GRAY, PALETTE) and num_samples == 1
    return depths | {1, 2, 4} if few else depths


def _read(data: bytes, directory: Directory, height: int) -> StoredPixels:
    """Decode the first page."""
    orientation = orientation_in(directory)
    photometric, bits = photometric_of(directory), bits_of(directory)
    has_extra = len(bits) > _COLORS[photometric]
    is_planar = directory.integer(284, 1) == 2 and len(bits) > 1
    as_samples = photometric in (WHITE_IS_ZERO, GRAY, RGB, CMYK) and (is_planar or not is_jpeg(directory))
    is_other = tiff_samples.is_other(directory)
    if as_samples and (bits[0] == 16 or is_other or (bits[0] == 8 and (has_extra or is_planar))):
        samples = tiff_samples.read_samples(data, directory, bits[0], len(bits))
        return _to_stored(samples, photometric, directory.integers(338), orientation)
    entries = {tag: entry for tag, entry in directory.entries.items() if tag in _PIXEL_TAGS}
    try:
        image = open_with_pillow(tiff_tags.with_entries(data, directory.order, entries), "TIFF")
    except SyntaxError as error:
        raise UnsupportedImageError(
            f"TIFF with its arrangement of channels is not supported ({error}). {_REMEDY}"
        ) from error
    color_map = directory.integers(320)
    if photometric == PALETTE and color_map and max(color_map) < 256:  # 8-bit values, as libtiff assumes
        image.load()
        image.putpalette(bytes(np.reshape(color_map, (3, -1)).T.astype(np.uint8)))
    return StoredPixels(to_rgb(image), orientation)


def _to_stored(samples: npt.NDArray[Any], photometric: int, extra: tuple[int, ...], orientation: int) -> StoredPixels:
    """Return (H, W, S) samples as pixels; the first extra sample is alpha if its tag is that of alpha, or RGBA has no tag."""
    colors = samples[..., : _COLORS[photometric]]
    if photometric == CMYK:
        highest = np.iinfo(samples.dtype).max
        ink, black = (highest - colors[..., :3]).astype(np.uint32), (highest - colors[..., 3:]).astype(np.uint32)
        colors = ((ink * black + highest // 2) // highest).astype(samples.dtype)
    kind = extra[0] if extra else _UNASSOCIATED if photometric == RGB and samples.shape[2] == 4 else 0
    if kind not in (_ASSOCIATED, _UNASSOCIATED):
        pixels = colors[..., 0] if colors.shape[2] == 1 else colors
        return StoredPixels(np.ascontiguousarray(pixels), orientation, is_inverted=photometric == WHITE_IS_ZERO)
    colors = np.repeat(colors, 3, axis=2) if colors.shape[2] == 1 else colors
    alpha = samples[..., _COLORS[photometric]]
    return StoredPixels(
        np.dstack([colors, alpha]),
        orientation,
        premultiplied=kind == _ASSOCIATED,
        empty_alpha_is_unused=not extra,
        is_inverted=photometric == WHITE_IS_ZERO,
    )
