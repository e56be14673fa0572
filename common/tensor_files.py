"""Safetensors files with the rights that the umask gives and with the system's own errors."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor

from common.files import flush


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a new file of contiguous CPU tensors.

    safetensors (0.8 and later) writes to a temporary file for its owner alone (0600), whatever the umask, and renames it; what a
    kill left of such files in this folder is removed. The rights are set to those of a file that Python opens at the same
    place: the umask's, and a folder's default ACL.
    """
    path.unlink(missing_ok=True)
    for leftover in filter(_is_leftover, path.parent.glob(".tmp??????")):
        leftover.unlink(missing_ok=True)
    with path.open("xb") as file:
        rights = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    if stat.S_IMODE(path.stat().st_mode) != rights:
        with suppress(PermissionError):  # a file system that has its own
            path.chmod(rights)
    flush(path)


def _is_leftover(path: Path) -> bool:
    """Tell whether a file is as safetensors makes its temporary ones: this user's own, for nobody else."""
    facts = path.lstat()
    return stat.S_ISREG(facts.st_mode) and stat.S_IMODE(facts.st_mode) == 0o600 and facts.st_uid == os.geteuid()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    SafetensorError means that the file's content is damaged, OSError that the system could not read it. The library itself
    reports every file that it cannot open as missing and needs a file system that maps files (torch, which maps too, raises
    RuntimeError); so what it cannot read is read by Python.
    """
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError):
        return dict(load(path.read_bytes()))


def check_readable(path: Path) -> None:
    """Raise the system's own OSError where a file cannot be opened; before a call of safetensors, which tells another."""
    path.open("rb").close()


__all__ = ["SafetensorError", "check_readable", "read_tensors", "write_tensors"]
