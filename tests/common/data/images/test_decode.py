"""Decoding: every format decodes to upright 8-bit RGB; corrupt images are reported with name and remedy."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.errors import ProcessError, UserError

HEIGHT, WIDTH = 24, 40


def picture() -> Image.Image:
    """Return an asymmetric image with color gradients."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    channels = [rows * 255 / HEIGHT, columns * 255 / WIDTH, (rows + columns) * 255 / (HEIGHT + WIDTH)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return an image encoded as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def encode_16_bit(pixels: np.ndarray, extension: str = ".png") -> bytes:
    """Return 16-bit (H, W) gray or (H, W, 3 or 4) RGB(A) pixels encoded as a file."""
    order = {2: ..., 3: (..., [2, 1, 0, 3][: pixels.shape[-1]])}[pixels.ndim]
    return cv2.imencode(extension, np.ascontiguousarray(pixels[order]))[1].tobytes()


def decoded(data: bytes) -> np.ndarray:
    """Return the decoded image as (H, W, 3) after checking its type and shape."""
    image = ImageDecoder().decode(data, "name")
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    return image


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", {"lossless": True}), ("GIF", {}), ("TGA", {})],
)
def test_lossless_formats_match_pillow(kind: str, options: dict[str, object]) -> None:
    data = encode(picture(), kind, **options)
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_of_every_color_space_decode_to_rgb(mode: str) -> None:
    data = encode(picture().convert(mode), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert np.abs(decoded(data).astype(int) - expected).max() <= 2
    if mode != "L":
        assert np.abs(decoded(data).astype(int) - np.asarray(picture()).astype(int)).mean() < 3


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_gray_bilevel_and_palette_pngs_decode_to_rgb(mode: str) -> None:
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


def test_gray_alpha_is_composited_on_white() -> None:
    image = Image.new("LA", (2, 1), (0, 255))
    image.putpixel((1, 0), (0, 0))
    assert decoded(encode(image, "PNG")).tolist() == [[[0] * 3, [255] * 3]]


def test_transparent_palette_entry_becomes_white() -> None:
    image = Image.new("P", (2, 1), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert decoded(encode(image, "PNG", transparency=0)).tolist() == [[[255] * 3, [40, 50, 60]]]


def test_transparent_color_of_an_rgb_png_becomes_white() -> None:
    image = Image.new("RGB", (2, 1), (10, 20, 30))
    image.putpixel((1, 0), (40, 50, 60))
    assert decoded(encode(image, "PNG", transparency=(10, 20, 30))).tolist() == [[[255] * 3, [40, 50, 60]]]


@pytest.mark.parametrize("extension", [".png", ".tiff", ".pgm"])
def test_16_bit_gray_is_scaled_not_clipped(extension: str) -> None:
    levels = np.array([[0, 257, 128 * 257, 200 * 257, 65535, 128, 129]], dtype=np.uint16)
    pixels = decoded(encode_16_bit(levels, extension))
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 200, 255, 0, 1]
    assert (pixels == pixels[..., :1]).all()


def test_16_bit_color_is_scaled() -> None:
    deep = np.asarray(picture()).astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded(encode_16_bit(deep)), np.asarray(picture()))


def test_16_bit_alpha_is_composited_on_white() -> None:
    deep = np.array([[[0, 65535, 0, 0], [0, 65535, 0, 65535], [0, 65535, 0, 32768]]], dtype=np.uint16)
    assert decoded(encode_16_bit(deep)).tolist() == [[[255] * 3, [0, 255, 0], [127, 255, 127]]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(picture(), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    expected = np.rot90(np.asarray(picture()), -1).astype(int)
    pixels = decoded(data).astype(int)
    assert pixels.shape == (WIDTH, HEIGHT, 3)
    assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_the_same_for_16_and_8_bits(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    gray = picture().convert("L")
    deep = Image.fromarray(np.asarray(gray).astype(np.uint16) * 257)
    np.testing.assert_array_equal(decoded(encode(deep, "PNG", exif=exif)), decoded(encode(gray, "PNG", exif=exif)))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0noise", b"Exif\0\0MM\0*\0\0\xff\xff", b"\0"])
def test_damaged_exif_is_ignored(kind: str, exif: bytes) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    with_exif, without = (decoded(encode(picture(), kind, **options, **extra)) for extra in ({"exif": exif}, {}))
    np.testing.assert_array_equal(with_exif, without)


def test_xmp_orientation_of_a_jpeg_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x010E] = "no orientation"
    data = encode(picture(), "JPEG", xmp=b'<x tiff:Orientation="6"/>', exif=exif)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert decoded(data).shape == (HEIGHT, WIDTH, 3)


def test_first_frame_of_an_animation_is_decoded() -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ((255, 0, 0), (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decoded(data)[0, 0].tolist() == [255, 0, 0]


def test_format_is_detected_from_the_bytes_not_the_extension() -> None:
    image = ImageDecoder().decode(encode(picture(), "PNG"), "photo.jpg")
    np.testing.assert_array_equal(image, np.asarray(picture()))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.9])
def test_truncated_image_is_reported_by_name(kind: str, fraction: float) -> None:
    data = encode(picture(), kind)
    with pytest.raises(UserError, match=r"^data/cat/7\.jpg: the image is truncated or damaged \(.+\)\. Restore"):
        ImageDecoder().decode(data[: int(len(data) * fraction)], "data/cat/7.jpg")


def test_jpeg_without_end_marker_is_truncated() -> None:
    with pytest.raises(UserError, match="truncated"):
        ImageDecoder().decode(encode(picture(), "JPEG")[:-4], "x.jpg")


@pytest.mark.parametrize("error", [ImportError("libGL.so.1: cannot open"), AttributeError("no imdecode", obj=cv2)])
def test_a_library_that_cannot_decode_is_not_damage_of_an_image(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("common.data.images.decode.open_image", fail)
    with pytest.raises(type(error), match=str(error)):
        ImageDecoder().decode(b"an image", "a.png")


def test_memory_that_runs_out_is_not_damage_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """With data.on_corrupt=skip the image was replaced for the whole run, whenever another program had the memory."""

    def allocate(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("common.data.images.decode.standardize", allocate)
    with pytest.raises(ProcessError, match=r"a\.png: cannot be read \(memory ran out\).*Give the run more memory"):
        ImageDecoder().decode(encode(picture(), "PNG"), "a.png")


def test_empty_file_is_reported() -> None:
    with pytest.raises(UserError, match=r"^x\.jpg: the image is empty \(0 bytes\)"):
        ImageDecoder().decode(b"", "x.jpg")


@pytest.mark.parametrize(
    "data", [b"plain text, not an image", b"<htmx>not found</htmx>", b"\xff\xd8", b"\x00" * 64, b"GIF"]
)
def test_first_bytes_of_an_unknown_format_are_reported(data: bytes) -> None:
    with pytest.raises(UserError, match=r"^x\.png: unknown image format \(\d+ bytes that start with b'"):
        ImageDecoder().decode(data, "x.png")


@pytest.mark.parametrize("data", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\0" * 9])
def test_header_without_data_is_reported_as_damaged(data: bytes) -> None:
    with pytest.raises(UserError, match="truncated or damaged"):
        ImageDecoder().decode(data, "x")


def test_png_with_a_flipped_byte_is_reported_as_damaged() -> None:
    data = bytearray(encode(picture(), "PNG"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(UserError, match="truncated or damaged"):
        ImageDecoder().decode(bytes(data), "x.png")


@pytest.mark.parametrize("pixels", [np.ones((2, 2), np.float32), np.full((2, 2), 70_000, np.int32)])
def test_pixels_without_a_known_range_are_rejected(pixels: np.ndarray) -> None:
    with pytest.raises(
        UserError,
        match=r"^x\.tif: the pixels are .* of 32 bits, whose range is unknown\. Save .* 8 or 16 bits per channel[.,]",
    ):
        ImageDecoder().decode(encode(Image.fromarray(pixels), "TIFF"), "x.tif")


def png_header(width: int, height: int) -> bytes:
    """Return a PNG that declares a size and contains no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", 13), chunk, struct.pack(">I", zlib.crc32(chunk)), b"\0\0\0\0IEND\xaeB`\x82"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def gif_header(width: int, height: int) -> bytes:
    """Return a GIF that declares a size and contains no pixels."""
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + b"\x2c" + b"\0" * 20


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (png_header(12_000, 12_000), "12000 x 12000 = 144,000,000 pixels, data.max_megapixels = 89 allows 89,000,000."),
        (
            png_header(60_000, 60_000),
            "60000 x 60000 = 3,600,000,000 pixels, data.max_megapixels = 89 allows 89,000,000.",
        ),
        (
            gif_header(65_535, 65_535),
            "65535 x 65535 = 4,294,836,225 pixels, data.max_megapixels = 89 allows 89,000,000.",
        ),
        (png_header(2**21, 1), "the longest side may be at most 1048576"),
    ],
    ids=["large", "huge", "gif", "long"],
)
@pytest.mark.filterwarnings("ignore")
def test_decompression_bomb_is_rejected_by_its_header(data: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=r"^x\.png: the image .*Downscale or remove it\.$") as caught:
        ImageDecoder().decode(data, "x.png")
    assert reason in str(caught.value)


def test_max_pixels_is_the_largest_accepted_size() -> None:
    data = encode(picture(), "JPEG")
    assert ImageDecoder(WIDTH * HEIGHT).decode(data, "x").shape == (HEIGHT, WIDTH, 3)
    with pytest.raises(UserError, match="40 x 24"):
        ImageDecoder(WIDTH * HEIGHT - 1).decode(data, "x")


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\xd7\xcd\xc6\x9a" + b"\0" * 40]
)
def test_formats_that_pillow_decodes_with_external_programs_are_rejected(data: bytes) -> None:
    with pytest.raises(
        UserError, match=r"^photo\.jpg: the file is a .*, which is not supported\. Convert it to JPEG or PNG"
    ):
        ImageDecoder().decode(data, "photo.jpg")


@pytest.mark.parametrize(("width", "height"), [(1, 1), (20_000, 10), (10, 20_000)])
def test_extreme_aspect_ratios_are_decoded(width: int, height: int) -> None:
    assert ImageDecoder().decode(encode(Image.new("RGB", (width, height)), "PNG"), "x").shape == (height, width, 3)
