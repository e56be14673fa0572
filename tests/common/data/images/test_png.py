"""PNG: the transparent color of every depth, and variants that are named."""

import struct
import zlib

import numpy as np
import pytest

from common.data.images.decode import ImageDecoder
from common.errors import UserError


def png(
    bits: int, color: int, row: bytes, *chunks: tuple[bytes, bytes], width: int = 2, interlaced: bool = False
) -> bytes:
    """Return a PNG of one row."""
    header = struct.pack(">IIBBBBB", width, 1, bits, color, 0, 0, interlaced)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("bits", "row", "key", "opaque"),
    [
        (1, b"\x40", 0, 255),
        (2, b"\x60", 1, 170),
        (4, b"\x35", 3, 85),
        (8, b"\x07\x09", 7, 9),
        (8, b"\x07\x09", 0x0107, 9),
        (16, struct.pack(">2H", 0x0701, 0x0900), 0x0701, 9),
    ],
)
def test_transparent_gray_becomes_white(bits: int, row: bytes, key: int, opaque: int) -> None:
    image = ImageDecoder().decode(png(bits, 0, row, (b"tRNS", struct.pack(">H", key))), "x")
    assert image.tolist() == [[[255] * 3, [opaque] * 3]]


def test_transparent_gray_of_16_bits_is_compared_in_16_bits() -> None:
    row = struct.pack(">2H", 0x0700, 0x0701)
    image = ImageDecoder().decode(png(16, 0, row, (b"tRNS", struct.pack(">H", 0x0701))), "x")
    assert image.tolist() == [[[7] * 3, [255] * 3]]


@pytest.mark.parametrize("bits", [8, 16])
def test_transparent_color_becomes_white(bits: int) -> None:
    scale, code = (1, "B") if bits == 8 else (257, "H")
    row = struct.pack(f">6{code}", *(value * scale for value in (1, 2, 3, 1, 2, 4)))
    key = struct.pack(">3H", *(value * scale for value in (1, 2, 3)))
    assert ImageDecoder().decode(png(bits, 2, row, (b"tRNS", key)), "x").tolist() == [[[255] * 3, [1, 2, 4]]]


def test_damaged_transparency_is_ignored() -> None:
    assert ImageDecoder().decode(png(8, 2, bytes(6), (b"tRNS", b"\0")), "x").tolist() == [[[0] * 3] * 2]


def test_gray_of_16_bits_with_alpha_is_composited_on_white() -> None:
    row = struct.pack(">4H", 0, 0, 0, 65535)
    assert ImageDecoder().decode(png(16, 4, row), "x").tolist() == [[[255] * 3, [0] * 3]]


def test_transparency_of_everything_is_white() -> None:
    np.testing.assert_array_equal(ImageDecoder().decode(png(8, 6, bytes(8)), "x"), np.full((1, 2, 3), 255))


def test_variant_of_apple_is_named() -> None:
    data = png(8, 6, bytes(8))
    data = data[:8] + struct.pack(">I4s4sI", 4, b"CgBI", bytes(4), 0) + data[8:]
    with pytest.raises(
        UserError, match=r"^x: PNG in Apple's variant \(CgBI\) is not supported\. Convert it with `sips"
    ):
        ImageDecoder().decode(data, "x")


def test_second_header_does_not_evade_the_size_limit() -> None:
    second = (b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 3, 0, 0, 0))
    with pytest.raises(UserError, match="truncated or damaged"):
        ImageDecoder().decode(png(8, 3, bytes(2), second, (b"PLTE", bytes(6))), "x")
