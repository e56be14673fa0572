"""NumPy arrays (.npy) as images: (H, W) or (H, W, C), whose channels are taken as they are."""

import io
from typing import Any

import numpy as np

from common.data.images.orientation_alpha_depth import wrong_channels
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, Wanted

_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def open_array(data: bytes, wanted: Wanted) -> StoredImage:
    """Read the header of an array; raise UnsupportedImageError for another shape or type, without unpickling anything."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise UnsupportedImageError(
            f"NumPy arrays of version {version} are not supported. Save it again with numpy.save."
        )
    shape, _, dtype = _HEADERS[version](stream)
    if dtype.kind not in "uif":
        raise UnsupportedImageError(
            f"the array holds {dtype}, not numbers of an image. Save it as uint8, uint16 or float32."
        )
    if dtype not in (np.uint8, np.uint16) and not wanted.has_range:
        raise UnsupportedImageError(
            f"the array holds {dtype}, whose range is unknown. Save it as uint8 or uint16, or set data.value_range=[low, high]."
        )
    if len(shape) not in (2, 3) or 0 in shape:
        raise UnsupportedImageError(f"the array has the shape {shape}. Save it as (H, W) or (H, W, C).")
    found = shape[2] if len(shape) == 3 else 1
    if (found, wanted.channels) != (1, 3) and found != wanted.channels:
        is_first = len(shape) == 3 and shape[0] == wanted.channels
        raise wrong_channels(
            found, wanted.channels, remedy=f"Its shape is {shape}: save it as (H, W, C)." if is_first else ""
        )

    def read() -> StoredPixels:
        return StoredPixels(np.load(io.BytesIO(data), allow_pickle=False), is_raw=True)

    return StoredImage(shape[0], shape[1], read)
