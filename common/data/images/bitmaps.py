"""Bitmaps with a fourth byte that may be unused: BMP, TGA and ICO. An alpha of 0 everywhere is none, as viewers show them."""

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.png import PNG_START, open_png
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, open_with_pillow, to_rgb

_TGA_FOOTER = b"TRUEVISION-XFILE."
_TGA_WITHOUT_ALPHA, _TGA_PREMULTIPLIED = (0, 1, 2), 4


def open_bmp(data: bytes) -> StoredImage:
    """Read the header of a BMP."""
    try:
        image = open_with_pillow(data, "BMP")
    except OSError as error:
        if "Unsupported" not in str(error):
            raise
        raise UnsupportedImageError(f"this kind of BMP is not supported ({error}). Save it as a PNG.") from error
    return StoredImage(image.height, image.width, lambda: StoredPixels(to_rgb(image), empty_alpha_is_unused=True))


def open_tga(data: bytes) -> StoredImage:
    """Read the header of a TGA; its footer, if it has one, says what the alpha means."""
    image = open_with_pillow(data, "TGA")
    kind = _tga_alpha(data)

    def read() -> StoredPixels:
        pixels = to_rgb(image)
        if kind in _TGA_WITHOUT_ALPHA:
            pixels = np.ascontiguousarray(pixels[..., :3])
        return StoredPixels(pixels, premultiplied=kind == _TGA_PREMULTIPLIED, empty_alpha_is_unused=True)

    return StoredImage(image.height, image.width, read)


def _tga_alpha(data: bytes) -> int | None:
    """Return the type of the alpha in the extension area, None without one (TGA 2.0, field 24)."""
    if data[-18:-1] != _TGA_FOOTER:
        return None
    extension = struct.unpack_from("<I", data, len(data) - 26)[0]
    return data[extension + 494] if 0 < extension < len(data) - 494 else None


class _Icon(NamedTuple):
    """A bitmap within an icon: a BMP file of its colors, and the bytes that the colors and the mask begin at."""

    height: int
    width: int
    bits: int
    bmp: bytes
    colors: bytes
    mask: bytes


def open_ico(data: bytes) -> StoredImage:
    """Read the header of the largest image of an icon, of equal ones that with most bits: a PNG or a bitmap with a mask."""
    count = struct.unpack_from("<H", data, 4)[0]
    entries = list(struct.iter_unpack("<BBBBHHII", data[6 : 6 + 16 * min(count, (len(data) - 6) // 16)]))
    if not entries:
        raise OSError("the icon has no images")
    *_, size, offset = max(entries, key=lambda entry: ((entry[0] or 256) * (entry[1] or 256), entry[5]))
    if data.startswith(PNG_START, offset):
        return open_png(data[offset:])
    icon = _read_icon(data[offset : offset + size])
    return StoredImage(icon.height, icon.width, lambda: _read_icon_pixels(icon))


def _read_icon(content: bytes) -> _Icon:
    """Read the header of a bitmap in an icon, whose height counts the colors and the mask."""
    header, width, double_height, _, bits, _ = struct.unpack_from("<IiiHHI", content)
    height = abs(double_height) // 2
    if header < 40 or width <= 0 or height <= 0 or bits not in (1, 4, 8, 16, 24, 32):
        raise OSError("the header of the icon is damaged")
    used = struct.unpack_from("<I", content, 32)[0]
    start = header + 4 * ((used or 1 << bits) if bits <= 8 else 0)
    end = start + _row_bytes(width, bits) * height
    if end > len(content):
        raise OSError("the icon is truncated")
    bitmap = content[:8] + struct.pack("<i", height) + content[12:end]
    bmp = struct.pack("<2sIII", b"BM", 14 + end, 0, 14 + start) + bitmap
    return _Icon(height, width, bits, bmp, content[start:end], content[end : end + _row_bytes(width, 1) * height])


def _read_icon_pixels(icon: _Icon) -> StoredPixels:
    """Decode the colors; of 32 bits, the fourth byte is alpha unless it is 0 everywhere; otherwise the mask is."""
    colors = to_rgb(open_with_pillow(icon.bmp, "BMP"))[..., :3]
    alpha: npt.NDArray[Any] = np.zeros(0, dtype=np.uint8)
    if icon.bits == 32:
        alpha = np.frombuffer(icon.colors, dtype=np.uint8).reshape(icon.height, icon.width, 4)[::-1, :, 3]
    row_bytes = _row_bytes(icon.width, 1)
    if not alpha.any() and len(icon.mask) == row_bytes * icon.height:
        rows = np.frombuffer(icon.mask, dtype=np.uint8).reshape(icon.height, row_bytes)
        alpha = 255 - 255 * np.unpackbits(rows, axis=1)[::-1, : icon.width]
    if not alpha.size:
        return StoredPixels(np.ascontiguousarray(colors))
    return StoredPixels(np.dstack([colors, alpha]), empty_alpha_is_unused=True)


def _row_bytes(width: int, bits: int) -> int:
    """Return the bytes of a row, which are a multiple of 4."""
    return (width * bits + 31) // 32 * 4
