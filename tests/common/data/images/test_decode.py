"""Decoding: every kind of image comes out as upright 8-bit RGB, and every broken one is named with a remedy."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from common.data.images.decode import decode_image
from common.errors import UserError

HEIGHT, WIDTH = 24, 40


def picture() -> Image.Image:
    """Return a picture of smooth colours without symmetry."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [rows * 255 / HEIGHT, columns * 255 / WIDTH, (rows + columns) * 255 / (HEIGHT + WIDTH)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_deep(pixels: np.ndarray, extension: str = ".png") -> bytes:
    """Return 16-bit (H, W) or (H, W, 3 or 4) RGB pixels as a file."""
    order = {2: ..., 3: (..., [2, 1, 0, 3][: pixels.shape[-1]])}[pixels.ndim]
    return cv2.imencode(extension, np.ascontiguousarray(pixels[order]))[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    """Return the decoded image as (H, W, 3) after checking what it is."""
    image = decode_image(data, "a name")
    assert image.dtype == torch.uint8 and image.ndim == 3 and image.shape[0] == 3
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TGA", {})],
)
def test_lossless_files_come_out_as_pillow_reads_them(kind: str, options: dict[str, object]) -> None:
    data = encode(picture(), kind, **options)
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_colour_space_come_out_as_rgb(mode: str) -> None:
    data = encode(picture().convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decoded(data).astype(int) - expected).max() <= 2
    if mode != "L":
        assert np.abs(decoded(data).astype(int) - np.asarray(picture()).astype(int)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_black_and_white_and_palette_pngs_come_out_as_rgb(mode: str) -> None:
    image = picture().quantize(200) if mode == "P" else picture().convert(mode)
    np.testing.assert_array_equal(decoded(encode(image, "PNG")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_composited_on_white(kind: str) -> None:
    image = Image.new("RGBA", (4, 4), (200, 100, 0, 0))
    image.putpixel((1, 0), (200, 100, 0, 255))
    image.putpixel((2, 0), (200, 100, 0, 51))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = decoded(encode(image, kind, **options))
    assert pixels[3, 3].tolist() == [255, 255, 255]
    assert pixels[0, 1].tolist() == [200, 100, 0]
    assert np.abs(pixels[0, 2].astype(int) - [244, 224, 204]).max() <= 1


def test_alpha_beside_grey_is_composited_on_white() -> None:
    image = Image.new("LA", (2, 1), (0, 255))
    image.putpixel((1, 0), (0, 0))
    assert decoded(encode(image, "PNG")).tolist() == [[[0] * 3, [255] * 3]]


def test_a_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decoded(encode(image, "PNG", transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]


def test_a_transparent_colour_of_an_rgb_png_becomes_white() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (40, 50, 60))
    assert decoded(encode(image, "PNG", transparency=(10, 20, 30))).tolist() == [[[255] * 3, [40, 50, 60]]]


@pytest.mark.parametrize("extension", [".png", ".tiff", ".pgm"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(extension: str) -> None:
    levels = np.array([[0, 257, 128 * 257, 200 * 257, 65535, 128, 129]], dtype=np.uint16)
    pixels = decoded(encode_deep(levels, extension))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 200, 255, 0, 1]
    assert (pixels == pixels[..., :1]).all()


def test_sixteen_bit_colour_is_scaled() -> None:
    deep = np.asarray(picture()).astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded(encode_deep(deep)), np.asarray(picture()))


def test_sixteen_bit_alpha_is_composited_on_white() -> None:
    deep = np.array([[[0, 65535, 0, 0], [0, 65535, 0, 65535], [0, 65535, 0, 32768]]], dtype=np.uint16)
    assert decoded(encode_deep(deep)).tolist() == [[[255] * 3, [0, 255, 0], [127, 255, 127]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_turns_the_image_upright(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.rot90(np.asarray(picture()), -1).astype(int)
    pixels = decoded(data).astype(int)
    assert pixels.shape == (WIDTH, HEIGHT, 3)
    assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_of_sixteen_bits_agrees_with_that_of_eight(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    grey = picture().convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    np.testing.assert_array_equal(decoded(encode(deep, "PNG", exif=exif)), decoded(encode(grey, "PNG", exif=exif)))


def test_only_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (3, 3), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data)[0, 0].tolist() == [255, 0, 0]


def test_the_bytes_decide_whatever_the_name_says() -> None:
    image = decode_image(encode(picture(), "PNG"), "photo.jpg")
    np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_named(kind: str, share: float) -> None:
    data = encode(picture(), kind)
    with pytest.raises(UserError, match=r"^data/cat/7\.jpg: the image is truncated or damaged \(.+\)\. Restore"):
        decode_image(data[: int(len(data) * share)], "data/cat/7.jpg")


def test_a_jpeg_without_its_last_bytes_is_truncated() -> None:
    with pytest.raises(UserError, match="truncated"):
        decode_image(encode(picture(), "JPEG")[:-4], "x.jpg")


def test_an_empty_file_is_called_empty() -> None:
    with pytest.raises(UserError, match=r"^x\.jpg: the image is empty \(0 bytes\)"):
        decode_image(b"", "x.jpg")


@pytest.mark.parametrize(
    "data", [b"plain text, no image", b"<html>not found</html>", b"\xff\xd8", b"\x00" * 64, b"GIF"]
)
def test_bytes_that_are_no_image_are_shown(data: bytes) -> None:
    with pytest.raises(
        UserError, match=r"^x\.png: the image is of no kind that Pillow reads \(its \d+ bytes begin with b'"
    ):
        decode_image(data, "x.png")


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 9])
def test_a_bare_header_is_damaged(data: bytes) -> None:
    with pytest.raises(UserError, match="truncated or damaged"):
        decode_image(data, "x")


def test_a_damaged_png_is_damaged() -> None:
    data = bytearray(encode(picture(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UserError, match="truncated or damaged"):
        decode_image(bytes(data), "x.png")


@pytest.mark.parametrize("pixels", [np.ones((2, 2), np.float32), np.full((2, 2), 70_000, np.int32)])
def test_numbers_without_a_known_range_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"^x\.tif: the pixels .* Save it with 8 or 16 bits per channel\.$"):
        decode_image(encode(Image.fromarray(pixels), "TIFF"), "x.tif")


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that promises a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", 13), chunk, struct.pack(">I", zlib.crc32(chunk)), b"\0\0\0\0IEND\xaeB`\x82"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_header(width: int, height: int) -> bytes:
    """Return a GIF that promises a size and holds no pixels."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"\x2c" + b"\0" * 20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_header(12_000, 12_000), "12000 x 12000 = 144 million pixels, more than data.max_megapixels = 89 allows"),
        (png_header(60_000, 60_000), "beyond what Pillow opens"),
        (gif_header(65_535, 65_535), "beyond what Pillow opens"),
        (png_header(2**21, 1), "no side may be longer than 1048576"),
    ],
    ids=["large", "huge", "gif", "long"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_decompression_bomb_is_told_by_its_header(data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=r"^x\.png: the image .*Scale it down or remove it\.$") as caught:
        decode_image(data, "x.png")
    assert reason in str(caught.value)


def test_the_bound_on_pixels_is_the_one_given() -> None:
    data = encode(picture(), "JPEG")
    assert decode_image(data, "x", max_pixels=WIDTH * HEIGHT).shape == (3, HEIGHT, WIDTH)
    with pytest.raises(UserError, match="40 x 24"):
        decode_image(data, "x", max_pixels=WIDTH * HEIGHT - 1)


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xd7\xcd\xc6\x9a" + b"\0" * 40]
)
def test_formats_that_pillow_hands_to_other_programs_are_not_opened(data: bytes) -> None:
    with pytest.raises(UserError, match="of no kind that Pillow reads"):
        decode_image(data, "photo.jpg")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 10), (10, 20_000)])
def test_points_and_strips_are_images(width: int, height: int) -> None:
    assert decode_image(encode(Image.new("RGB", (width, height)), "PNG"), "x").shape == (3, height, width)
