"""Listing of the image files in a folder, and a count of everything that is passed over, with the reason."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib.util import find_spec
from pathlib import Path

from common.errors import UserError

_log = logging.getLogger(__name__)

COMMON_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_RARE = (".jpe", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico")
IMAGE_EXTENSIONS = (*COMMON_EXTENSIONS, *_RARE)
SYSTEM_FOLDERS = frozenset(
    ("@eadir", "__macosx", "$recycle.bin", "system volume information", "lost+found", "#recycle", "#snapshot")
)
"""Folders of operating systems and network storage, in lower case: thumbnails, deleted files, resource forks."""
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
_SIGNATURE_BYTES = 16


@dataclass
class Listing:
    """What a walk through a folder found: folders and images are yielded, the rest is counted."""

    root: Path
    """Folder of the data source: a link within it that leads to one of its parents, or back into it, is not followed."""
    left_out: Sequence[str] = ()
    """Names of files and folders that the configuration leaves out, with wildcards."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of entries that were passed over, by the reason."""
    _said: set[str] = field(default_factory=set)
    """Folders outside of the source whose links were logged."""

    def entries(self, folder: Path) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the files in `folder`, and count what is passed over.

        Passed over are hidden entries, folders of operating systems, dangling links, links to themselves, and what the
        configuration leaves out. Raise UserError if the folder cannot be read.
        """
        folders, files = list[str](), list[str]()
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    if kind := self._kind(entry):
                        (folders if kind == "folder" else files).append(entry.name)
        except OSError as error:
            raise UserError(
                f"data.source: the folder {printable(str(folder))} cannot be read ({error.strerror or error}). Make it readable, or"
                f" leave it out: data.leave_out=[{printable(folder.name)}]."
            ) from error
        return sorted(folders), sorted(files)

    def folders(self, folder: Path) -> list[str]:
        """Return the sorted names of the folders in `folder` that are followed: no links to a parent or to another folder."""
        return [name for name in self.entries(folder)[0] if self.is_followed(folder / name, ())]

    def images(self, folder: Path, prefix: str = "") -> list[str]:
        """Return the images in `folder` and its subfolders, sorted, as paths that start with `prefix`."""
        return sorted(self._walk(folder, prefix, (os.path.realpath(folder),)))

    def is_image(self, folder: Path, name: str) -> bool:
        """Return whether a file is an image by its extension, or else by its first bytes; count it as passed over if not."""
        if name.lower().endswith(IMAGE_EXTENSIONS):
            return True
        path = folder / name
        extension = printable(path.suffix.lower()) or "files without an extension"
        kind = _image_kind(path)
        if kind == "image" or (kind == "heif" and find_spec("pillow_heif")):
            return True
        self.skipped[f"{extension} (HEIC: install pillow-heif)" if kind == "heif" else extension] += 1
        return False

    def log_skipped(self, title: str) -> None:
        """Log what was passed over, in one line, and forget it."""
        if self.skipped:
            counts = ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())
            _log.info("data: passed over in %s: %s", title, counts)
            self.skipped.clear()

    def _kind(self, entry: "os.DirEntry[str]") -> str:
        """Return folder or file; count the entry and return nothing if it is passed over."""
        try:
            kind = "folder" if entry.is_dir() else "file" if entry.is_file() else ""
        except OSError:  # a link to itself
            kind = ""
        if not kind:
            self.skipped["dangling links" if entry.is_symlink() else "special files"] += 1
        elif entry.name.startswith("."):
            self.skipped[f"hidden {kind}s"] += 1
            return ""
        elif kind == "folder" and entry.name.lower() in SYSTEM_FOLDERS:
            self.skipped[f"folders '{entry.name}'"] += 1
            return ""
        elif any(fnmatch(entry.name, pattern) for pattern in self.left_out):
            self.skipped[f"{kind}s in data.leave_out"] += 1
            return ""
        return kind

    def _walk(self, folder: Path, prefix: str, parents: tuple[str, ...]) -> Iterator[str]:
        """Yield the images in a folder and its subfolders; `parents` are the real paths of the folders on the way to it."""
        folders, files = self.entries(folder)
        for name in files:
            if self.is_image(folder, name):
                yield f"{prefix}/{name}" if prefix else name
        for name in folders:
            if self.is_followed(folder / name, parents):
                real_path = os.path.realpath(folder / name)
                yield from self._walk(folder / name, f"{prefix}/{name}" if prefix else name, (*parents, real_path))

    def is_followed(self, folder: Path, parents: tuple[str, ...]) -> bool:
        """Return whether to list a subfolder: no link to a parent of it, to one of the source's, or to its other folders."""
        if not folder.is_symlink():
            return True
        target, root = os.path.realpath(folder), os.path.realpath(self.root)
        leads_up = any(_contains(target, parent) for parent in (*parents, root))
        if leads_up or _contains(root, target):
            self.skipped["links to folders that are read anyway"] += 1
            return False
        if target not in self._said:
            self._said.add(target)
            _log.info("data: %s is a link to %s, whose images are read", printable(str(folder)), printable(target))
        return True


def printable(name: str) -> str:
    """Return a file name as text that can be printed and written to JSON: bytes that are not UTF-8 become escapes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def normalized(name: str) -> str:
    """Return a name as it is compared: in Unicode's NFC, as text that can be printed."""
    return unicodedata.normalize("NFC", printable(name))


def _contains(folder: str, path: str) -> bool:
    """Return whether a real path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _image_kind(path: Path) -> str:
    """Return image, heif, or nothing, by the first bytes of a file."""
    try:
        with path.open("rb") as file:
            start = file.read(_SIGNATURE_BYTES)
    except OSError:
        return ""
    if start[4:8] == b"ftyp":
        return "heif" if start[8:12] in _HEIF_BRANDS else "image" if start[8:12] in (b"avif", b"avis") else ""
    is_webp = start[:4] == b"RIFF" and start[8:12] == b"WEBP"
    is_bitmap = start[:2] == b"BM" and start[6:10] == b"\0\0\0\0"
    is_netpbm = start[:1] == b"P" and start[1:2] in b"123456" and start[2:3] in (b"\n", b" ", b"\r", b"\t")
    return "image" if start.startswith(_SIGNATURES) or is_webp or is_bitmap or is_netpbm else ""
