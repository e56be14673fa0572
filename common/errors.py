"""Errors that entry points print as one message, without a traceback: invalid input and failures of the system."""

import difflib
import errno
import re
from collections.abc import Callable, Iterable, Sequence

USER_ERROR = 2
"""Exit code for invalid input and failures of the system, which are reported in one message."""

_ROOM = "Free some space, or choose another folder,"
_PERMISSION = "Change its permissions, or choose another folder,"
_IN_THE_WAY = "Move what is there, or choose another folder,"
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "The file system is read-only: choose another folder,",
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.ENAMETOOLONG: "Choose a shorter path",
    errno.EFBIG: "Raise the limit on the size of files (`ulimit -f`), or choose another folder,",
    errno.EISDIR: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
}
"""Remedies by error number."""


class UserError(ValueError):
    """Invalid input: the message names the recipe key or file, its value, and the remedy. Entry points exit with code 2."""


class SharedError(UserError):
    """A UserError that all processes of a run raise together, with the same message: the main process prints it."""


class ProcessError(UserError):
    """An error that the surroundings cause in this process alone, so that each process prints its own."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def system_error_message(error: OSError) -> str:
    """Return the message for an OSError (permissions, disks, unavailable files); an entry point then exits with code 2."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{_reason(error)}. {_remedy(error)} and rerun the same command."


def unwritable_message(where: str, error: Exception) -> str:
    """Return the message for what could not be written to `where`: an OSError, or an error of a library that has no number."""
    path = getattr(error, "filename", None)
    reason = f"{path}: {_reason(error)}" if path and str(path) not in where else _reason(error)
    remedy = f"{_remedy(error)} and rerun the same command."
    return f"{where} cannot be written ({reason}). Everything written before is intact. {remedy}"


def _reason(error: Exception) -> str:
    """Return what the system says, without the path."""
    said = error.strerror if isinstance(error, OSError) else None
    return (said or (str(error).strip().splitlines() or [type(error).__name__])[-1]).rstrip(".")


def _remedy(error: Exception) -> str:
    """Return what the user can do, by the number of an error; that of a library states it in words."""
    reason = _reason(error)
    if "temporary directory" in reason:
        return "Set TMPDIR to a folder that can be written"
    stated = re.search(r"\(os error (\d+)\)", reason)  # safetensors
    number = error.errno if isinstance(error, OSError) else int(stated[1]) if stated else None
    return _REMEDIES.get(number or 0, "Fix this")


def is_disk_error(error: OSError) -> bool:
    """Return whether an error says that a disk is full, or cannot be written for this user."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def os_error_of(error: BaseException, matches: Callable[[OSError], bool]) -> OSError | None:
    """Return the OSError that caused an error of a library, or the error itself, if it `matches`."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, OSError) and matches(cause):
            return cause
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return None


def did_you_mean(name: str, choices: Iterable[str], *, prefix: str = "") -> str:
    """Return ` Did you mean X?` for the choice closest to `name`, ignoring case, or an empty string; X starts with `prefix`."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    return f" Did you mean {prefix}{by_lower_case[close[0]]}?" if close else ""


def quoted(names: Sequence[str], *, limit: int = 10) -> str:
    """Return the first `limit` names, quoted, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
