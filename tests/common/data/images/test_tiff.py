"""TIFF: pixels of every supported kind come out right, others are named; written here byte by byte, as Pillow writes few kinds."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.errors import UserError

HEIGHT, WIDTH = 20, 24
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([ROWS * 12, COLUMNS * 10, ROWS + COLUMNS], -1).astype(np.uint8)
GRAY = RGB[..., 1]
ALPHA = (255 - RGB[..., :1]).astype(np.uint8)
WHITE_IS_ZERO, BLACK_IS_ZERO, PHOTOMETRIC_RGB, PALETTE, CMYK = 0, 1, 2, 3, 5

Tags = dict[int, tuple[int, list[int]]]


def deep(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.uint16) * 257


def tiff(
    pixels: np.ndarray,
    photometric: int,
    *,
    order: str = "<",
    planar: bool = False,
    tile: int | None = None,
    compress: bool = False,
    predict: bool = False,
    more: Tags | None = None,
    big: bool = False,
) -> bytes:
    """Return (H, W) or (H, W, S) pixels as a TIFF of two strips, or square tiles."""
    pixels = pixels if pixels.ndim == 3 else pixels[..., None]
    height, width, samples = pixels.shape
    parts = []
    for plane in np.split(pixels, samples, axis=2) if planar else [pixels]:
        step_y, step_x = (tile, tile) if tile else (-(-height // 2), width)
        for top in range(0, height, step_y):
            for left in range(0, width, step_x):
                part = plane[top : top + step_y, left : left + step_x]
                if tile:
                    part = np.pad(part, [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)])
                if predict:
                    part = np.diff(part, axis=1, prepend=np.zeros_like(part[:, :1]))
                raw = part.astype(part.dtype.newbyteorder(order)).tobytes()
                parts.append(zlib.compress(raw) if compress else raw)
    header = 16 if big else 8
    offsets = np.cumsum([header, *(len(part) for part in parts)]).tolist()
    lengths = [len(part) for part in parts]
    tags: Tags = {
        256: (3, [width]),
        257: (3, [height]),
        258: (3, [8 * pixels.itemsize] * samples),
        259: (3, [8 if compress else 1]),
        262: (3, [photometric]),
        277: (3, [samples]),
        284: (3, [2 if planar else 1]),
        317: (3, [2 if predict else 1]),
    }
    layout: Tags = {273: (4, offsets[:-1]), 278: (3, [-(-height // 2)]), 279: (4, lengths)}
    if tile:
        layout = {322: (3, [tile]), 323: (3, [tile]), 324: (4, offsets[:-1]), 325: (4, lengths)}
    return assembled(b"".join(parts), tags | layout | (more or {}), order, big=big)


def assembled(body: bytes, tags: Tags, order: str, *, big: bool) -> bytes:
    """Return a TIFF or BigTIFF of a body that begins after the header, and tags."""
    header, count, entry, pointer = (16, "Q", "HHQ", "Q") if big else (8, "H", "HHI", "I")
    inline_size, start = struct.calcsize(pointer), header + len(body)
    overflow_start = (
        start + struct.calcsize(f"={count}") + len(tags) * (struct.calcsize(f"={entry}") + inline_size) + inline_size
    )
    entries = overflow = b""
    for tag, (kind, values) in sorted(tags.items()):
        payload = struct.pack(f"{order}{len(values)}{ {1: 'B', 3: 'H', 4: 'I'}[kind] }", *values)
        inline = payload.ljust(inline_size, b"\0")
        if len(payload) > inline_size:
            inline = struct.pack(f"{order}{pointer}", overflow_start + len(overflow))
            overflow += payload
        entries += struct.pack(f"{order}{entry}", tag, kind, len(values)) + inline
    magic = b"II" if order == "<" else b"MM"
    magic += struct.pack(f"{order}HHHQ", 43, 8, 0, start) if big else struct.pack(f"{order}HI", 42, start)
    return magic + body + struct.pack(f"{order}{count}", len(tags)) + entries + bytes(inline_size) + overflow


def decode(data: bytes) -> np.ndarray:
    return ImageDecoder().decode(data, "x.tif")


def on_white(colors: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    wide = alpha.astype(int)
    return ((colors * wide + 255 * (255 - wide) + 127) // 255).astype(np.uint8)


@pytest.mark.parametrize(("compress", "predict"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
def test_rgb_of_every_layout(
    depth: int, order: str, planar: bool, tile: int | None, compress: bool, predict: bool
) -> None:
    pixels = RGB if depth == 8 else deep(RGB)
    data = tiff(pixels, PHOTOMETRIC_RGB, order=order, planar=planar, tile=tile, compress=compress, predict=predict)
    np.testing.assert_array_equal(decode(data), RGB)


def test_16_bits_are_rounded_not_truncated() -> None:
    values = np.array([[[128, 129, 385]]], dtype=np.uint16)
    assert decode(tiff(np.repeat(values, 2, axis=0), PHOTOMETRIC_RGB))[0].tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("depth", [8, 16])
def test_white_is_zero_is_inverted(depth: int, order: str) -> None:
    pixels = GRAY if depth == 8 else deep(GRAY)
    np.testing.assert_array_equal(decode(tiff(~pixels, WHITE_IS_ZERO, order=order))[..., 0], GRAY)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("gray", [False, True])
def test_meaning_of_extra_samples(gray: bool, depth: int, planar: bool) -> None:
    colors = GRAY[..., None] if gray else RGB
    photometric = BLACK_IS_ZERO if gray else PHOTOMETRIC_RGB
    multiplied = (colors * (ALPHA / 255)).round().astype(np.uint8)
    expected = np.broadcast_to(on_white(colors, ALPHA), RGB.shape).astype(int)
    for kind, stored in ((0, colors), (1, multiplied), (2, colors)):
        pixels = np.dstack([stored, ALPHA])
        data = tiff(pixels if depth == 8 else deep(pixels), photometric, planar=planar, more={338: (3, [kind])})
        if kind == 0:
            np.testing.assert_array_equal(decode(data), np.broadcast_to(colors, RGB.shape))
        else:
            assert np.abs(decode(data).astype(int) - expected).max() <= 1


def test_alpha_without_a_tag_is_used_unless_it_is_zero_everywhere() -> None:
    np.testing.assert_array_equal(decode(tiff(np.dstack([RGB, ALPHA]), PHOTOMETRIC_RGB)), on_white(RGB, ALPHA))
    np.testing.assert_array_equal(decode(tiff(np.dstack([RGB, 0 * ALPHA]), PHOTOMETRIC_RGB)), RGB)


def test_bands_beyond_rgb_are_ignored() -> None:
    bands = np.dstack([deep(RGB), deep(ALPHA), deep(ALPHA)])
    np.testing.assert_array_equal(decode(tiff(bands, PHOTOMETRIC_RGB, more={338: (3, [0, 0])})), RGB)


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_cmyk_is_converted(depth: int, planar: bool) -> None:
    inks = np.dstack([255 - RGB, 0 * ALPHA])
    np.testing.assert_array_equal(decode(tiff(inks if depth == 8 else deep(inks), CMYK, planar=planar)), RGB)


@pytest.mark.parametrize("scale", [1, 257], ids=["8-bit map", "16-bit map"])
def test_color_maps_of_8_and_16_bits(scale: int) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (3, 256))
    data = tiff(GRAY, PALETTE, more={320: (3, (colors * scale).ravel().tolist())})
    np.testing.assert_array_equal(decode(data), colors.T[GRAY])


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiff(order: str) -> None:
    for pixels in (RGB, deep(RGB)):
        np.testing.assert_array_equal(decode(tiff(pixels, PHOTOMETRIC_RGB, order=order, big=True)), RGB)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_kinds_that_pillow_writes(mode: str, compression: str) -> None:
    image = Image.fromarray(RGB).quantize(40) if mode == "P" else Image.fromarray(RGB)
    if mode not in ("P", "LAB"):
        image = image.convert(mode)
    elif mode == "LAB":
        image = Image.merge("LAB", Image.fromarray(RGB).split())
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode(buffer.getvalue()), np.asarray(Image.open(buffer).convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_the_same_for_8_and_16_bits(orientation: int) -> None:
    tags: Tags = {274: (3, [orientation])}
    eight, sixteen = (decode(tiff(pixels, PHOTOMETRIC_RGB, more=tags)) for pixels in (RGB, deep(RGB)))
    np.testing.assert_array_equal(eight, sixteen)
    assert eight.shape == ((WIDTH, HEIGHT, 3) if orientation > 4 else (HEIGHT, WIDTH, 3))


def test_first_page_is_decoded() -> None:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "TIFF", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    np.testing.assert_array_equal(decode(buffer.getvalue()), RGB)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff(GRAY.astype(np.int16), BLACK_IS_ZERO, more={339: (3, [2])}), "signed integers of 16 bits, whose range"),
        (tiff(GRAY.astype(np.uint32), BLACK_IS_ZERO), "unsigned integers of 32 bits, whose range"),
        (tiff(GRAY.astype(np.int32), BLACK_IS_ZERO, more={339: (3, [2])}), "signed integers of 32 bits, whose range"),
        (tiff(RGB.astype(np.float32), PHOTOMETRIC_RGB, more={339: (3, [3] * 3)}), "floating-point numbers of 32 bits"),
        (tiff(GRAY.astype(np.float16), BLACK_IS_ZERO, more={339: (3, [3])}), "floating-point numbers of 16 bits"),
        (tiff(deep(GRAY), BLACK_IS_ZERO, more={258: (3, [12])}), "12 bits per channel"),
        (tiff(np.dstack([RGB, RGB]), BLACK_IS_ZERO, more={338: (3, [0] * 5)}), "6 channels that are not RGB"),
        (tiff(deep(GRAY), PALETTE, more={320: (3, [0] * 3 * 65536)}), "16 bits per channel"),
        (tiff(RGB, 9), "ICC Lab"),
        (tiff(deep(GRAY), 32803), "a color filter array"),
        (tiff(RGB, PHOTOMETRIC_RGB, more={259: (3, [34712])}), "compression 34712"),
        (tiff(RGB, 6), "YCbCr with subsampling"),
        (tiff(RGB, 6, planar=True), "in planes is only supported for"),
    ],
)
def test_pixels_that_would_come_out_wrong_are_named(data: bytes, message: str) -> None:
    with pytest.raises(
        UserError, match=r"^x\.tif: .*Save it as a PNG or TIFF in gray or RGB with 8 or 16 bits per channel[.,]"
    ) as caught:
        decode(data)
    assert message in str(caught.value)


@pytest.mark.parametrize("more", [{0xC612: (1, [1, 4, 0, 0])}, {254: (4, [1]), 330: (4, [8])}], ids=["DNG", "preview"])
def test_raw_image_of_a_camera_is_named(more: Tags) -> None:
    with pytest.raises(UserError, match=r"^x\.tif: raw images of cameras .* are not supported\. Develop it"):
        decode(tiff(RGB, PHOTOMETRIC_RGB, more=more))


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
def test_truncated_pixels_are_damaged(depth: int, planar: bool) -> None:
    pixels = RGB if depth == 8 else deep(RGB)
    body = pixels.transpose(2, 0, 1) if planar else pixels
    tags: Tags = {256: (3, [WIDTH]), 257: (3, [HEIGHT]), 258: (3, [depth] * 3), 262: (3, [2]), 277: (3, [3])}
    tags |= {273: (4, [8]), 279: (4, [body.nbytes]), 284: (3, [1])}
    if planar:
        tags |= {273: (4, [8, 8, 10**6]), 279: (4, [body.nbytes // 3] * 3), 284: (3, [2])}
    else:
        tags |= {257: (3, [10 * HEIGHT])}
    with pytest.raises(UserError, match="truncated or damaged"):
        decode(assembled(body.tobytes(), tags, "<", big=False))


@pytest.mark.parametrize("compress", [False, True])
def test_size_limit_counts_pixels_not_samples(monkeypatch: pytest.MonkeyPatch, compress: bool) -> None:
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", HEIGHT * WIDTH)  # Pillow refuses more than twice as many
    np.testing.assert_array_equal(decode(tiff(deep(RGB), PHOTOMETRIC_RGB, compress=compress)), RGB)


MANY = (
    np.stack([ROWS * 12, COLUMNS * 10, ROWS + COLUMNS, ROWS * 5 + 60, COLUMNS * 7 + 20], -1).astype(np.uint16) * 250 + 3
)


def decode_all(data: bytes, **options: object) -> np.ndarray:
    return ImageDecoder(**{"channels": 5, "bits": 16, **options}).decode(data, "x.tif")  # type: ignore[arg-type]


@pytest.mark.parametrize(("compress", "predict"), [(False, False), (True, True)])
@pytest.mark.parametrize("tile", [None, 16])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", True)])
def test_all_channels_in_their_depth(
    order: str, big: bool, planar: bool, tile: int | None, compress: bool, predict: bool
) -> None:
    layout = {"order": order, "big": big, "planar": planar, "tile": tile, "compress": compress, "predict": predict}
    np.testing.assert_array_equal(decode_all(tiff(MANY, BLACK_IS_ZERO, **layout)), MANY)  # type: ignore[arg-type]
    of_rgb = tiff(MANY, PHOTOMETRIC_RGB, more={338: (3, [0, 2])}, **layout)  # type: ignore[arg-type]
    np.testing.assert_array_equal(decode_all(of_rgb), MANY)  # alpha is a channel like the others
    inverted = tiff(~MANY, WHITE_IS_ZERO, **layout)  # type: ignore[arg-type]
    np.testing.assert_array_equal(decode_all(inverted), MANY)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("dtype", "kind"), [(np.int16, 2), (np.uint32, 1), (np.int32, 2), (np.float32, 3)])
def test_other_numbers_are_read_with_their_range(dtype: type, kind: int, order: str) -> None:
    values = (MANY.astype(np.int64) // 4 - 5000).astype(dtype) if kind != 1 else MANY.astype(dtype)
    data = tiff(values, BLACK_IS_ZERO, order=order, compress=True, more={339: (3, [kind] * 5)})
    with pytest.raises(UserError, match=r"data\.value_range=\[low, high\]"):
        decode_all(data)
    low, high = -1000, 7000
    expected = np.rint(65535 * np.clip((values.astype(float) - low) / (high - low), 0, 1))
    np.testing.assert_array_equal(decode_all(data, value_range=(low, high)), expected)
    gray = tiff(values[..., 0], BLACK_IS_ZERO, order=order, more={339: (3, [kind])})
    decoded = decode_all(gray, channels=1, value_range=(low, high))
    np.testing.assert_array_equal(decoded[..., 0], expected[..., 0])


def with_pages(*pages: bytes) -> bytes:
    """Return one little-endian TIFF of the pages of several, each moved behind the last one."""
    data, pointer = bytearray(pages[0]), 4
    for page in pages[1:]:
        while start := struct.unpack_from("<I", data, pointer)[0]:
            pointer = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
        shift = len(data)
        moved = bytearray(page)
        first = struct.unpack_from("<I", page, 4)[0]
        for position in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", page, first)[0], 12):
            tag, kind, count, value = struct.unpack_from("<HHII", page, position)
            outside = {1: 1, 3: 2, 4: 4}[kind] * count > 4
            if outside:
                moved[position + 8 : position + 12] = struct.pack("<I", value + shift)
            if tag == 273:  # offsets of strips
                where = value if outside else position + 8
                for item in range(count):
                    (offset,) = struct.unpack_from("<I", page, where + 4 * item)
                    moved[where + 4 * item : where + 4 * item + 4] = struct.pack("<I", offset + shift)
        data[pointer : pointer + 4] = struct.pack("<I", shift + first)
        data += moved
    return bytes(data)


def test_pages_are_the_first_one_or_channels() -> None:
    pages = with_pages(*(tiff(MANY[..., page], BLACK_IS_ZERO, compress=True) for page in range(5)))
    np.testing.assert_array_equal(decode_all(pages, pages="channels"), MANY)
    np.testing.assert_array_equal(decode_all(pages, channels=1), MANY[..., :1])
    three = with_pages(*(tiff(MANY[..., page], BLACK_IS_ZERO) for page in range(3)))
    np.testing.assert_array_equal(decode_all(three, channels=3, pages="channels"), MANY[..., :3])
    mixed = with_pages(tiff(MANY[..., :2], BLACK_IS_ZERO), tiff(MANY[..., 2:], PHOTOMETRIC_RGB))
    np.testing.assert_array_equal(decode_all(mixed, pages="channels"), MANY)
    thumbnail = tiff(GRAY[::2, ::2], BLACK_IS_ZERO, more={254: (4, [1])})
    np.testing.assert_array_equal(decode_all(with_pages(tiff(MANY, BLACK_IS_ZERO), thumbnail), pages="channels"), MANY)
    rgb = tiff(RGB, PHOTOMETRIC_RGB)
    np.testing.assert_array_equal(decode_all(rgb, channels=3, bits=8, pages="channels"), RGB)


@pytest.mark.parametrize(
    ("pages", "options", "message"),
    [
        (
            [GRAY] * 5,
            {},
            r"has 1 channel, but data\.channels is 5\. It is the first of 5 pages: set data\.pages=channels",
        ),
        ([GRAY] * 4, {"pages": "channels"}, r"has 4 channels, but data\.channels is 5\. They are those of its 4 pages"),
        ([GRAY, GRAY[1:]], {"channels": 2, "pages": "channels"}, r"pages have different sizes \(24 x 19, 24 x 20\)"),
        ([GRAY, deep(GRAY)], {"channels": 2, "pages": "channels"}, "pages have different kinds of pixels"),
        ([RGB], {}, r"has 3 channels, but data\.channels is 5\. Set data\.channels=3 if all images have as many"),
        (
            [MANY],
            {"channels": 3, "bits": 8},
            r"5 channels that are not RGB is not supported\. Save .* or set data\.channels=5",
        ),
        ([MANY[..., :2].astype(np.float32)], {"channels": 2}, r"channels are float32, .*: set data\.value_range"),
    ],
)
def test_pages_and_channels_that_are_not_wanted_are_named(
    pages: list[np.ndarray], options: dict[str, object], message: str
) -> None:
    kinds = {"f": {339: (3, [3, 3])}}
    files = [
        tiff(page, PHOTOMETRIC_RGB if page is RGB else BLACK_IS_ZERO, more=kinds.get(page.dtype.kind)) for page in pages
    ]
    with pytest.raises(UserError, match=message):
        decode_all(with_pages(*files), **options)


def test_pages_that_refer_to_each_other_end() -> None:
    data = bytearray(with_pages(tiff(GRAY, BLACK_IS_ZERO), tiff(GRAY, BLACK_IS_ZERO)))
    first = struct.unpack_from("<I", data, 4)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0])[0]
    end = second + 2 + 12 * struct.unpack_from("<H", data, second)[0]
    data[end : end + 4] = struct.pack("<I", first)
    image = ImageDecoder(channels=2, pages="channels").decode(bytes(data), "x.tif")
    np.testing.assert_array_equal(image, np.stack([GRAY, GRAY], -1))
