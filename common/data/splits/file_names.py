"""Owns the matching of published lists of file names with the images of a split."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.data.sources.split import Split
from common.errors import UserError, some


def match_file_names(names: Sequence[str], split: Split, *, title: str) -> npt.NDArray[np.int64]:
    """Return the sorted positions of the images that `names` stand for.

    Raise UserError that opens with `title` and reports all unknown, ambiguous and repeated names together.
    """
    index = _FileNames(split, names)
    if not index.known:
        raise UserError(f"{title}: the images of this source have no file names to match; name a subset.json instead.")
    unknown, ambiguous, repeated = list[str](), list[str](), list[str]()
    chosen: set[int] = set()
    for name in names:
        matches = index.matches(name)
        if not matches:
            unknown.append(name)
        elif len(matches) > 1:
            ambiguous.append(name)
        elif matches[0] in chosen:
            repeated.append(name)
        else:
            chosen.add(matches[0])
    kinds = {"fit no image": unknown, "fit several images": ambiguous, "stand there twice": repeated}
    found = [f"{len(bad)} {kind}: {some(bad)}" for kind, bad in kinds.items() if bad]
    if found:
        raise UserError(
            f"{title}: of {len(names)} names {'; '.join(found)}. Is it a list for this data set, and for its training"
            " split? Names are relative paths or base names, one per line."
        )
    return np.array(sorted(chosen), dtype=np.int64)


class _FileNames:
    """The images' file names, found by base name without extension; only those that `wanted` could mean are kept."""

    def __init__(self, split: Split, wanted: Sequence[str]) -> None:
        self._files = split.file_names()
        self.known = any(file is not None for file in self._files)
        self._by_stem: defaultdict[str, list[int]] = defaultdict(list)
        bases = [_base(name) for name in wanted]
        stems = {*bases, *map(_stem, bases)}
        for position, file in enumerate(self._files):
            if file is not None and (stem := _stem(file)) in stems:
                self._by_stem[stem].append(position)

    def matches(self, name: str) -> list[int]:
        """Return the positions of the images whose path ends in `name`, with or without the extension."""
        base, name = _base(name), _slashed(name)
        candidates = {*self._by_stem.get(_stem(base), ()), *self._by_stem.get(base, ())}
        return [position for position in sorted(candidates) if _is_tail(name, self._files[position] or "")]


def _slashed(name: str) -> str:
    """Return a published name as a relative path."""
    return name.replace("\\", "/").removeprefix("./")


def _base(name: str) -> str:
    """Return the base name of a published name."""
    return _slashed(name).rpartition("/")[2]


def _stem(path: str) -> str:
    """Return the base name of a path without its extension."""
    base = path.rpartition("/")[2]
    return base.rpartition(".")[0] or base


def _is_tail(name: str, path: str) -> bool:
    """Say whether `path`, with or without its extension, is `name` or ends in it at a folder's edge."""
    bare = path[: len(path) - len(path.rpartition("/")[2])] + _stem(path)
    return any(whole == name or whole.endswith("/" + name) for whole in (path, bare))
