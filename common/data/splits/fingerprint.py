"""Owns the fingerprint of a run's data: what it began with is written into its folder, and a run goes on with nothing else."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from common.data.images.collections import content_hash
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.files import is_there, list_folder, write_whole

_log = logging.getLogger(__name__)

DATA_FILE, SUBSET_FILE = "data.json", "subset.json"
_MEANINGS = {
    "images": "number of {part} images",
    "labels": "labels of the {part} images",
    "content": "content of the {part} images (up to 256 of them are looked at)",
}


def check_data(splits: Splits, folder: Path) -> dict[str, Any]:
    """Return the data's fingerprint; in a run folder that holds checkpoints, compare it with what the run began with.

    Every process compares. Raise UserError with everything that differs: the checkpoint's sample stream would go on over other
    images.
    """
    now = describe_data(splits)
    if has_begun(folder):
        before = _read(folder / DATA_FILE)
        if before is not None:
            _refuse_differences(folder, before, now)
        else:
            told = "the images cannot be compared with those it began with"
            _log.warning("data: %s holds no %s: %s", folder, DATA_FILE, told)
    return now


def save_data(now: dict[str, Any], splits: Splits, folder: Path) -> None:
    """Write a fingerprint and the subset's manifest into a run folder that holds no checkpoint, or no fingerprint."""
    path = folder / DATA_FILE
    if has_begun(folder) and is_there(path):
        return
    write_whole(path, json.dumps(now, indent=2) + "\n")
    splits.subset.save(folder / SUBSET_FILE)


def has_begun(folder: Path) -> bool:
    """Tell whether a run folder holds a checkpoint; UserError where the system does not say (a glob would see none then)."""
    try:
        return bool(list_folder(folder / "checkpoints", r"step-\d+"))
    except OSError as error:
        raise UserError(
            f"out = {folder}: the folder of the checkpoints cannot be read ({error.strerror or error}). Nothing was changed. Let"
            " this process read it, and give the same command again."
        ) from error


def describe_data(splits: Splits) -> dict[str, Any]:
    """Return what a run's data is known by: for each part its size and hashes of labels and content; classes, subset.

    At most 256 images of each part are read, evenly spaced: one that is exchanged between them is not noticed.
    """
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        "classes": _hash("\0".join(splits.class_names).encode()),
        "subset": splits.subset.hash,
        **{part: _describe_part(split) for part, split in parts.items() if split is not None},
    }


def _describe_part(split: Split) -> dict[str, Any]:
    """Return the size and the hashes of one part."""
    labels = b"unlabelled" if split.labels is None else split.labels.astype("<i8").tobytes()
    return {"images": len(split), "labels": _hash(labels), "content": content_hash(split.images)}


def _hash(data: bytes) -> str:
    """Return a short hash."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _read(path: Path) -> dict[str, Any] | None:
    """Return the fingerprint that a run began with; None where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). It may be whole: let this process read it (rights, file system)."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this is no fingerprint of data ({error}). Restore it or name another out.") from error
    parts = ("training", "validation", "test")
    if not isinstance(found, dict) or any(not isinstance(found.get(part) or {}, dict) for part in parts):
        raise UserError(f"{path}: this is no fingerprint of data. Restore it or name another out.")
    return found


def _refuse_differences(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise UserError that tells all that differs between two fingerprints."""
    lines = []
    if before.get("classes") != now["classes"]:
        lines.append("  names of the classes: others than there")
    for part in ("training", "validation", "test"):
        there, here = before.get(part) or {}, now.get(part) or {}
        lines += [
            f"  {meaning.format(part=part)}: {_shown(name, there)} there, {_shown(name, here)} now"
            for name, meaning in _MEANINGS.items()
            if there.get(name) != here.get(name)
        ]
    if before.get("subset") != now["subset"] and not lines:
        lines.append("  the subset of the training images: another one than there")
    if lines:
        raise UserError(
            f"out = {folder}: the images are not those that this run began with. Restore them, or name another folder to"
            " begin anew.\n" + "\n".join(lines)
        )


def _shown(name: str, part: dict[str, Any]) -> str:
    """Return a value of a part as a person reads it."""
    value = part.get(name, "none")
    return str(value) if name == "images" else str(value)[:8]
