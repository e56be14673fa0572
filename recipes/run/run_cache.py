"""Owns sharing runs between studies whose folders lie side by side: what one has run, the others do not run again.

A run is known by its hash. A study that plans a run which lies in a neighbour's folder gets a link to it in its own, and from
there on everything is as if the run were its own: its state, its lock, its result. A link whose target is gone counts as nothing.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import is_there
from recipes.run.states import read_state
from recipes.study.plan import DIGEST, PlannedRun

_logger = logging.getLogger(__name__)


def neighbours(folder: Path) -> dict[str, Path]:
    """Return the run folders that lie in the studies beside `folder`, by hash; those that are further win.

    One that cannot be read is passed over, and the log says so: this study can run without it.
    """
    order = {"waiting": 0, "interrupted": 1, "running": 2, "done": 3}
    found: dict[str, tuple[int, Path]] = {}
    for place in sorted(folder.absolute().parent.glob("*/runs/*-*")):
        if place.parent.parent.name == folder.name or place.is_symlink() or not place.is_dir():
            continue
        try:
            rank = order[read_state(place)]
        except (UserError, OSError) as error:
            _logger.warning("the run %s of another study is not shared: %s", place, error)
            continue
        if rank > found.get(place.name[-DIGEST:], (0, place))[0]:
            found[place.name[-DIGEST:]] = rank, place
    return {digest: place for digest, (_, place) in found.items()}


def find_places(runs: Sequence[PlannedRun], folder: Path) -> tuple[dict[str, Path], set[str]]:
    """Return where each run lies or will lie, and which of them lie in another study's folder."""
    theirs, places, shared = neighbours(folder), {}, set()
    for run in runs:
        mine = folder / "runs" / run.id
        is_mine = is_there(mine)
        if mine.is_symlink() or (not is_mine and run.digest in theirs):
            shared.add(run.id)
        places[run.id] = mine if is_mine else theirs.get(run.digest, mine)
    return places, shared


def link_shared(places: Mapping[str, Path], folder: Path) -> list[str]:
    """Link the runs whose place (`find_places`) is another study's into the one in `folder`; return the ids of all linked."""
    linked = []
    for name, target in places.items():
        place = folder / "runs" / name
        if place.is_symlink() and not is_there(place):
            place.unlink()
        if target != place and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, place.parent.absolute()), target_is_directory=True)
        if place.is_symlink():
            linked.append(name)
    return linked
