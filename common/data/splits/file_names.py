"""Matching of published file name lists to the images of a split."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.data.sources.listing import normalized
from common.data.sources.split import Split
from common.errors import UserError, quoted


def match_file_names(names: Sequence[str], split: Split, *, title: str) -> npt.NDArray[np.int64]:
    """Return the sorted indices of the images that match `names`.

    Raise UserError that starts with `title` and reports all unknown, ambiguous and duplicate names together.
    """
    index = _FileNameIndex(split, names)
    if not index.has_names:
        raise UserError(f"{title}: the images of this source have no file names to match; use a subset.json instead.")
    unknown, ambiguous, duplicate = list[str](), list[str](), list[str]()
    matched: set[int] = set()
    for name in names:
        matches = index.matches(name)
        if not matches:
            unknown.append(name)
        elif len(matches) > 1:
            ambiguous.append(name)
        elif matches[0] in matched:
            duplicate.append(name)
        else:
            matched.add(matches[0])
    problems = {"match no image": unknown, "match several images": ambiguous, "are duplicates": duplicate}
    found = [f"{len(bad)} {problem}: {quoted(bad)}" for problem, bad in problems.items() if bad]
    if found:
        raise UserError(
            f"{title}: of {len(names)} names, {'; '.join(found)}. Check that the list belongs to the training split of this"
            " dataset. Names are relative paths or base names, one per line."
        )
    return np.array(sorted(matched), dtype=np.int64)


def known_names(names: Sequence[str], split: Split) -> set[str]:
    """Return those of `names` that match an image."""
    index = _FileNameIndex(split, names) if names else None
    return {name for name in names if index is not None and index.matches(name)}


class _FileNameIndex:
    """Index of file names by base name without extension, limited to the names that can match `queries`."""

    def __init__(self, split: Split, queries: Sequence[str]) -> None:
        self._files = [None if file is None else normalized(file) for file in split.file_names()]
        self.has_names = any(file is not None for file in self._files)
        self._by_stem: defaultdict[str, list[int]] = defaultdict(list)
        bases = [_base(name) for name in queries]
        stems = {*bases, *map(_stem, bases)}
        for position, file in enumerate(self._files):
            if file is not None and (stem := _stem(file)) in stems:
                self._by_stem[stem].append(position)

    def matches(self, name: str) -> list[int]:
        """Return the indices of the images whose path ends in `name`, with or without the extension."""
        base, name = _base(name), _normalize(name)
        candidates = {*self._by_stem.get(_stem(base), ()), *self._by_stem.get(base, ())}
        return [position for position in sorted(candidates) if _ends_with(name, self._files[position] or "")]


def _normalize(name: str) -> str:
    """Return a published name as a relative path with forward slashes, in NFC."""
    return normalized(name).replace("\\", "/").removeprefix("./")


def _base(name: str) -> str:
    """Return the base name of a published name."""
    return _normalize(name).rpartition("/")[2]


def _stem(path: str) -> str:
    """Return the base name of a path without its extension."""
    base = path.rpartition("/")[2]
    return base.rpartition(".")[0] or base


def _ends_with(name: str, path: str) -> bool:
    """Return whether `path`, with or without its extension, is `name` or ends in "/name"."""
    without_extension = path[: len(path) - len(path.rpartition("/")[2])] + _stem(path)
    return any(candidate == name or candidate.endswith("/" + name) for candidate in (path, without_extension))
