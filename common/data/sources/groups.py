"""Names of the groups of images (patients, sites, cameras): from a column of a table or list, or from file names."""

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.sources.listing import normalized
from common.data.sources.source import Source, unused_names
from common.data.sources.split import Split
from common.errors import UserError, quoted

_LEAVE_OUT = "; data.leave_out leaves out files and folders"
Groups = npt.NDArray[np.str_]


class GroupedSource:
    """A source whose images get the names of their groups."""

    def __init__(self, source: Source, find: Callable[[Split, str], Groups]) -> None:
        """Take the source, and the function from a split and its title to the names of the groups."""
        self.title, self._source, self._find = source.title, source, find

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return self._source.names()

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return split `name` with the groups of its images."""
        split = self._source.read(name, labeled=labeled)
        return replace(split, groups=self._find(split, f"the split '{name}' of {self.title}"))

    def unused_names(self) -> list[str]:
        """Return the names to be left out that nothing had in the splits that were read."""
        return unused_names(self._source)


def groups_of_names(pattern: str) -> Callable[[Split, str], Groups]:
    """Return the function that takes the groups from the images' relative paths, by a regular expression with one group."""
    expression = re.compile(pattern)

    def find(split: Split, title: str) -> Groups:
        """Return the group of each image; raise UserError if the pattern finds none in a path."""
        matches = [
            expression.search(normalized(name.replace(os.sep, "/"))) if name is not None else None
            for name in split.file_names()
        ]
        names = [match.group(1) if match else None for match in matches]
        _check_complete(
            names, split.name, f"data.group_pattern '{pattern}' finds no group in the path", title, _LEAVE_OUT
        )
        return np.array(names, dtype=np.str_)

    return find


def groups_of_column(column: Any, key: str, name_of: Callable[[int], str], title: str) -> Groups:
    """Return the groups in an Arrow column; `name_of` names the image of a row. Raise UserError if a value is missing."""
    names = list(map(_group_name, column.to_pylist()))
    _check_complete(names, name_of, f"data.group_column '{key}' has no value", title)
    return np.array(names, dtype=np.str_)


def groups_of_list(groups: Mapping[str, str | None], key: str) -> Callable[[Split, str], Groups]:
    """Return the function that looks up the images' absolute paths in a list."""

    def find(split: Split, title: str) -> Groups:
        names = [groups.get(path_key(split.name(index))) for index in range(len(split))]
        _check_complete(names, split.name, f"data.group_column '{key}' has no value", title, _LEAVE_OUT)
        return np.array(names, dtype=np.str_)

    return find


def listed_groups(paths: Sequence[str | None], column: Any, folder: Path) -> dict[str, str | None]:
    """Return the group by absolute path of the images that a list in `folder` names."""
    return dict(zip(path_keys(paths, folder), map(_group_name, column.to_pylist()), strict=True))


def path_keys(paths: Sequence[str | None], folder: Path) -> list[str]:
    """Return paths relative to `folder` as they are compared; "" for a missing one. Strings are joined: a Path takes longer."""
    start = os.fspath(folder)
    return [path_key(os.path.join(start, path)) if path is not None else "" for path in paths]


def path_key(path: str | Path) -> str:
    """Return a path as it is compared: absolute, without `.` and `..`, in NFC."""
    return normalized(os.path.abspath(path))


def _group_name(value: Any) -> str | None:
    """Return a value as the name of a group, None if it is missing; pandas writes whole numbers as floats if one is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return normalized(str(value).strip()) or None


def _check_complete(
    names: Sequence[str | None], name_of: Callable[[int], str], problem: str, title: str, remedy: str = ""
) -> None:
    """Raise UserError if an image has no group."""
    missing = [index for index, name in enumerate(names) if not name]
    if missing:
        first = quoted([name_of(index) for index in missing[:3]])
        raise UserError(
            f"{problem} for {len(missing)} of the {len(names)} images of {title}: {first}. Every image needs a group; one that"
            f" belongs to no other image has a group of its own{remedy}."
        )
