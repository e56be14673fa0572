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

from common.data.images.formats import FIRST_BYTES, Format, find_format
from common.data.images.storage_failures import raise_storage_failure
from common.errors import UserError

_log = logging.getLogger(__name__)

COMMON_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_RARE = (".jpe", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico")
IMAGE_EXTENSIONS = (*COMMON_EXTENSIONS, *_RARE)
SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@tmp", "@sharebin"),  # QNAP
        *("__macosx", "$recycle.bin", "system volume information", "lost+found", "__pycache__", "thumbnails"),
    )
)
"""Folders of operating systems and network storage, in lower case: thumbnails, deleted files, resource forks."""
_RAW_EXTENSIONS = (
    ".3fr",
    ".arw",
    ".cr2",
    ".dcr",
    ".dng",
    ".erf",
    ".iiq",
    ".kdc",
    ".mef",
    ".mos",
    ".nef",
    ".nrw",
    ".pef",
    ".srw",
)
"""Raw images of cameras that begin as a TIFF; most have a JPEG beside them."""


@dataclass
class Listing:
    """What a walk through a folder found: folders and images are yielded, the rest is counted."""

    root: Path
    """Folder of the data source: a link within it that leads to one of its parents, or back into it, is not followed."""
    left_out: Sequence[str] = ()
    """Names of files and folders that the configuration leaves out, with wildcards."""
    reads_arrays: bool = False
    """Whether NumPy arrays are images: where their channels, depth or range are known (`ImageDecoder.reads_arrays`)."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of entries that were passed over, by the reason."""
    inner: dict[str, list[str]] = field(default_factory=dict)
    """Names of the folders in each folder that `images` went through, by its path; only where there are any."""
    used: set[str] = field(default_factory=set)
    """Names in `left_out` that something had."""
    _said: dict[str, Path] = field(default_factory=dict)
    """Folders outside of the source whose links were logged, and the first link to each."""

    def __post_init__(self) -> None:
        """Normalize the names to be left out once: they are compared with every entry."""
        self._patterns = [(pattern, normalized(pattern)) for pattern in self.left_out]

    def entries(self, folder: Path) -> tuple[list[str], list[str]]:
        """Return the sorted names of the folders and of the files in `folder`, and count what is passed over.

        Passed over are hidden entries, folders of operating systems, dangling links, links to themselves, and what the
        configuration leaves out. Raise UserError if the folder cannot be read.
        """
        folders, files = list[str](), list[str]()
        try:
            with os.scandir(folder) as found:
                for entry in found:
                    if not self.left_out and entry.name[0] != "." and entry.is_file(follow_symlinks=False):
                        files.append(entry.name)  # the common case: a call less for each of a million
                    elif kind := self._kind(entry):
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
        return sorted(self._walk(folder, prefix))

    def has_images(self, folder: Path) -> bool:
        """Return whether there is an image in `folder` or its subfolders; the walk ends at the first."""
        return next(self._walk(folder, ""), None) is not None

    def is_image(self, folder: Path, name: str) -> bool:
        """Return whether a file is an image by its extension, or else by its first bytes; count it as passed over if not."""
        if name.lower().endswith(IMAGE_EXTENSIONS):
            return True
        extension = printable(Path(name).suffix.lower()) or "files without an extension"
        if extension in _RAW_EXTENSIONS:
            self.skipped[f"{extension} (raw images: develop them)"] += 1
            return False
        found = _format_of(folder / name)
        reason = self._why_not(name, found)
        if reason is None:
            return True
        self.skipped[f"{extension} ({reason})" if reason else extension] += 1
        return False

    def _why_not(self, name: str, found: Format | None) -> str | None:
        """Return why a file is passed over whose name tells nothing, "" for one that is no image; None for an image."""
        if found in (None, Format.TGA):  # TGA has no magic bytes
            return ""
        if found == Format.HEIC and not find_spec("pillow_heif"):
            return "HEIC: install pillow-heif"
        if found == Format.DICOM and (name.upper() == "DICOMDIR" or not find_spec("pydicom")):
            return 'DICOM: pip install -e ".[dicom]"' if name.upper() != "DICOMDIR" else "a directory of DICOM files"
        if found == Format.NPY and not self.reads_arrays:
            return "arrays: set data.channels, data.bit_depth or data.value_range to read them"
        return None

    def log_skipped(self, title: str) -> None:
        """Log what was passed over, in one line, and forget it."""
        if self.skipped:
            _log.info("data: passed over in %s: %s", title, self.describe_skipped())
            self.skipped.clear()

    def describe_skipped(self) -> str:
        """Return what was passed over: the number of entries by the reason."""
        return ", ".join(f"{count} {reason}" for reason, count in self.skipped.most_common())

    def _kind(self, entry: "os.DirEntry[str]") -> str:
        """Return folder or file; count the entry and return nothing if it is passed over."""
        try:
            kind = "folder" if entry.is_dir() else "file" if entry.is_file() else ""
        except OSError as error:  # a link to itself
            raise_storage_failure(error, printable(entry.path))
            kind = ""
        if not kind:
            self.skipped["dangling links" if entry.is_symlink() else "special files"] += 1
        elif entry.name.startswith("."):
            self.skipped[f"hidden {kind}s"] += 1
            return ""
        elif kind == "folder" and entry.name.lower() in SYSTEM_FOLDERS:
            self.skipped[f"folders '{entry.name}'"] += 1
            return ""
        elif self._is_left_out(entry.name):
            self.skipped[f"{kind}s in data.leave_out"] += 1
            return ""
        return kind

    def _is_left_out(self, name: str) -> bool:
        """Return whether the configuration leaves out a name: as it stands, whatever signs it has, or by a wildcard."""
        if not self._patterns:
            return False
        compared = normalized(name)
        found = [each for each, pattern in self._patterns if compared == pattern or fnmatch(compared, pattern)]
        self.used.update(found)
        return bool(found)

    def unused(self) -> list[str]:
        """Return the names that the configuration leaves out and that nothing had so far."""
        return [pattern for pattern in self.left_out if pattern not in self.used]

    def _walk(self, top: Path, top_prefix: str) -> Iterator[str]:
        """Yield the images in a folder and its subfolders. A stack, not recursion: folders may be thousands deep."""
        pending: list[tuple[Path, str, tuple[str, ...]]] = [(top, top_prefix, ())]
        while pending:
            folder, prefix, parents = pending.pop()
            folders, files = self.entries(folder)
            start = f"{prefix}/" if prefix else ""
            for name in files:
                if name.lower().endswith(IMAGE_EXTENSIONS) or self.is_image(folder, name):
                    yield start + name
            for name in folders:
                path = folder / name
                if self.is_followed(path, parents):
                    self.inner.setdefault(prefix, []).append(name)
                    on_the_way = (*parents, os.path.realpath(folder)) if path.is_symlink() else parents
                    pending.append((path, f"{prefix}/{name}" if prefix else name, on_the_way))

    def is_followed(self, folder: Path, parents: tuple[str, ...]) -> bool:
        """Return whether to list a subfolder: no link to a parent of it, to one of the source's, or to its other folders.

        `parents` are the real paths of the folders of the links on the way to it.
        """
        if not folder.is_symlink():
            return True
        target, root = os.path.realpath(folder), os.path.realpath(self.root)
        leads_up = any(_contains(target, parent) for parent in (*parents, os.path.realpath(folder.parent), root))
        if leads_up or _contains(root, target):
            self.skipped["links to folders that are read anyway"] += 1
            return False
        if (first := self._said.get(target)) is None:
            self._said[target] = folder
            _log.info("data: %s is a link to %s, whose images are read", printable(str(folder)), printable(target))
        elif first != folder:
            names = (printable(str(first)), printable(str(folder)), printable(target))
            _log.warning("data: %s and %s are links to the same folder, %s, whose images are read twice", *names)
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


def _format_of(path: Path) -> Format | None:
    """Return the format of an image by its first bytes; None if it is no image, or cannot be read."""
    try:
        with path.open("rb") as file:
            return find_format(file.read(FIRST_BYTES))
    except OSError as error:
        raise_storage_failure(error, printable(str(path)))
        return None
