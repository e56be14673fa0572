"""Combinations of levels that are no cells of a study (section `without`)."""

from collections.abc import Iterable, Mapping


def is_removed(levels: Mapping[str, str], entries: Iterable[Mapping[str, str]]) -> bool:
    """Return whether levels include all of those of an entry of `without`."""
    return any(entry.items() <= levels.items() for entry in entries)
