"""Owns what reaches the terminal as one message, never as a traceback: a user's mistake, an error of the surroundings."""

from collections.abc import Sequence


class UserError(ValueError):
    """Tell a user what is wrong: the recipe key or file, the value met, and the remedy. Entry points exit with code 2."""


def of_the_system(error: OSError) -> str:
    """Return the message of an entry point for an error of rights, disks, files that are away; its exit code is 2."""
    where = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or str(error).strip().splitlines()[-1]
    return f"error: {where}{reason}. Mend that and give the same command again."


def some(names: Sequence[str], *, limit: int = 10) -> str:
    """Return the first names, quoted, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in names[:limit]) + more
