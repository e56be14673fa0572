"""Image decoding: the bytes of an image file to an upright array, with a size limit and errors that name the image.

Files are untrusted: the size is read from the header and checked before any pixel is decoded.
"""

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.open_image import open_image
from common.data.images.orientation_alpha_depth import standardize
from common.data.images.storage_failures import out_of_memory
from common.data.images.stored_pixels import (
    Pages,
    StoredPixels,
    UnknownFormatError,
    UnsupportedImageError,
    Wanted,
    pillow,
)
from common.errors import UserError

DEFAULT_MAX_PIXELS = 89_000_000
"""Default size limit, in pixels: where Pillow starts to warn."""
PILLOW_MAX_MEGAPIXELS = 178
"""Millions of pixels above which Pillow opens no image."""
MAX_IMAGE_SIDE = 2**20
"""Largest height and width, in pixels: the limit of OpenCV; coordinates of crops stay exact in float32."""


@dataclass(frozen=True)
class ImageDecoder:
    """Decode images of at most `max_pixels` pixels. All image collections of a run share one decoder.

    `channels`, `bits` (8 or 16), `value_range` and `pages` are data.channels, bit_depth, value_range and pages.
    """

    max_pixels: int = DEFAULT_MAX_PIXELS
    channels: int = 3
    bits: int = 8
    value_range: tuple[float, float] | None = None
    pages: Pages = "first"

    @property
    def reads_arrays(self) -> bool:
        """Whether NumPy arrays are images: they are not where nothing says what their channels and values mean."""
        return (self.channels, self.bits, self.value_range) != (3, 8, None)

    def standardize(self, pixels: npt.NDArray[np.uint8]) -> ImageArray:
        """Return gray pixels (H, W), or RGB (H, W, 3), in the channels and depth of this decoder; raise UnsupportedImageError."""
        return standardize(StoredPixels(pixels), channels=self.channels, bits=self.bits, value_range=self.value_range)

    def decode(self, data: bytes, name: str) -> ImageArray:
        """Return the image in `data` as an (H, W, C) array, upright: RGB and gray opaque; the first frame of an animation.

        `name` is the file or table row that errors name. Raise
        UserError for data that is empty, truncated or not an image, and for an image that exceeds the size limit; ProcessError if
        memory runs out.
        """
        if not data:
            raise UserError(f"{name}: the image is empty (0 bytes). Restore or remove it.")
        try:
            image = open_image(data, Wanted(self.channels, self.pages, has_range=self.value_range is not None))
            problem = self.size_problem(image.height, image.width)
            if problem is not None:
                raise UserError(f"{name}: {problem}")
            return standardize(image.read(), channels=self.channels, bits=self.bits, value_range=self.value_range)
        except UserError:
            raise
        except UnknownFormatError as error:
            raise UserError(
                f"{name}: unknown image format ({len(data)} bytes that start with {data[:12]!r}). Restore or remove it."
            ) from error
        except UnsupportedImageError as error:
            raise UserError(f"{name}: {error}") from error
        except pillow().DecompressionBombError as error:
            raise UserError(
                f"{name}: the image exceeds the limit of Pillow ({error}). Downscale or remove it."
            ) from error
        except MemoryError as error:
            raise out_of_memory(name) from error
        except ImportError:
            raise  # of a library that decodes: the image is not at fault
        except Exception as error:  # damaged data raises OSError, SyntaxError, RuntimeError, struct.error, ...
            if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
                raise  # another module has the name of the library
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise UserError(
                f"{name}: the image is truncated or damaged ({reason[0]}). Restore or remove it."
            ) from error

    def size_problem(self, height: int, width: int) -> str | None:
        """Return the error message for an image that exceeds the size limit, else None."""
        if height * width > self.max_pixels:
            return (
                f"the image is too large: {width} x {height} = {height * width:,} pixels, data.max_megapixels ="
                f" {self.max_pixels / 1e6:g} allows {self.max_pixels:,}. Downscale or remove it."
            )
        if height > MAX_IMAGE_SIDE or width > MAX_IMAGE_SIDE:
            return (
                f"the image is too large: {width} x {height} pixels, but the longest side may be at most {MAX_IMAGE_SIDE}."
                " Downscale or remove it."
            )
        return None
