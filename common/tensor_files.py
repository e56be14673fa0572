"""Safetensors files with the umask's permissions and the system's own errors."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from common.files import fsync


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a new file of contiguous CPU tensors.

    safetensors (0.8 and later) writes to a temporary file with mode 0600, whatever the umask, and renames it. Temporary files
    that a killed process left in this folder are removed. The permissions are set to those of a file that Python creates at the
    same path: they follow the umask and the folder's default ACL.
    """
    path.unlink(missing_ok=True)
    for leftover in filter(_is_leftover, path.parent.glob(".tmp??????")):
        leftover.unlink(missing_ok=True)
    with path.open("xb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    if stat.S_IMODE(path.stat().st_mode) != mode:
        with suppress(PermissionError):  # a file system with fixed permissions
            path.chmod(mode)
    fsync(path)


def _is_leftover(path: Path) -> bool:
    """Return whether a file looks like a temporary file of safetensors: owned by this user, with mode 0600."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600 and status.st_uid == os.geteuid()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raise SafetensorError if the content is damaged, OSError if the system cannot read the file. The library itself reports
    every file that it cannot open as missing, and it needs a file system that supports memory mapping (torch, which maps files
    too, raises RuntimeError); so a file that it fails to read is read again by Python.
    """
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError):
        return dict(load(path.read_bytes()))


def check_readable(path: Path) -> None:
    """Raise the system's own OSError if a file cannot be opened; call it before safetensors, which reports another error."""
    path.open("rb").close()


__all__ = ["SafetensorError", "check_readable", "read_tensors", "write_tensors"]
