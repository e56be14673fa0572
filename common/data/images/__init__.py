"""Image decoding and image collections.

The image contract: from the decoder through caches and crops to the assembly of the batch, an image is a contiguous
(H, W, 3) uint8 array of RGB values (`RGBImage`). Only the assembled batch is channels-first, (B, 3, H, W).
"""

import numpy as np
import numpy.typing as npt

RGBImage = npt.NDArray[np.uint8]
"""A contiguous (H, W, 3) array of RGB values. It may be shared, with a cache for example: do not write to it."""
