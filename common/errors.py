"""Errors that entry points print as one message, without a traceback: invalid input and failures of the system."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(ValueError):
    """Invalid input: the message names the recipe key or file, its value, and the remedy. Entry points exit with code 2."""


class ProcessError(UserError):
    """An error that the surroundings cause in this process alone, so that each process prints its own."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def system_error_message(error: OSError) -> str:
    """Return the message an entry point prints for an OSError (permissions, disks, unavailable files); its exit code is 2."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error).strip().splitlines()[-1]
    return f"error: {where}{reason}. Fix this and rerun the same command."


def did_you_mean(name: str, choices: Iterable[str], *, prefix: str = "") -> str:
    """Return ` Did you mean X?` for the choice closest to `name`, ignoring case, or an empty string; X starts with `prefix`."""
    by_lower_case = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.5)
    return f" Did you mean {prefix}{by_lower_case[close[0]]}?" if close else ""


def quoted(names: Sequence[str], *, limit: int = 10) -> str:
    """Return the first `limit` names, quoted, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
