"""Failures of the storage or of a limit while the file of an image is read, which are no fault of the image."""

import errno
import os
from pathlib import Path

from common.errors import ProcessError

_LIMITS = {
    errno.EMFILE: "Raise the limit (`ulimit -n 4096`)",
    errno.ENFILE: "Close other programs",
    errno.ENOMEM: "Give the run more memory",
}
_NAMES = {
    "ESTALE",
    "ETIMEDOUT",
    "ENOTCONN",
    "ESHUTDOWN",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "ENETDOWN",
    "ENETUNREACH",
    "ENETRESET",
    "ECONNRESET",
    "ECONNABORTED",
    "ECONNREFUSED",
    "EREMOTEIO",
    "EKEYEXPIRED",
    "ENOKEY",
}
_STORAGE = {number for number, name in errno.errorcode.items() if name in _NAMES}
"""Errors of network file systems. EIO is not one: a disk gives it for a file it has lost."""


def read_file(path: Path) -> bytes:
    """Return the bytes of a file; raise ProcessError if the storage or a limit is at fault, else OSError."""
    try:
        try:
            return path.read_bytes()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return path.read_bytes()  # replaced on the server: the second call looks its name up again
    except OSError as error:
        raise_storage_failure(error, os.fsencode(path).decode("utf-8", "backslashreplace"))
        raise


def raise_storage_failure(error: OSError, name: str) -> None:
    """Raise ProcessError if reading an image failed for a reason that is no fault of the image."""
    if error.errno in _LIMITS or error.errno in _STORAGE:
        remedy = _LIMITS.get(error.errno or 0, "Wait until the storage answers,")
        raise _failure(name, error.strerror or str(error), remedy) from error


def out_of_memory(name: str) -> ProcessError:
    """Return the error for an image, below the size limit, for which there is no memory."""
    return _failure(name, "memory ran out", _LIMITS[errno.ENOMEM])


def _failure(name: str, reason: str, remedy: str) -> ProcessError:
    """Return the error for an image that cannot be read for a reason that is no fault of its own."""
    words = f"{name}: cannot be read ({reason}), which is no fault of the image."
    return ProcessError(f"{words} {remedy} and rerun the same command.")
