"""Samples of TIFF pages, in their depth: Pillow decodes them as gray values, from a file whose tags call them so.

Pillow decodes gray of 8 and 16 bits with every compression. A page of S interleaved samples is a gray page of S times the width;
in planes, it is S gray pages. Only a horizontal predictor and tiles need to know S: the predictor is undone here.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.data.images import tiff_tags
from common.data.images.stored_pixels import UnsupportedImageError, open_with_pillow, pillow
from common.data.images.tiff_fields import FLOATING_POINT, SIGNED, UNSIGNED, bits_of, kind_of
from common.data.images.tiff_tags import LONG, SHORT, Directory, packed

_HORIZONTAL = 2
_KEPT = (259, 266, 347)
"""Compression, order of bits, tables of JPEG compression."""
_DTYPES: dict[tuple[int, int], npt.DTypeLike] = {
    (UNSIGNED, 8): np.uint8,
    (UNSIGNED, 16): np.uint16,
    (UNSIGNED, 32): np.uint32,
    (SIGNED, 16): np.int16,
    (SIGNED, 32): np.int32,
    (FLOATING_POINT, 32): np.float32,
}


def dtype_of(directory: Directory, bits: int) -> npt.DTypeLike | None:
    """Return the type of the samples of a page, None for one that is not read."""
    return _DTYPES.get((kind_of(directory), bits))


def is_other(directory: Directory) -> bool:
    """Return whether the samples of a page are read, but are not unsigned integers of 8 or 16 bits."""
    dtype = dtype_of(directory, bits_of(directory)[0])
    return dtype is not None and dtype not in (np.uint8, np.uint16)


def read_samples(data: bytes, directory: Directory, bits: int, num_samples: int) -> npt.NDArray[Any]:
    """Return the samples of a page (H, W, S) in the type of `dtype_of`."""
    dtype = dtype_of(directory, bits)
    assert dtype is not None, "the page has been checked"
    predictor = directory.integer(317, 1)
    if predictor not in (1, _HORIZONTAL) or (predictor == _HORIZONTAL and bits == 32):
        raise UnsupportedImageError(f"TIFF with predictor {predictor} is not supported. Save it as a PNG.")
    if directory.integer(284, 1) == 2 and num_samples > 1:
        num_parts = len(directory.integers(_offsets_tag(directory))) // num_samples
        planes = [
            _read_part(data, directory, bits, 1, predictor, slice(plane * num_parts, (plane + 1) * num_parts))
            for plane in range(num_samples)
        ]
        samples = np.concatenate(planes, axis=2)
    else:
        samples = _read_part(data, directory, bits, num_samples, predictor, slice(None))
    if bits != 32:
        return samples.view(dtype)
    order: Literal["<", ">"] = "<" if directory.order == "<" else ">"
    return samples.view(np.dtype(dtype).newbyteorder(order)).astype(dtype)


def _offsets_tag(directory: Directory) -> int:
    return 324 if 322 in directory.entries else 273


def _read_part(
    data: bytes, directory: Directory, bits: int, num_samples: int, predictor: int, parts: slice
) -> npt.NDArray[Any]:
    """Return `num_samples` interleaved samples (H, W, S) of the strips or tiles `parts`; 32 bits as 4 bytes (H, W, 4 * S)."""
    if bits == 32:  # libtiff leaves the order of single bytes as it is
        bits, num_samples = 8, 4 * num_samples
    order, width, height = directory.order, directory.integer(256, 0), directory.integer(257, 0)
    offsets_tag = _offsets_tag(directory)
    tiled = offsets_tag == 324
    part_width = directory.integer(322, width) if tiled else width
    if part_width <= 0:
        raise OSError("the width of tiles is missing")
    num_columns = -(-width // part_width)
    entries = {tag: directory.entries[tag] for tag in _KEPT if tag in directory.entries}
    entries |= {
        256: packed(order, LONG, num_columns * part_width * num_samples),
        257: packed(order, LONG, height),
        258: packed(order, SHORT, bits),
        262: packed(order, SHORT, 1),
        277: packed(order, SHORT, 1),
    }
    for tag in (offsets_tag, offsets_tag + (1 if tiled else 6)):
        if tag in directory.entries:
            entries[tag] = packed(order, LONG, *directory.integers(tag)[parts])
    if tiled:
        entries[322] = packed(order, LONG, part_width * num_samples)
        entries[323] = packed(order, LONG, directory.integer(323, 0))
    else:
        entries[278] = packed(order, LONG, min(directory.integer(278, height), height))
    image = open_with_pillow(tiff_tags.with_entries(data, order, entries), "TIFF")
    image.im = pillow().core.new(
        image.mode, image.size
    )  # the size limit has been checked, and counts pixels, not samples
    image.load()
    values = np.array(image).reshape(height, num_columns, part_width, num_samples)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if predictor == _HORIZONTAL and bits == 32:
        raise UnsupportedImageError(
            "TIFF with predictor 2 of floating-point numbers is not supported. Save it without."
        )
    if predictor == _HORIZONTAL:
        values = np.cumsum(values, axis=2, dtype=values.dtype)
    return values.reshape(height, num_columns * part_width, num_samples)[:, :width]
