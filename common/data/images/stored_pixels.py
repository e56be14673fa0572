"""Pixels as an image file stores them, and Pillow as their decoder.

Pillow gets files without metadata, as far as it would parse them: it refuses whole images for a damaged EXIF block, for a long
text or for a large color profile.
"""

import io
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt


class UnknownFormatError(Exception):
    """The bytes are not an image."""


class UnsupportedImageError(Exception):
    """The image, or its kind of pixels, is not supported. The message says how to convert it."""


Pages = Literal["first", "channels"]
"""What several pages of an image are: the first one counts, or they are channels of one image."""


class Wanted(NamedTuple):
    """What is wanted of a file that may have several pages, or more channels than RGB and alpha."""

    channels: int = 3
    pages: Pages = "first"
    has_range: bool = False
    """Whether it is known which values are black and white (data.value_range)."""

    @property
    def is_raw(self) -> bool:
        """Whether all channels are wanted as they are stored."""
        return self.channels not in (1, 3) or self.pages == "channels"


class StoredPixels(NamedTuple):
    """Pixels as stored, (H, W) gray or (H, W, 3 or 4) RGB(A) of any depth, and what turns them into an image."""

    pixels: npt.NDArray[Any]
    orientation: int = 1
    """EXIF orientation, 1 to 8."""
    transparent_color: tuple[int, ...] | None = None
    """Gray or RGB value of the transparent pixels, in the depth of the pixels."""
    premultiplied: bool = False
    """Whether the colors have been multiplied by alpha."""
    empty_alpha_is_unused: bool = False
    """Whether an alpha of 0 everywhere means that the file has none: in formats whose fourth byte often is unused."""
    is_raw: bool = False
    """Whether the channels (H, W, S) are any number of any meaning, not RGB and alpha."""
    is_inverted: bool = False
    """Whether the highest value is black."""
    value_range: tuple[float, float] | None = None
    """Values that are black and white, if the file states them; none: the full range of 8 or 16 bits."""


class StoredImage(NamedTuple):
    """An image whose header has been read, and no pixels."""

    height: int
    width: int
    read: Callable[[], StoredPixels]


@cache
def pillow() -> ModuleType:
    """Return Pillow's module without its warnings: about sizes, which are limited here, and about odd metadata."""
    from PIL import Image

    Image.preinit()
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return Image


def open_with_pillow(data: bytes, kind: str) -> Any:
    """Open the file as Pillow's format `kind`: its header is read, no pixels are decoded.

    `Image.open` would hide the reason of a failure, and compare the size with a limit of its own.
    """
    library = pillow()
    if kind not in library.OPEN:
        library.init()
    opener, _ = library.OPEN[kind]
    return opener(io.BytesIO(data), "")


def to_rgb(image: Any) -> npt.NDArray[Any]:
    """Decode an image opened with Pillow: uint8 RGB, RGBA where pixels may be transparent, integers or floats as stored."""
    image.load()
    if not image.mode.startswith(("I", "F")):
        mode = "RGBA" if image.has_transparency_data else "RGB"
        image = image if image.mode == mode else image.convert(mode)
    return np.array(image)
