"""Image decoding and image collections.

The image contract: from the decoder through caches and crops to the assembly of the batch, an image is an (H, W, C) array
(`ImageArray`): uint8 RGB, unless data.channels names another C, or data.bit_depth 16 bits. Only the assembled batch is
channels-first, (B, C, H, W).
"""

from typing import Any

import numpy.typing as npt

ImageArray = npt.NDArray[Any]
"""A contiguous (H, W, C) array, uint8 or uint16; all images of a run have the same C and depth. C = 3 is RGB.

It may be shared, with a cache for example: do not write to it.
"""
