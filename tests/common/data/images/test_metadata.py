"""Metadata never refuses an image, and only EXIF turns one, in every format alike."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from common.data.images.decode import ImageDecoder
from common.data.images.orientation_alpha_depth import read_orientation

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)
PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def encode(kind: str, mode: str = "RGB", **options: object) -> bytes:
    """Return the image as a lossless file."""
    buffer = io.BytesIO()
    if kind == "WEBP":
        options |= {"lossless": True}
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(*chunks: bytes, mode: str = "RGB") -> bytes:
    """Return a PNG with more chunks after its header."""
    plain = encode("PNG", mode)
    return plain[:33] + b"".join(chunks) + plain[33:]


def exif_with(order: str, entries: list[bytes], *, declared: int | None = None) -> bytes:
    """Return an EXIF block of given entries."""
    header = b"II" if order == "<" else b"MM"
    return header + struct.pack(f"{order}HIH", 42, 8, declared or len(entries)) + b"".join(entries)


def entry(order: str, kind: int, value: int, *, tag: int = 0x0112, count: int = 1) -> bytes:
    packed = struct.pack(f"{order}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", value).ljust(4, b"\0")
    return struct.pack(f"{order}HHI", tag, kind, count) + packed


def decode(data: bytes) -> np.ndarray:
    return ImageDecoder().decode(data, "x")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 1_200_000)),
        chunk(b"iCCP", b"scanner\0\0" + zlib.compress(np.random.default_rng(0).bytes(1_200_000))),
        chunk(b"tEXt", b"key\0" + b"y" * 1_200_000) * 60,
        chunk(b"iCCP", b"no profile"),
        chunk(b"gAMA", b""),
        chunk(b"tEXt", b"wrong checksum")[:-4] + b"\0\0\0\0",
    ],
    ids=["long text", "large profile", "texts of 72 MB", "damaged profile", "short gamma", "checksum"],
)
def test_png_with_any_metadata_is_read(metadata: bytes, mode: str) -> None:
    np.testing.assert_array_equal(decode(png_with(metadata, mode=mode)), decode(encode("PNG", mode)))


def test_png_with_a_long_text_in_an_icon_is_read() -> None:
    png = png_with(chunk(b"zTXt", b"key\0\0" + zlib.compress(b"x" * 1_200_000)))
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 7, 5, 0, 0, 1, 32, len(png), 22) + png
    np.testing.assert_array_equal(decode(icon), PIXELS)


@pytest.mark.parametrize(
    "exif", [b"garbage!", b"II*\0", b"\0\x08\0\x02\x01\x12\0\x03", b"", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_that_cannot_be_read_is_none(kind: str, exif: bytes) -> None:
    data = png_with(chunk(b"eXIf", exif)) if kind == "PNG" else encode(kind, exif=exif)
    np.testing.assert_array_equal(decode(data), PIXELS)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_avif_with_damaged_exif_is_turned_by_its_container() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    data = encode("AVIF", exif=exif, quality=100, subsampling="4:4:4")
    assert decode(data).shape == (7, 5, 3)
    damaged = bytearray(data)
    start = data.rindex(b"II*\0" if b"II*\0" in data else b"MM\0*")
    damaged[start : start + 8] = b"garbage!"
    np.testing.assert_array_equal(decode(bytes(damaged)), decode(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_xmp_and_texts_never_turn_an_image(kind: str, mode: str) -> None:
    if kind == "PNG":
        raw_exif = exif_with("<", [entry("<", 3, 6)]).hex()
        raw = f"\nexif\n{len(raw_exif) // 2:8}\n{raw_exif}\n".encode()
        texts = [b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP], [b"tEXt", b"Raw profile type exif\0" + raw]
        data = png_with(*(chunk(name, text) for name, text in texts), mode=mode)
    elif kind == "WEBP":
        data = encode(kind, mode, xmp=XMP, exact=True)
    else:
        data = encode(kind, mode, tiffinfo={700: XMP})
    np.testing.assert_array_equal(decode(data), PIXELS)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_orientation_of_any_integer_type_is_read(order: str, kind: int) -> None:
    exif = exif_with(order, [entry(order, kind, 6)])
    assert read_orientation(exif) == read_orientation(b"Exif\0\0" + exif) == 6


def test_orientation_among_damaged_entries_is_read() -> None:
    outside = struct.pack("<HHII", 0x010F, 2, 5000, 2**31)
    assert read_orientation(exif_with("<", [outside, entry("<", 3, 8)], declared=9)) == 8


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_outside_of_1_to_8_is_none(value: int) -> None:
    assert read_orientation(exif_with("<", [entry("<", 3, value)])) == 1


def test_orientation_of_several_values_is_none() -> None:
    assert read_orientation(exif_with("<", [entry("<", 3, 6, count=2)])) == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_one_exif_block_turns_every_format_alike(orientation: int) -> None:
    exif = exif_with(">", [entry(">", 4, orientation)])
    turned = decode(png_with(chunk(b"eXIf", exif)))
    np.testing.assert_array_equal(decode(png_with(chunk(b"eXIf", exif), mode="RGBA")), turned)
    np.testing.assert_array_equal(decode(encode("WEBP", exif=exif)), turned)
    np.testing.assert_array_equal(decode(encode("TIFF", tiffinfo={0x0112: orientation})), turned)
    assert (turned.shape == (7, 5, 3)) == (orientation > 4)


def test_jpeg_with_and_without_a_trailing_byte_has_the_same_pixels() -> None:
    for mode in ("RGB", "L", "CMYK"):
        buffer = io.BytesIO()
        rows, columns = np.mgrid[0:33, 0:47]
        picture = Image.fromarray(np.stack([rows * 7, columns * 5, rows + columns], -1).astype(np.uint8)).convert(mode)
        picture.save(buffer, "JPEG", quality=60, exif=b"Exif\0\0" + exif_with("<", [entry("<", 3, 6)]))
        data = buffer.getvalue()
        assert decode(data).shape == (47, 33, 3)
        np.testing.assert_array_equal(decode(data), decode(data + b"\0"))
