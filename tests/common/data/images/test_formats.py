"""Formats are known by their first bytes; what is not read is named with its remedy."""

import io

import numpy as np
import pytest
from PIL import Image, features

from common.data.images.decode import ImageDecoder
from common.data.images.formats import FIRST_BYTES, Format, describe_other, find_format, looks_like_image
from common.errors import UserError


def encode(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "ICO", "AVIF", "TGA"])
def test_format_of_every_readable_file_is_found(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    first_bytes = encode(kind)[:FIRST_BYTES]
    assert find_format(first_bytes) == kind
    assert looks_like_image(first_bytes) == (kind != "TGA")
    assert describe_other(first_bytes) is None


@pytest.mark.parametrize(
    ("first_bytes", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Format.HEIC),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafheic", Format.HEIC),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif", Format.AVIF),
        (b"MM\0+\0\x08\0\0\0\0\0\0\0\0\0\x10", Format.TIFF),
        (b"\xff\x4f\xff\x51\0\x2f", Format.JPEG2000),
        (b"P6#made by\n# hand\n640 480\n255\n", Format.PPM),
    ],
)
def test_format_by_first_bytes(first_bytes: bytes, kind: Format) -> None:
    assert find_format(first_bytes) is kind
    assert looks_like_image(first_bytes)


OTHERS = [
    (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing", "Convert it"),
    (b"%PDF-1.7\n", "a PDF document", "Convert it"),
    (b"8BPS\0\x01", "a Photoshop document", "Convert it"),
    (b"\xff\x0a\0\0", "a JPEG XL image", "Convert it"),
    (b"II*\0\x10\0\0\0CR\x02\0", "a raw image of a camera", "Develop it"),
    (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a raw image of a camera", "Develop it"),
    (b"FUJIFILMCCD-RAW 0201", "a raw image of a camera", "Develop it"),
    (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "a video", "Save its frames"),
    (b"RIFF\0\0\0\0AVI LIST", "a video", "Save its frames"),
    (b"PK\x03\x04\x14\0", "a ZIP archive", "Extract it"),
    (b"\x1f\x8b\x08\0", "a gzip archive", "Extract it"),
    (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS", "Run `git lfs pull`"),
    (b"<!DOCTYPE html><html>", "an HTML page", "Download it again"),
    (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "a file of macOS about another one", "Remove it"),
]


@pytest.mark.parametrize(("data", "name", "remedy"), OTHERS)
def test_known_file_that_is_not_read_is_named_with_its_remedy(data: bytes, name: str, remedy: str) -> None:
    assert not looks_like_image(data)
    with pytest.raises(UserError) as caught:
        ImageDecoder().decode(data, "photo.jpg")
    assert str(caught.value).startswith(f"photo.jpg: the file is {name}")
    assert f"which is not supported. {remedy}" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"BMW and other cars, a text",
        b"P6",
        b"P",
        b"P2 is the second part",
        b"RIFF\0\0\0\0WAVE",
        bytes(600),
        b"GIF",
        b"\xff\xd8",
        b"{}\n",
        b"a,b\n1,2\n",
    ],
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert not looks_like_image(data)
    assert find_format(data) is None


@pytest.mark.parametrize("kind", [b"Pf", b"PF"])
def test_float_map_is_named(kind: bytes) -> None:
    with pytest.raises(
        UserError, match=r"floating-point numbers \(PFM\), whose range is unknown\. Save it with 8 or 16 bits"
    ):
        ImageDecoder().decode(kind + b"\n1 1\n-1.0\n" + bytes(12), "x")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (b"\xff\xc1\0\x0b\x0c\0\x08\0\x08\x01\x01\x11\0", "JPEG with 12 bits per channel is not supported"),
        (b"\xff\xc3\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0", "lossless JPEG is not supported"),
        (b"\xff\xf7\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0", "lossless JPEG is not supported"),
        (b"\xff\xc0\0\x0e\x08\0\x08\0\x08\x02\x01\x11\0\x02\x11\0", "JPEG with 2 channels is not supported"),
    ],
)
def test_kind_of_jpeg_that_is_not_read_is_named(frame: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"^x: {message}\. Save it as a JPEG with 8 bits per channel, or as a PNG\.$"):
        ImageDecoder().decode(b"\xff\xd8" + frame + b"\xff\xda\0\x02\0\xff\xd9", "x")
