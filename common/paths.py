"""User-given paths: `~` is expanded, and a path that the system cannot look up is rejected before anything is opened.

A path is not identity: a slash at its end, a link or another mount point changes no number.
"""

import errno
import glob
import os
from pathlib import Path

from common.errors import UserError

PATH_KEYS = ("data.source", "data.subset_file", "init", "token_labels.labels")
"""Keys of recipes that may be paths: what is there changes numbers, where it is does not."""
BUNDLED = ("digits", "digits_identities")
"""Datasets that are no paths."""
_LOCAL = "local-dir:"
LONGEST_FILE = "checkpoints/.removing-step-000000000/.state.safetensors.writing"
"""Longest path of a file within the folder of a run, about."""
MAX_NAME_BYTES = 255
"""Longest name that common file systems store, in bytes of UTF-8."""


def without_final_slash(text: str) -> str:
    """Return a path without slashes at its end, which the shell's completion adds to folders."""
    stripped = text.rstrip("/")
    return text if not stripped or stripped in BUNDLED else stripped


def is_same_path(one: str, other: str) -> bool:
    """Return whether two values of a key name the same file or folder: by text, or after resolving `.` and links."""
    one, other = without_final_slash(one), without_final_slash(other)
    if one == other or {one, other} & {*BUNDLED}:
        return one == other
    return is_local(one) and is_local(other) and local_path(one).resolve() == local_path(other).resolve()


def is_local(text: str) -> bool:
    """Return whether a value of a key that may be a path is one: something is there, or it is a glob pattern."""
    return text not in BUNDLED and (os.path.exists(local_path(text)) or glob.has_magic(text))


def local_path(text: str) -> Path:
    """Return the path that a value of a key names if it is one: without `local-dir:`, and with the home folder for `~`."""
    return Path(os.path.expanduser(text.removeprefix(_LOCAL)))


def user_path(text: str, key: str) -> Path:
    """Return the path given by the recipe's `key`; it need not exist.

    Raise UserError if it cannot be looked up: too long, an unknown user, a folder without permission.
    """
    if not is_text(text):
        raise _error(text, key, "its name is not valid UTF-8, so no recipe can hold it")
    try:
        path = Path(text).expanduser()
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        # a name that is too long counts as missing where its folder is missing
        if any(len(os.fsencode(name)) > MAX_NAME_BYTES for name in path.parts):
            raise _error(text, key, os.strerror(errno.ENAMETOOLONG)) from None
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _error(text, key, reason) from error
    return path


def is_text(value: str) -> bool:
    """Return whether a word of the command line is valid text; bytes that are not become surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_length(folder: Path, key: str) -> None:
    """Raise UserError if the folder of a run, given by `key`, has so long a path that the run's files could not be written."""
    try:
        os.stat(folder / LONGEST_FILE)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise _error(str(folder), key, "too long for the files in it") from error


def _error(text: str, key: str, reason: str) -> UserError:
    """Return the error about a path that the system cannot look up."""
    shown = text if len(text) <= 200 else f"{text[:200]}..."
    return UserError(f"{key} = {shown!r}: this path cannot be looked up ({reason}). Set {key} to another path.")
