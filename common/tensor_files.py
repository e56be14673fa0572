"""Safetensors files with the rights that the umask gives and with the system's own errors."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save_file
from torch import Tensor


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a new file of contiguous CPU tensors.

    safetensors (0.8 and later) writes to a temporary file for its owner alone (0600), whatever the umask, and renames it.
    Its rights are set to those of a file that Python opens at the same place: the umask's, and a folder's default ACL.
    """
    with path.open("wb") as file:
        mode = os.fstat(file.fileno()).st_mode & 0o777
    save_file(dict(tensors), path, metadata=None if metadata is None else dict(metadata))
    path.chmod(mode)


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
