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
from common.data.images.tiff_tags import Directory

_PIXEL_TAGS = frozenset(
    (256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 339, 347)
    + (*range(512, 522), 529, 530, 531, 532)
)
"""Tags that say how pixels are stored; all others are metadata."""
_WHITE_IS_ZERO, _GRAY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = 0, 1, 2, 3, 5, 6, 8
_COLORS = {_WHITE_IS_ZERO: 1, _GRAY: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3, _LAB: 3}
"""Samples per pixel by photometric interpretation, without extra samples."""
_NAMES = {4: "a transparency mask", 9: "ICC Lab", 10: "ITU Lab", 32803: "a color filter array", 34892: "linear raw"}
_OLD_JPEG, _JPEG = 6, 7
_COMPRESSIONS = frozenset((1, 2, 3, 4, 5, _OLD_JPEG, _JPEG, 8, 32773, 32946, 34925, 50000))
"""None, CCITT, LZW, JPEG, deflate, PackBits, LZMA and Zstandard."""
_UNSIGNED, _UNDEFINED = 1, 4
_KINDS = {2: "signed integers", 3: "floating-point numbers", 5: "complex integers", 6: "complex numbers"}
"""Names of sample formats."""
_ASSOCIATED, _UNASSOCIATED = 1, 2
_REMEDY = "Save it as a PNG or TIFF in gray or RGB with 8 or 16 bits per channel."
_RAW_REMEDY = "Develop it and save it as a JPEG, PNG or TIFF."


def open_tiff(data: bytes, wanted: Wanted) -> StoredImage:
    """Read the tags of the first page; raise UnsupportedImageError for pixels that would not come out right."""
    directory = tiff_tags.read_directory(data)
    if directory is None or not directory.entries:
        raise OSError("the directory of the first page is missing")
    width, height = directory.integer(256, 0), directory.integer(257, 0)
    if width <= 0 or height <= 0:
        raise OSError("the size is missing")
    if 0xC612 in directory.entries or (directory.integer(254, 0) & 1 and 330 in directory.entries):
        raise UnsupportedImageError(f"raw images of cameras (TIFF with a preview) are not supported. {_RAW_REMEDY}")
    _check_supported(directory)
    return StoredImage(height, width, lambda: _read(data, directory, height))


def _check_supported(directory: Directory) -> None:
    """Raise UnsupportedImageError for pixels of a kind that does not come out right."""
    photometric, bits, extra = _photometric(directory), _bits(directory), directory.integers(338)
    compression, is_gray = directory.integer(259, 1), photometric in (_WHITE_IS_ZERO, _GRAY, _PALETTE)
    depth = "/".join(map(str, sorted(set(bits))))
    kind = max(directory.integers(339), default=_UNSIGNED)
    problem = ""
    if kind not in (_UNSIGNED, _UNDEFINED) or max(bits) > 16:
        named = _KINDS.get(kind, "unsigned integers")
        problem = f"the pixels are {named} of {depth} bits, whose range is unknown"
    elif photometric not in _COLORS:
        named = _NAMES.get(photometric, f"of photometric interpretation {photometric}")
        problem = f"TIFF whose pixels are {named} is not supported"
    elif compression not in _COMPRESSIONS:
        problem = f"TIFF with compression {compression} is not supported"
    elif len(bits) < _COLORS[photometric]:
        raise OSError(f"{len(bits)} samples per pixel, of {_COLORS[photometric]}")
    elif is_gray and len(bits) > 2:
        problem = f"TIFF with {len(bits)} channels that are not RGB is not supported"
    elif len(set(bits)) > 1 or bits[0] not in _depths(photometric, num_samples=len(bits)):
        problem = f"TIFF with {depth} bits per channel, {len(bits)} channels, is not supported"
    elif (
        photometric in (_YCBCR, _LAB, _PALETTE)
        and directory.integer(284, 1) == 2
        and len(bits) > 1
        and not _is_jpeg(directory)
    ):
        problem = "TIFF in planes is only supported for gray, RGB and CMYK"
    elif photometric == _YCBCR and not _is_jpeg(directory) and set(directory.integers(530)) != {1}:
        problem = "TIFF in YCbCr with subsampling and without JPEG compression is not supported"
    elif photometric in (_YCBCR, _LAB) and extra:
        problem = "TIFF in YCbCr or Lab with extra channels is not supported"
    if problem:
        raise UnsupportedImageError(f"{problem}. {_REMEDY}")


def _depths(photometric: int, *, num_samples: int) -> set[int]:
    """Return the supported bits per sample."""
    depths = {8} if photometric in (_PALETTE, _YCBCR, _LAB) else {8, 16}
    few = photometric in (_WHITE_IS_ZERO, _GRAY, _PALETTE) and num_samples == 1
    return depths | {1, 2, 4} if few else depths


def _is_jpeg(directory: Directory) -> bool:
    return directory.integer(259, 1) in (_OLD_JPEG, _JPEG)


def _photometric(directory: Directory) -> int:
    """Return the photometric interpretation; old JPEG compression is always YCbCr."""
    return _YCBCR if directory.integer(259, 1) == _OLD_JPEG else directory.integer(262, _WHITE_IS_ZERO)


def _bits(directory: Directory) -> tuple[int, ...]:
    """Return the bits of every sample of a pixel."""
    old_jpeg = directory.integer(259, 1) == _OLD_JPEG
    samples = directory.integer(277, 3 if old_jpeg else 1)
    bits = directory.integers(258) or (8 if old_jpeg else 1,)
    if not 0 < samples <= 1024:
        raise OSError(f"{samples} samples per pixel")
    return (bits * samples if len(bits) == 1 else bits)[:samples]


def _read(data: bytes, directory: Directory, height: int) -> StoredPixels:
    """Decode the first page."""
    orientation = orientation_in(directory)
    photometric, bits = _photometric(directory), _bits(directory)
    has_extra = len(bits) > _COLORS[photometric]
    is_planar = directory.integer(284, 1) == 2 and len(bits) > 1
    as_samples = photometric in (_WHITE_IS_ZERO, _GRAY, _RGB, _CMYK) and (is_planar or not _is_jpeg(directory))
    if as_samples and (bits[0] == 16 or (bits[0] == 8 and (has_extra or is_planar))):
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
    if photometric == _PALETTE and color_map and max(color_map) < 256:  # 8-bit values, as libtiff assumes
        image.load()
        image.putpalette(bytes(np.reshape(color_map, (3, -1)).T.astype(np.uint8)))
    return StoredPixels(to_rgb(image), orientation)


def _to_stored(samples: npt.NDArray[Any], photometric: int, extra: tuple[int, ...], orientation: int) -> StoredPixels:
    """Return (H, W, S) samples as pixels; the first extra sample is alpha if its tag is that of alpha, or RGBA has no tag."""
    colors = samples[..., : _COLORS[photometric]]
    highest = np.iinfo(samples.dtype).max
    if photometric == _WHITE_IS_ZERO:
        colors = highest - colors
    if photometric == _CMYK:
        ink, black = (highest - colors[..., :3]).astype(np.uint32), (highest - colors[..., 3:]).astype(np.uint32)
        colors = ((ink * black + highest // 2) // highest).astype(samples.dtype)
    kind = extra[0] if extra else _UNASSOCIATED if photometric == _RGB and samples.shape[2] == 4 else 0
    if kind not in (_ASSOCIATED, _UNASSOCIATED):
        pixels = colors[..., 0] if colors.shape[2] == 1 else colors
        return StoredPixels(np.ascontiguousarray(pixels), orientation)
    colors = np.repeat(colors, 3, axis=2) if colors.shape[2] == 1 else colors
    alpha = samples[..., _COLORS[photometric]]
    return StoredPixels(
        np.dstack([colors, alpha]),
        orientation,
        premultiplied=kind == _ASSOCIATED,
        empty_alpha_is_unused=not extra,
    )
