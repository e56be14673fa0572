"""User-given paths: `~` is expanded, and a path that the system cannot look up is rejected before anything is opened."""

import os
from pathlib import Path

from common.errors import UserError


def user_path(text: str, key: str) -> Path:
    """Return the path given by the recipe's `key`; it need not exist.

    Raise UserError if it cannot be looked up: too long, an unknown user, a folder without permission.
    """
    try:
        path = Path(text).expanduser()
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Path(text).expanduser()
    except (OSError, RuntimeError, ValueError) as error:
        shown = text if len(text) <= 200 else f"{text[:200]}..."
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"{key} = {shown!r}: this path cannot be looked up ({reason}). Set {key} to another path."
        ) from error
    return path
