"""How paths are printed."""

from pathlib import Path


def display_path(path: Path) -> str:
    """Return `path` relative to the working directory if it is below it, otherwise as an absolute path."""
    absolute, cwd = path.absolute(), Path.cwd()
    return str(absolute.relative_to(cwd)) if absolute.is_relative_to(cwd) else str(absolute)
