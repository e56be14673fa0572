"""Owns decoding: the bytes of an image file to uint8 RGB, whatever it holds, and the words for one that is broken.

Whole JPEGs and plain PNGs go through OpenCV, which gives Pillow's pixels in half the time, or less, and lets other
threads run; everything else goes through Pillow. Neither is left alone with damage: OpenCV fills a truncated JPEG
with grey and says nothing, so that it only gets those that end as they should. (torchvision's PNG decoder ends the
process on damaged data, and its decoders are deprecated.) 16 bits are scaled to 8, where Pillow would clip or cut
them. Transparent images are composited on white, the commonest background they are shown on. Colour profiles are not
applied. Files are hostile until read: their size is taken from the header and bounded before a pixel is decoded, and
only formats of photographs are tried, for Pillow hands others (PostScript, WMF) to programs outside.
"""

import io
import struct
import warnings
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.errors import UserError

_JPEG, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_PNG_GREY, _PNG_RGB = 0, 2
_EXIF_ORIENTATION = 0x0112
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO", "TGA")
_FLIPS = ((1, 1), (1, -1), (-1, -1), (-1, 1))


MAX_PIXELS = 89_000_000
"""Pixels of the largest image that is decoded unless a recipe says otherwise: where Pillow begins to warn."""
MOST_MEGAPIXELS = 178
"""Millions of pixels beyond which Pillow opens no image at all."""
MAX_SIDE = 2**20
"""Pixels of the longest side that is decoded: OpenCV's own bound; places in a crop stay exact in float32."""


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Tensor:
    """Return the image in `data` as uint8 RGB (3, H, W), upright by its EXIF orientation; the first of several frames.

    Nothing is promised about its strides: most decoders leave the colours of a pixel together in memory. `name` is the
    file or row that an error names. Raise UserError for data that is empty, truncated or no image, and for an image of
    more than `max_pixels`, of which nothing but the header is read.
    """
    if not data:
        raise UserError(f"{name}: the image is empty (0 bytes). Restore or remove it.")
    try:
        _check_size(data, max_pixels)
        if data.startswith(_JPEG) and data.endswith(_JPEG_END):
            return _decode_plain(data)
        if data.startswith(_PNG):
            return _decode_png(data)
        return _decode_any(data)
    except UnknownFormat as error:
        kind = "is truncated or damaged" if data.startswith((_JPEG, _PNG)) else "is of no kind that Pillow reads"
        raise UserError(
            f"{name}: the image {kind} (its {len(data)} bytes begin with {data[:12]!r}). Restore or remove it."
        ) from error
    except UnsupportedPixels as error:
        raise UserError(f"{name}: {error} Save it with 8 or 16 bits per channel.") from error
    except TooLarge as error:
        raise UserError(f"{name}: {error} Scale it down or remove it.") from error
    except Exception as error:  # decoders raise OSError, SyntaxError, RuntimeError, struct.error, ... for damaged data
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise UserError(f"{name}: the image is truncated or damaged ({reason[0]}). Restore or remove it.") from error


class UnknownFormat(Exception):
    """The bytes are no image."""


class UnsupportedPixels(Exception):
    """The image's numbers have no known range."""


class TooLarge(Exception):
    """The image's header promises more pixels than are allowed."""


@cache
def _pillow() -> ModuleType:
    """Return Pillow's module, its warnings silenced: of sizes, which are bounded here, and of odd metadata."""
    from PIL import Image

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return Image


def _open(data: bytes) -> Any:
    """Return the image as Pillow opens it: its header read, nothing decoded."""
    pillow = _pillow()
    try:
        return pillow.open(io.BytesIO(data), formats=_FORMATS)
    except pillow.UnidentifiedImageError as error:
        raise UnknownFormat from error
    except pillow.DecompressionBombError as error:
        raise TooLarge(f"the image is beyond what Pillow opens ({error}).") from error


def _check_size(data: bytes, max_pixels: int) -> None:
    """Raise TooLarge for an image that is larger than allowed by its header."""
    with _open(data) as image:
        width, height = image.size
    if width * height > max_pixels:
        raise TooLarge(
            f"the image has {width} x {height} = {width * height / 1e6:.0f} million pixels, more than"
            f" data.max_megapixels = {max_pixels / 1e6:g} allows."
        )
    if max(width, height) > MAX_SIDE:
        raise TooLarge(f"the image has {width} x {height} pixels, and no side may be longer than {MAX_SIDE}.")


def _decode_plain(data: bytes) -> Tensor:
    """Decode a JPEG of any colour space, or an opaque 8-bit PNG, by OpenCV; what it refuses by Pillow."""
    import cv2

    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    return _decode_any(data) if pixels is None else _to_tensor(pixels)


def _decode_png(data: bytes) -> Tensor:
    """Decode a PNG; palettes, transparency, EXIF, interlacing and 1 to 4 bits take the long way."""
    import cv2

    if _PNG_END not in data:
        raise OSError("its last part is missing")
    bits, colour, interlaced = _png_header(data)
    if bits == 16:
        deep = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        return _decode_any(data) if deep is None else _reduce(_upright(_planes(deep), data))
    plain = bits == 8 and colour in (_PNG_GREY, _PNG_RGB) and not interlaced
    return _decode_plain(data) if plain and not (b"tRNS" in data or b"eXIf" in data) else _decode_any(data)


def _to_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Return (H, W, 3) as (3, H, W), a view: the colours of a pixel still lie together, as crops are cut from them fastest."""
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _planes(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint16]:
    """Return (H, W) or OpenCV's (H, W, blue green red [alpha]) as (1, 3 or 4, H, W) in the order of colours."""
    if pixels.ndim == 2:
        return pixels[None]
    return pixels.transpose(2, 0, 1)[[2, 1, 0, 3][: pixels.shape[2]]]


def _upright(planes: npt.NDArray[np.uint16], data: bytes) -> npt.NDArray[np.uint16]:
    """Turn (C, H, W) as the file's EXIF orientation (1 to 8) says."""
    with _open(data) as image:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation not in range(1, 9):
        return planes
    if orientation > 4:
        planes = planes.transpose(0, 2, 1)
    rows, columns = _FLIPS[(orientation - 1) % 4]
    return planes[:, ::rows, ::columns]


def _png_header(data: bytes) -> tuple[int, int, int]:
    """Return bits per channel, colour type and interlacing from a PNG's first chunk."""
    bits, colour, _, _, interlaced = struct.unpack_from("5B", data, 24)
    return bits, colour, interlaced


def _reduce(deep: npt.NDArray[np.uint16]) -> Tensor:
    """Return 16-bit (1 to 4, H, W) as uint8 RGB: scaled by 255 / 65535, its alpha channel composited on white."""
    channels = deep.shape[0]
    colours = deep[:1] if channels <= 2 else deep[:3]
    values = np.broadcast_to(colours, (3, *deep.shape[1:])).astype(np.int64)
    if channels in (2, 4):
        alpha = deep[-1].astype(np.int64)
        values = (values * alpha + 65535 * (65535 - alpha) + 32767) // 65535
    return torch.from_numpy(np.ascontiguousarray((values + 128) // 257, dtype=np.uint8))


def _decode_any(data: bytes) -> Tensor:
    """Decode whatever Pillow reads."""
    from PIL import Image, ImageOps

    with _open(data) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        return _reduce(_sixteen_bits(np.asarray(upright))[None])
    if upright.has_transparency_data:
        opaque = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
    return _to_tensor(np.array(upright.convert("RGB")))


def _sixteen_bits(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.uint16]:
    """Return grey pixels as 16 bits; raise UnsupportedPixels where their range is not that of 16 bits."""
    if pixels.dtype.kind == "f":
        raise UnsupportedPixels("the pixels are floating-point numbers, whose black and white are not known.")
    wide = pixels.astype(np.int64)
    if wide.size and (wide.min() < 0 or wide.max() > 65535):
        raise UnsupportedPixels(f"the pixels go from {wide.min()} to {wide.max()}, beyond 16 bits.")
    return wide.astype(np.uint16)
