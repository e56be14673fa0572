"""BMP, TGA and ICO: the meaning of the fourth byte, masks, and the size limit of icons."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.errors import UserError

COLORS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)


def bgra(alpha: int) -> np.ndarray:
    """Return the colors, bottom row first, as blue, green, red, alpha; the first pixel of the top row is opaque if alpha is 1."""
    pixels = np.dstack([COLORS[..., ::-1], np.full((2, 3), 0, np.uint8)])
    if alpha:
        pixels[0, 0, 3] = 255
    return pixels[::-1]


def bmp(pixels: np.ndarray) -> bytes:
    """Return a BMP version 5 with an alpha mask."""
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = (struct.pack("<IiiHHIIiiII", 124, 3, 2, 1, 32, 3, pixels.size, 0, 0, 0, 0) + masks + b"BGRs").ljust(
        124, b"\0"
    )
    return b"BM" + struct.pack("<IHHI", 138 + pixels.size, 0, 0, 138) + header + pixels.tobytes()


def tga(pixels: np.ndarray, *, footer_kind: int | None = None) -> bytes:
    """Return an uncompressed TGA, with an extension area that says what the alpha means."""
    data = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 3, 2, 32, 8) + pixels.tobytes()
    if footer_kind is None:
        return data
    extension = struct.pack("<H", 495).ljust(494, b"\0") + bytes([footer_kind])
    return data + extension + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def ico(pixels: np.ndarray, mask: tuple[int, int], *, bits: int = 32) -> bytes:
    """Return an icon of one bitmap; `mask` has one byte per row, bottom row first, whose high bits are transparent pixels."""
    content = struct.pack("<IiiHHIIiiII", 40, 3, 4, 1, bits, 0, 0, 0, 0, 0, 0)
    rows = [row.tobytes() for row in (pixels if bits == 32 else pixels[..., :3])]
    content += b"".join(row.ljust(12, b"\0") for row in rows) + b"".join(bytes([byte, 0, 0, 0]) for byte in mask)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 3, 2, 0, 0, 1, bits, len(content), 22) + content


def decode(data: bytes) -> np.ndarray:
    return ImageDecoder().decode(data, "x")


def only_first_pixel() -> np.ndarray:
    expected = np.full((2, 3, 3), 255, np.uint8)
    expected[0, 0] = COLORS[0, 0]
    return expected


@pytest.mark.parametrize("encode", [bmp, tga, lambda pixels: ico(pixels, (0, 0))], ids=["bmp", "tga", "ico"])
def test_alpha_of_zero_everywhere_is_none(encode: object) -> None:
    np.testing.assert_array_equal(decode(encode(bgra(0))), COLORS)
    np.testing.assert_array_equal(decode(encode(bgra(1))), only_first_pixel())


def test_tga_whose_footer_declares_no_alpha_is_opaque() -> None:
    np.testing.assert_array_equal(decode(tga(bgra(1), footer_kind=0)), COLORS)
    np.testing.assert_array_equal(decode(tga(bgra(1), footer_kind=3)), only_first_pixel())


def test_premultiplied_tga_is_not_multiplied_again() -> None:
    pixels = np.full((2, 3, 4), 128, np.uint8)
    assert (decode(tga(pixels, footer_kind=4)) == 255).all()
    assert (decode(tga(pixels, footer_kind=3)) == 191).all()


@pytest.mark.parametrize("bits", [24, 32])
def test_mask_of_an_icon_is_its_transparency(bits: int) -> None:
    np.testing.assert_array_equal(decode(ico(bgra(0), (0xE0, 0x60), bits=bits)), only_first_pixel())


def test_alpha_of_an_icon_wins_over_its_mask() -> None:
    np.testing.assert_array_equal(decode(ico(bgra(1), (0, 0))), only_first_pixel())


def test_icon_is_not_decoded_above_the_size_limit() -> None:
    with pytest.raises(UserError, match="3 x 2 = 6 pixels"):
        ImageDecoder(5).decode(ico(bgra(0), (0, 0)), "x")


def test_largest_image_of_an_icon_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "ICO", sizes=[(16, 16), (48, 48), (32, 32)])
    assert decode(buffer.getvalue()).shape == (48, 48, 3)


@pytest.mark.parametrize("length", [20, 30, 60, 80])
def test_truncated_icon_is_damaged(length: int) -> None:
    with pytest.raises(UserError, match="truncated or damaged"):
        decode(ico(bgra(0), (0, 0))[:length])


def test_unsupported_kind_of_bmp_is_named() -> None:
    data = bytearray(bmp(bgra(1)))
    data[54:58] = struct.pack("<I", 0x3FF)
    with pytest.raises(UserError, match=r"^x: this kind of BMP is not supported \(.*layout\)\. Save it as a PNG\.$"):
        decode(bytes(data))
