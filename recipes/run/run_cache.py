"""Cache of runs: studies whose folders are neighbors (have the same parent) share their runs.

A run is identified by its hash. If a study plans a run that a neighbor already has, it creates a symbolic link to that run in its
own folder. State, lock and result are then used through the link, as for the study's own runs. The link is relative, so that it
holds when the studies are moved together. If its target is missing, the study does not start: the run would begin anew.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from common.files import path_exists
from recipes.run.states import read_state
from recipes.study.plan import DIGEST_DIGITS, PlannedRun

_logger = logging.getLogger(__name__)


def neighbors(folder: Path) -> dict[str, Path]:
    """Return the run folders of the neighboring studies of `folder`, by hash; for equal hashes the most advanced run.

    An unreadable run is skipped with a warning: this study can run without it.
    """
    order = {"waiting": 0, "interrupted": 1, "running": 2, "done": 3}
    best: dict[str, tuple[int, Path]] = {}
    for place in sorted(folder.absolute().parent.glob("*/runs/*-*")):
        if place.parent.parent.name == folder.name or place.is_symlink() or not place.is_dir():
            continue
        try:
            rank = order[read_state(place)]
        except (UserError, OSError) as error:
            _logger.warning("the run %s of another study is not shared: %s", place, error)
            continue
        digest = place.name[-DIGEST_DIGITS:]
        if rank > best.get(digest, (0, place))[0]:
            best[digest] = rank, place
    return {digest: place for digest, (_, place) in best.items()}


def locate_runs(runs: Sequence[PlannedRun], folder: Path) -> tuple[dict[str, Path], set[str]]:
    """Return the folder of each run by id, existing or not, and the ids of runs in another study's folder."""
    cached, places, shared = neighbors(folder), {}, set()
    for run in runs:
        own = folder / "runs" / run.id
        exists = path_exists(own)
        if own.is_symlink() or (not exists and run.digest in cached):
            shared.add(run.id)
        places[run.id] = own if exists else cached.get(run.digest, own)
    return places, shared


def check_links(runs: Sequence[PlannedRun], folder: Path) -> None:
    """Raise UserError if runs of a study are links to runs of another study that are missing, and no neighbor has them."""
    cached = neighbors(folder)
    missing = {
        place: Path(os.path.normpath(place.parent.absolute() / place.readlink()))
        for run in runs
        if (place := folder / "runs" / run.id).is_symlink() and not path_exists(place) and run.digest not in cached
    }
    if missing:
        studies = sorted({str(target.parent.parent) for target in missing.values()})
        names = "\n".join(f"  {place} -> {target}" for place, target in list(missing.items())[:10])
        raise UserError(
            f"--out {folder}: shares {len(missing)} of its runs with another study, and they are missing there:"
            f" {', '.join(studies)}. Studies that share runs are moved together: move that one, too, or copy these runs in place of"
            f" the links. To run them again, delete the links. Nothing was started.\n{names}"
        )


def link_shared_runs(places: Mapping[str, Path], folder: Path) -> list[str]:
    """Create links in `folder` for runs that are in other studies (`locate_runs`); return the ids of all linked runs."""
    linked = []
    for name, target in places.items():
        place = folder / "runs" / name
        if place.is_symlink() and not path_exists(place):
            place.unlink()
        if target != place and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.path.relpath(target, place.parent.absolute()), target_is_directory=True)
        if place.is_symlink():
            linked.append(name)
    return linked
