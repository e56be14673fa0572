"""TIFF directories, of TIFF files and EXIF blocks: reading of tags, and a file that has only given ones.

Damaged directories are read as far as they go: an entry counts by itself, whatever the others hold.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from common.data.images.stored_pixels import UnsupportedImageError

_BYTE, _ASCII, SHORT, LONG, UNDEFINED = 1, 2, 3, 4, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
"""Character of `struct` by type."""
_ORDERS = {b"II": "<", b"MM": ">"}
_MAX_ENTRIES = 4096


class Entry(NamedTuple):
    """A tag's type, number of values and bytes; the bytes are empty if they lie outside of the file."""

    kind: int
    num_values: int
    payload: bytes


class Directory(NamedTuple):
    """A directory of a TIFF file: a page."""

    order: str
    """Byte order, as in `struct`."""
    entries: Mapping[int, Entry]
    next_offset: int
    """Where the next directory begins; 0 if there is none."""

    def integers(self, tag: int) -> tuple[int, ...]:
        """Return the values of an integer tag; empty if it is missing, damaged or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS or not entry.payload:
            return ()
        return struct.unpack(f"{self.order}{entry.num_values}{_INTEGERS[entry.kind]}", entry.payload)

    def integer(self, tag: int, default: int) -> int:
        """Return the first value of an integer tag, or the default."""
        return next(iter(self.integers(tag)), default)


def read_directories(data: bytes) -> list[Directory]:
    """Return the directories of a TIFF or BigTIFF file in order, at most 4,096; one that refers to an earlier one is the last."""
    found, seen = list[Directory](), set[int]()
    header = _read_header(data)
    offset = 0 if header is None else header.first
    while offset and offset not in seen and len(found) < _MAX_ENTRIES:
        seen.add(offset)
        directory = read_directory(data, offset)
        if directory is None:
            break
        found.append(directory)
        offset = directory.next_offset
    return found


def read_directory(data: bytes, offset: int | None = None) -> Directory | None:
    """Return the directory of a TIFF or BigTIFF file at an offset, or the first one; None if there is none."""
    header = _read_header(data)
    if header is None:
        return None
    order, big = header.order, header.big
    first = header.first if offset is None else offset
    count_format, entry_format = (f"{order}Q", f"{order}HHQ8s") if big else (f"{order}H", f"{order}HHI4s")
    start, size = first + struct.calcsize(count_format), struct.calcsize(entry_format)
    if start > len(data):
        return None
    count = min(struct.unpack_from(count_format, data, first)[0], (len(data) - start) // size, _MAX_ENTRIES)
    end = start + count * size
    entries = {}
    for tag, kind, values, inline in struct.iter_unpack(entry_format, data[start:end]):
        entries[tag] = Entry(kind, values, _payload(data, order, kind, values, inline))
    pointer = f"{order}{'Q' if big else 'I'}"
    has_next = end + struct.calcsize(pointer) <= len(data)
    return Directory(order, entries, struct.unpack_from(pointer, data, end)[0] if has_next else 0)


class _Header(NamedTuple):
    """Byte order, whether it is a BigTIFF, and the offset of the first directory."""

    order: str
    big: bool
    first: int


def _read_header(data: bytes) -> _Header | None:
    """Return the header of a TIFF or BigTIFF file, None if it has none."""
    order = _ORDERS.get(data[:2])
    if order is None or len(data) < 8:
        return None
    magic = struct.unpack_from(f"{order}H", data, 2)[0]
    if magic not in (42, 43) or (magic == 43 and len(data) < 16):
        return None
    big = magic == 43
    first = struct.unpack_from(f"{order}Q", data, 8)[0] if big else struct.unpack_from(f"{order}I", data, 4)[0]
    return _Header(order, big, first)


def _payload(data: bytes, order: str, kind: int, count: int, inline: bytes) -> bytes:
    """Return the bytes of an entry's values: they are `inline`, or where it points."""
    length = _SIZES.get(kind, 0) * count
    if length <= len(inline):
        return inline[:length]
    offset = struct.unpack(f"{order}{'Q' if len(inline) == 8 else 'I'}", inline)[0]
    return data[offset : offset + length] if offset + length <= len(data) else b""


def with_entries(data: bytes, order: str, entries: Mapping[int, Entry]) -> bytes:
    """Return a TIFF file whose only directory has these entries; `data` follows its header, so offsets into `data` hold.

    Raise UnsupportedImageError for files above 4 GiB, which need 64-bit offsets.
    """
    if len(data) > 2**32 - 2**24:
        raise UnsupportedImageError("the TIFF file exceeds 4 GiB. Downscale or remove it.")
    body = data + b"\0" * (len(data) % 2)
    end_of_directory = len(body) + 2 + 12 * len(entries) + 4
    directory, overflow = struct.pack(f"{order}H", len(entries)), b""
    for tag, (kind, count, payload) in sorted(entries.items()):
        inline = payload.ljust(4, b"\0")
        if len(payload) > 4:
            inline = struct.pack(f"{order}I", end_of_directory + len(overflow))
            overflow += payload + b"\0" * (len(payload) % 2)
        directory += struct.pack(f"{order}HHI", tag, kind, count) + inline
    header = data[:2] + struct.pack(f"{order}HI", 42, len(body))
    return b"".join((header, memoryview(body)[8:], directory, b"\0" * 4, overflow))


def packed(order: str, kind: int, *values: int) -> Entry:
    """Return the entry of integer values."""
    return Entry(kind, len(values), struct.pack(f"{order}{len(values)}{_INTEGERS[kind]}", *values))
