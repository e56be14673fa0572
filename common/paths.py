"""Owns the paths that users name: ~ is expanded, and what no system could hold is told before anything is opened."""

import os
from pathlib import Path

from common.errors import UserError


def user_path(text: str, key: str) -> Path:
    """Return the path that the recipe's `key` names, whether or not anything is there.

    Raise UserError for one that cannot be looked up: too long, of an unknown user, behind a closed folder.
    """
    try:
        path = Path(text).expanduser()
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Path(text).expanduser()
    except (OSError, RuntimeError, ValueError) as error:
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(f"{key} = {shown!r}: this path cannot be looked up ({reason}). Name another one.") from error
    return path
