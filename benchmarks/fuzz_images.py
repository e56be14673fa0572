"""Fuzz the data path from the bytes of an image to its views: any damaged file ends as an image or as one UserError.

Valid files of every format are truncated, bit-flipped, overwritten, spliced and given absurd sizes; some cases are random bytes
after a format's magic bytes.
"""

import io
import struct

import numpy as np
from hypothesis import strategies as st
from PIL import Image, features

from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.supervised import AugmentConfig, EvaluationTransform, build_supervised_transform
from common.data.images.decode import ImageDecoder
from common.errors import UserError
from common.rng import SampleKey

MAX_PIXELS = 4_000_000
KEY = SampleKey(0, 0, 0, 0)
VIEWS = (
    build_multi_crop(CropsConfig(global_size=16, local_size=8, num_local=2), 0, color_in_worker=True),
    build_supervised_transform(AugmentConfig(), 16, 0, mean=(0.5, 0.5, 0.5)),
    EvaluationTransform(16, 0.875),
)
MAGIC = (
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"RIFF\x40\0\0\0WEBPVP8 ",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"P6\n",
    b"",
)
SIZES = (0, 1, 2, 255, 256, 20_000, 65_535, 2**16, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def valid_files() -> list[bytes]:
    """Return a small file of every supported format and color mode."""
    rows, columns = np.mgrid[0:20, 0:32]
    picture = Image.fromarray(np.stack([rows * 12, columns * 7, rows + columns], -1).astype(np.uint8))
    palette, clear = picture.quantize(32), picture.convert("RGBA")
    clear.putalpha(Image.fromarray((columns * 8).astype(np.uint8)))
    deep = Image.fromarray((rows * 3000).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a note"
    wanted: list[tuple[Image.Image, str, dict[str, object]]] = [
        *((image, "JPEG", {}) for image in (picture, picture.convert("L"), picture.convert("CMYK"))),
        (picture, "JPEG", {"progressive": True, "exif": exif}),
        (picture, "JPEG", {"restart_marker_rows": 1, "subsampling": 0}),
        *((image, "PNG", {}) for image in (picture, palette, clear, deep, picture.convert("1"), picture.convert("LA"))),
        (picture, "PNG", {"exif": exif, "compress_level": 0}),
        *((image, "WEBP", {"lossless": lossless}) for image in (picture, clear) for lossless in (False, True)),
        (picture, "WEBP", {"save_all": True, "append_images": [clear]}),
        (palette, "GIF", {"save_all": True, "append_images": [picture.rotate(90)]}),
        *((image, "BMP", {}) for image in (picture, palette, clear)),
        *((picture, "TIFF", {"compression": kind}) for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg")),
        *((image, "TIFF", {}) for image in (deep, palette, Image.fromarray(rows.astype(np.float32)))),
        *((image, "PPM", {}) for image in (picture, deep)),
        (picture, "TGA", {"compression": "tga_rle"}),
        (clear, "ICO", {"sizes": [(16, 16)]}),
    ]
    wanted += [(picture, "JPEG2000", {})] if features.check("jpg_2000") else []
    wanted += [(picture, "AVIF", {})] if features.check("avif") else []
    return [_encoded(image, kind, options) for image, kind, options in wanted]


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@st.composite
def damaged_files(draw: st.DrawFn, files: list[bytes]) -> bytes:
    """Draw the bytes of a file after up to 4 kinds of damage."""
    data = bytearray(draw(st.sampled_from(files)))
    for kind in draw(
        st.lists(st.sampled_from(["flip", "cut", "size", "noise", "drop", "repeat", "splice"]), max_size=4)
    ):
        # Headers are short but matter most.
        position = draw(st.one_of(st.integers(0, min(64, len(data))), st.integers(0, len(data))))
        length = draw(st.integers(1, 40))
        if kind == "flip" and position < len(data):
            data[position] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[position:]
        elif kind == "size":
            order = draw(st.sampled_from([">I", "<I", ">H", "<H"]))
            value = draw(st.sampled_from(SIZES)) % (2**32 if order[1] == "I" else 2**16)
            data[position : position + struct.calcsize(order)] = struct.pack(order, value)
        elif kind == "noise":
            data[position : position + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "drop":
            del data[position : position + length]
        elif kind == "repeat":
            data[position:position] = data[position : position + length] * draw(st.integers(1, 4))
        elif kind == "splice":
            data[position:] = draw(st.sampled_from(files))[position:]
    return bytes(data)


def cases() -> st.SearchStrategy[bytes]:
    """Return the strategy of image files: damaged ones, and random bytes after a format's magic bytes."""
    noise = st.tuples(st.sampled_from(MAGIC), st.binary(max_size=200)).map(lambda parts: parts[0] + parts[1])
    return st.one_of(*[damaged_files(valid_files())] * 9, noise)


def check(data: bytes) -> bool:
    """Decode the bytes and compute all views; return whether they are an image. Propagate any error other than UserError."""
    try:
        image = ImageDecoder(MAX_PIXELS).decode(data, "x")
    except UserError as error:
        assert str(error).startswith("x: ") and "\n" not in str(error)
        return False
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
    assert 0 < image.shape[0] * image.shape[1] <= MAX_PIXELS
    for view in VIEWS:
        view([image], [KEY])
    return True
