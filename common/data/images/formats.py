"""Image formats by their first bytes: which are read, and the names of others that are met among images.

The name of a file says nothing here. Only formats of photographs are read: Pillow passes others (PostScript, WMF) to external
programs.
"""

import re
import struct
from enum import StrEnum

FIRST_BYTES = 512
"""As many bytes of a file as decide its format."""


class Format(StrEnum):
    """Formats that are read; the values are Pillow's names, where it has one."""

    JPEG = "JPEG"
    PNG = "PNG"
    WEBP = "WEBP"
    BMP = "BMP"
    GIF = "GIF"
    TIFF = "TIFF"
    PPM = "PPM"
    JPEG2000 = "JPEG2000"
    AVIF = "AVIF"
    HEIC = "HEIC"
    ICO = "ICO"
    TGA = "TGA"
    NPY = "NPY"
    DICOM = "DICOM"


_MAGIC = (
    (b"\xff\xd8\xff", Format.JPEG),
    (b"\x89PNG\r\n\x1a\n", Format.PNG),
    (b"GIF87a", Format.GIF),
    (b"GIF89a", Format.GIF),
    (b"\x93NUMPY", Format.NPY),
    (b"\xff\x4f\xff\x51", Format.JPEG2000),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Format.JPEG2000),
)
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PPM = re.compile(rb"P[1-6fF](?:\s|#[^\r\n]*[\r\n])+\d+(?:\s|#[^\r\n]*[\r\n])+\d")
"""Width and height follow, with comments between."""
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
_CONVERT = "Convert it to JPEG or PNG, or remove it."
_DEVELOP = "Develop it and save it as JPEG, PNG or TIFF, or remove it."
_FRAMES = "Save its frames as images, or remove it."
_EXTRACT = "Extract it."
_NOT_AN_IMAGE = "Remove it."
_RAW = "a raw image of a camera"
_OTHERS = (
    (0, b"%PDF-", "a PDF document", _CONVERT),
    (0, b"%!PS", "a PostScript document", _CONVERT),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript document", _CONVERT),
    (0, b"\xd7\xcd\xc6\x9a", "a WMF drawing", _CONVERT),
    (40, b" EMF", "an EMF drawing", _CONVERT),
    (0, b"8BPS", "a Photoshop document", _CONVERT),
    (0, b"gimp xcf", "a GIMP document", _CONVERT),
    (0, b"\xff\x0a", "a JPEG XL image", _CONVERT),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", _CONVERT),
    (0, b"II\xbc\x01", "a JPEG XR image", _CONVERT),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR image", _CONVERT),
    (0, b"#?RADIANCE", "a Radiance HDR image", _CONVERT),
    (0, b"#?RGBE", "a Radiance HDR image", _CONVERT),
    (0, b"DDS ", "a DDS texture", _CONVERT),
    (0, b"qoif", "a QOI image", _CONVERT),
    (0, b"P7\n", "a PAM image", _CONVERT),
    (0, b"icns", "an Apple icon", _CONVERT),
    (0, b"\0\0\x02\0\x01", "a cursor", _CONVERT),
    (0, b"\x8aMNG\r\n", "an MNG animation", _FRAMES),
    (0, b"SIMPLE  =", "a FITS image", _CONVERT),
    (0, b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (8, b"CR\x02\0", _RAW, _DEVELOP),
    (0, b"FUJIFILMCCD-RAW", _RAW, _DEVELOP),
    (0, b"IIRO", _RAW, _DEVELOP),
    (0, b"IIRS", _RAW, _DEVELOP),
    (0, b"MMOR", _RAW, _DEVELOP),
    (0, b"IIU\0", _RAW, _DEVELOP),
    (0, b"FOVb", _RAW, _DEVELOP),
    (6, b"HEAPCCDR", _RAW, _DEVELOP),
    (4, b"ftypcrx ", _RAW, _DEVELOP),
    (4, b"ftyp", "a video", _FRAMES),
    (0, b"\x1a\x45\xdf\xa3", "a video", _FRAMES),
    (0, b"FLV\x01", "a video", _FRAMES),
    (0, b"OggS", "a video", _FRAMES),
    (0, b"\x30\x26\xb2\x75\x8e\x66", "a video", _FRAMES),
    (0, b"\0\0\x01\xba", "a video", _FRAMES),
    (0, b"\0\0\x01\xb3", "a video", _FRAMES),
    (8, b"AVI LIST", "a video", _FRAMES),
    (0, b"PK\x03\x04", "a ZIP archive", _EXTRACT),
    (0, b"\x1f\x8b\x08", "a gzip archive", _EXTRACT),
    (0, b"7z\xbc\xaf", "a 7z archive", _EXTRACT),
    (0, b"Rar!", "a RAR archive", _EXTRACT),
    (257, b"ustar", "a tar archive", _EXTRACT),
    (0, b"PAR1", "a parquet table", "Set data.source to it, or remove it."),
    (0, b"\0\x05\x16\x07", "a file of macOS about another one (AppleDouble)", _NOT_AN_IMAGE),
    (0, b"/9j/4", "a JPEG in base64", "Decode it."),
    (0, b"iVBORw0KGgo", "a PNG in base64", "Decode it."),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the image", "Run `git lfs pull`."),
)
"""Offset, bytes, name and remedy of what is met among images, but is not read; the first that fits counts."""


def find_format(first_bytes: bytes) -> Format | None:
    """Return the format of a file that begins with these bytes; None if it is not one that is read.

    TGA has no magic bytes: a header whose fields are all plausible counts.
    """
    for magic, kind in _MAGIC:
        if first_bytes.startswith(magic):
            return kind
    if first_bytes.startswith(b"DICM", 128):  # before TIFF, whose header it may begin with
        return Format.DICOM
    if first_bytes.startswith(_TIFF_MAGIC) and first_bytes[8:10] != b"CR":
        return Format.TIFF
    if first_bytes.startswith(b"RIFF") and first_bytes[8:12] == b"WEBP":
        return Format.WEBP
    if first_bytes.startswith(b"BM") and int.from_bytes(first_bytes[14:18], "little") in _BMP_HEADERS:
        return Format.BMP
    if _PPM.match(first_bytes):
        return Format.PPM
    if first_bytes.startswith(b"\0\0\x01\0") and first_bytes[4:6] != b"\0\0" and first_bytes[9:10] == b"\0":
        return Format.ICO
    if first_bytes[4:8] == b"ftyp":
        return _find_heif(first_bytes)
    return Format.TGA if _is_tga(first_bytes) and _find_other(first_bytes) is None else None


def _find_heif(first_bytes: bytes) -> Format | None:
    """Return the format by the brands of an ISO base media file: the major one, or those it is compatible with."""
    size = int.from_bytes(first_bytes[:4], "big")
    compatible = {first_bytes[start : start + 4] for start in range(16, min(size, len(first_bytes)), 4)}
    major = first_bytes[8:12]
    for brands in ({major}, compatible if major in (b"mif1", b"mif2", b"msf1", b"miaf", b"MiHB") else set[bytes]()):
        if brands & _AVIF_BRANDS:
            return Format.AVIF
        if brands & _HEIC_BRANDS:
            return Format.HEIC
    return Format.HEIC if major in (b"mif1", b"mif2", b"msf1") else None


def _is_tga(first_bytes: bytes) -> bool:
    """Return whether the first 18 bytes are a plausible header of a TGA."""
    if len(first_bytes) < 18:
        return False
    _, mapped, kind, _, colors, depth, _, _, width, height, bits, flags = struct.unpack_from(
        "<BBBHHBHHHHBB", first_bytes
    )
    bits_of_kind = {1: (8,), 2: (16, 24, 32), 3: (1, 8, 16), 9: (8,), 10: (16, 24, 32), 11: (8, 16)}
    palette = depth in (15, 16, 24, 32) and colors > 0 if mapped == 1 else mapped == 0
    return palette and bits in bits_of_kind.get(kind, ()) and width > 0 and height > 0 and not flags & 0xC0


def looks_like_image(first_bytes: bytes) -> bool:
    """Return whether a file that begins with these bytes (`FIRST_BYTES` suffice) is an image by its magic bytes.

    TGA has none, so it does not count here: a TGA is known by its name.
    """
    return find_format(first_bytes) not in (None, Format.TGA)


def describe_other(first_bytes: bytes) -> tuple[str, str] | None:
    """Return the name and the remedy of a known kind of file that is not read, None if it is read or unknown."""
    return None if find_format(first_bytes) is not None else _find_other(first_bytes)


def _find_other(first_bytes: bytes) -> tuple[str, str] | None:
    for offset, magic, name, remedy in _OTHERS:
        if first_bytes.startswith(magic, offset):
            return name, remedy
    text = first_bytes[:FIRST_BYTES].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "an SVG drawing", _CONVERT
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, not the image", "Download it again, or remove it."
    return None
