"""Fuzz the decoders against each other: metadata and wrapping never change the pixels of an image, whichever decoder reads it.

One picture is wrapped in many ways: formats, depths, an opaque alpha, byte orders, planes, trailing bytes; with damaged, long and
contradictory metadata. It must decode to the pixels of the plain file, turned by its EXIF orientation.
"""

import io
import struct
import zlib
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from common.data.images.decode import ImageDecoder

ORIENTATION = 0x0112
LONG_TEXT = b"x" * 1_200_000
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
BLOCKS = (
    b"",
    b"\0",
    b"garbage!",
    b"II*\0",
    b"MM\0*\0\0\xff\xff",
    b"8BIM\x03\xed\0",
    b"MPF\0II*\0",
    b"Exif\0\0",
    XMP,
    bytes(range(256)),
)
SEGMENTS = (
    (0xE1, b"http://ns.adobe.com/xap/1.0/\0"),
    (0xE2, b"ICC_PROFILE\0\x01\x01"),
    (0xE2, b"MPF\0"),
    (0xED, b"Photoshop 3.0\0"),
    (0xE4, b""),
    (0xFE, b""),
)
CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"gAMA", b"sRGB", b"pHYs", b"tIME", b"sBIT", b"cICP", b"acTL", b"prVt")
TAGS = (270, 271, 306, 315, 700, 33432, 33723, 34377, 34665, 34675, 34853, 37724, 50000)
JPEGS = ("jpeg", "jpeg_gray", "jpeg_cmyk", "jpeg_progressive")
PNGS = ("png", "png_alpha", "png_16", "png_16_alpha", "png_interlaced")
TIFFS = ("tiff", "tiff_alpha", "tiff_16", "tiff_16_alpha")
CARRIERS = (*JPEGS, *PNGS, *TIFFS, "webp", "webp_alpha")


class Case(NamedTuple):
    """A wrapping of the picture."""

    carrier: str
    orientation: int
    """0: no EXIF; -1: EXIF that cannot be read."""
    big_endian: bool
    long_value: bool
    damaged_entries: int
    """Damaged entries around that of the orientation."""
    metadata: list[tuple[int, bytes]]
    """Kind and content of blocks."""
    trailing: bytes
    planar: bool


def cases() -> st.SearchStrategy[Case]:
    """Return the strategy of wrappings."""
    block = st.one_of(st.sampled_from((*BLOCKS, LONG_TEXT)), st.binary(max_size=40))
    return st.builds(
        Case,
        carrier=st.sampled_from(CARRIERS),
        orientation=st.integers(-1, 8),
        big_endian=st.booleans(),
        long_value=st.booleans(),
        damaged_entries=st.integers(0, 3),
        metadata=st.lists(st.tuples(st.integers(0, 99), block), max_size=4),
        trailing=st.sampled_from((b"", b"\0", b"\n", b"\xff\xd9", b"trailing" * 9)),
        planar=st.booleans(),
    )


def check(case: Case) -> bool:
    """Decode the picture in its wrapping; raise if it is refused, or differs from the plain file turned by its orientation."""
    pixels = ImageDecoder().decode(wrapped(case), "x")
    plain = PICTURE if case.carrier not in JPEGS else ImageDecoder().decode(JPEG_FILES[case.carrier], "x")
    np.testing.assert_array_equal(pixels, turned(plain, case.orientation))
    return True


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return the pixels turned by an EXIF orientation."""
    turns = {
        2: (False, 0, 1),
        3: (False, 1, 1),
        4: (False, 1, 0),
        5: (True, 0, 0),
        6: (True, 0, 1),
        7: (True, 1, 1),
        8: (True, 1, 0),
    }
    transpose, flip_rows, flip_columns = turns.get(orientation, (False, 0, 0))
    pixels = pixels.transpose(1, 0, 2) if transpose else pixels
    return pixels[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def exif_block(case: Case) -> bytes:
    """Return an EXIF block with the case's orientation, between entries that point outside of it."""
    if case.orientation < 0:
        return BLOCKS[1 + case.damaged_entries]
    order = ">" if case.big_endian else "<"
    value = struct.pack(f"{order}{'I' if case.long_value else 'H'}", case.orientation).ljust(4, b"\0")
    damaged = [struct.pack(f"{order}HHII", tag, 2, 5000, 2**31) for tag in (0x010F, 0x0110, 0x0131)][
        : case.damaged_entries
    ]
    entries = [
        *damaged[:2],
        struct.pack(f"{order}HHI", ORIENTATION, 4 if case.long_value else 3, 1) + value,
        *damaged[2:],
    ]
    header = (b"MM" if case.big_endian else b"II") + struct.pack(
        f"{order}HIH", 42, 8, len(entries) + case.damaged_entries
    )
    return header + b"".join(entries)


def wrapped(case: Case) -> bytes:
    """Return the file of a case."""
    exif = exif_block(case) if case.orientation else b""
    if case.carrier in JPEGS:
        data = _jpeg(JPEG_FILES[case.carrier], exif, case.metadata)
    elif case.carrier in PNGS:
        data = _png(case.carrier, exif, case.metadata)
    elif case.carrier in TIFFS:
        data = _tiff(case)
    else:
        image = Image.fromarray(PICTURE).convert("RGBA" if case.carrier == "webp_alpha" else "RGB")
        blocks = {("icc_profile", "xmp")[kind % 2]: block for kind, block in case.metadata if block}
        data = _encoded(image, "WEBP", lossless=True, exact=True, exif=exif, **blocks)
    return data + case.trailing


def _jpeg(plain: bytes, exif: bytes, metadata: list[tuple[int, bytes]]) -> bytes:
    """Return a JPEG with metadata after its first marker."""
    blocks = [(0xE1, b"Exif\0\0" + exif)] if exif else []
    for kind, block in metadata:
        marker, prefix = SEGMENTS[kind % len(SEGMENTS)]
        blocks.append((marker, (prefix + block)[:65_000]))
    segments = [b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in blocks]
    return plain[:2] + b"".join(segments) + plain[2:]


def _png(carrier: str, exif: bytes, metadata: list[tuple[int, bytes]]) -> bytes:
    """Return a PNG with metadata between its header and its pixels; some of it has a wrong checksum."""
    rows, color, bits = PICTURE, 2, 8
    if "alpha" in carrier:
        rows, color = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)]), 6
    if "16" in carrier:
        rows, bits = (rows.astype(np.uint16) * 257).astype(">u2"), 16
    passes = _ADAM7 if "interlaced" in carrier else ((0, 0, 1, 1),)
    reduced = [rows[top::down, left::across] for top, left, down, across in passes]
    raw = b"".join(b"\0" + row.tobytes() for part in reduced if part.size for row in part)
    height, width = PICTURE.shape[:2]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, len(passes) > 1), 0)]
    chunks += [(b"eXIf", exif, 0)] if exif else []
    for kind, block in metadata:
        chunks.append(
            (CHUNKS[kind % len(CHUNKS)], b"key\0\0" + (zlib.compress(block) if kind % 2 else block), kind % 3)
        )
    chunks += [(b"IDAT", zlib.compress(raw), 0), (b"IEND", b"", 0)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body) ^ damage)
        for kind, body, damage in chunks
    )


def _tiff(case: Case) -> bytes:
    """Return an uncompressed TIFF with metadata tags of any type."""
    order = ">" if case.big_endian else "<"
    samples, extra = PICTURE, []
    if "alpha" in case.carrier:
        samples, extra = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)]), [(338, 3, [2])]
    if "16" in case.carrier:
        samples = (samples.astype(np.uint16) * 257).astype(f"{order}u2")
    height, width, count = samples.shape
    planes = samples.transpose(2, 0, 1) if case.planar else samples[None]
    body = b"".join(plane.tobytes() for plane in planes)
    part, num_parts = len(body) // len(planes), len(planes)
    tags = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [8 * samples.itemsize] * count),
        (259, 3, [1]),
        (262, 3, [2]),
    ]
    tags += [(273, 4, [8 + index * part for index in range(num_parts)]), (277, 3, [count]), (278, 3, [height])]
    tags += [(279, 4, [part] * num_parts), (284, 3, [2 if case.planar else 1]), *extra]
    if case.orientation:
        tags.append((ORIENTATION, 4 if case.long_value else 3, [case.orientation % 65536]))
    kinds = {
        tag: (kind, len(values), struct.pack(f"{order}{len(values)}{'HI'[kind - 3]}", *values))
        for tag, kind, values in tags
    }
    kinds |= {TAGS[kind % len(TAGS)]: (kind % 15, len(block), block) for kind, block in case.metadata}
    start = 8 + len(body)
    overflow_start, entries, overflow = start + 2 + 12 * len(kinds) + 4, b"", b""
    for tag, (kind, number, payload) in sorted(kinds.items()):
        inline = (
            payload.ljust(4, b"\0") if len(payload) <= 4 else struct.pack(f"{order}I", overflow_start + len(overflow))
        )
        overflow += payload if len(payload) > 4 else b""
        entries += struct.pack(f"{order}HHI", tag, kind, number) + inline
    header = (b"MM" if case.big_endian else b"II") + struct.pack(f"{order}HI", 42, start)
    return header + body + struct.pack(f"{order}H", len(kinds)) + entries + b"\0\0\0\0" + overflow


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _picture() -> np.ndarray:
    """Return an asymmetric picture of an odd size with noise, as uint8 RGB (H, W, 3)."""
    rows, columns = np.mgrid[0:13, 0:19]
    noise = np.random.default_rng(0).integers(0, 40, (13, 19, 3))
    return (np.stack([rows * 16, columns * 11, rows + columns], -1) + noise).clip(0, 255).astype(np.uint8)


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PICTURE = _picture()
JPEG_FILES = {
    "jpeg": _encoded(Image.fromarray(PICTURE), "JPEG"),
    "jpeg_gray": _encoded(Image.fromarray(PICTURE).convert("L"), "JPEG"),
    "jpeg_cmyk": _encoded(Image.fromarray(PICTURE).convert("CMYK"), "JPEG"),
    "jpeg_progressive": _encoded(Image.fromarray(PICTURE), "JPEG", progressive=True, subsampling=2),
}
