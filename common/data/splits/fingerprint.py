"""Fingerprint of a run's data: saved in the run folder; a run only resumes on the same data."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.data.images.collections import content_hash
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.errors import UserError
from common.files import list_folder, path_exists, write_atomic
from common.json_text import to_json

_log = logging.getLogger(__name__)

DATA_FILE, SUBSET_FILE = "data.json", "subset.json"
FACTS = ("duplicates", "init_overlap")
"""Entries that are recorded with the fingerprint, and not compared."""
NOT_MOVED: Mapping[str, tuple[str, str]] = MappingProxyType({})
_DESCRIPTIONS = {
    "images": "number of {part} images",
    "labels": "labels of the {part} images",
    "groups": "groups of the {part} images",
    "content": "content of the {part} images (at most 256 are compared)",
}


def check_data(
    splits: Splits, folder: Path, *, resumes: bool | None = None, moved: Mapping[str, tuple[str, str]] = NOT_MOVED
) -> dict[str, Any]:
    """Return the fingerprint of the data; if the run in the folder `resumes`, compare it with the saved fingerprint.

    A run resumes if it has checkpoints, unless told otherwise. `moved` are the keys that name another path than before, with both:
    then the data is compared, too. Every process compares. Raise UserError that lists all differences: the sample stream of the
    checkpoint would continue over other images.
    """
    current = describe_data(splits)
    moved = {key: paths for key, paths in moved.items() if key.startswith("data.")}
    if moved or (has_checkpoints(folder) if resumes is None else resumes):
        saved = read_fingerprint(folder / DATA_FILE)
        if saved is not None:
            _raise_on_differences(folder, saved, current, moved)
            for key, (before, now) in moved.items():
                _log.info("data: %s was %s, now %s, with the same images: the run is the same", key, before, now)
        elif moved:
            lines = "\n".join(f"  {key}: {before} there, {now} now" for key, (before, now) in moved.items())
            raise UserError(
                f"out = {folder}: has no {DATA_FILE}, so the images cannot be compared with those of the start of the run. Use the"
                f" same path to resume, or set another out.\n{lines}"
            )
        else:
            _log.warning(
                "data: %s has no %s: the images cannot be compared with those of the start of the run",
                folder,
                DATA_FILE,
            )
    return current


def saved_facts(folder: Path, *, duplicates: str) -> dict[str, Any]:
    """Return what a run that resumes has recorded of its duplicates, found with this value of `data.duplicates`; else {}."""
    saved = read_fingerprint(folder / DATA_FILE)
    facts = {name: saved[name] for name in FACTS if name in saved} if saved is not None else {}
    found = facts.get("duplicates")
    return facts if isinstance(found, dict) and found.get("mode") == duplicates else {}


def save_data(fingerprint: dict[str, Any], splits: Splits, folder: Path, *, resumes: bool | None = None) -> None:
    """Write the fingerprint and the subset manifest into a run folder, unless the run `resumes` and has a fingerprint."""
    path = folder / DATA_FILE
    if (has_checkpoints(folder) if resumes is None else resumes) and path_exists(path):
        return
    write_atomic(path, to_json(fingerprint, indent=2) + "\n")
    splits.subset.save(folder / SUBSET_FILE)


def has_checkpoints(folder: Path) -> bool:
    """Return whether a run folder contains a checkpoint.

    Raise UserError if its checkpoint folder cannot be read (a glob would report none).
    """
    try:
        return bool(list_folder(folder / "checkpoints", r"step-\d+"))
    except OSError as error:
        raise UserError(
            f"out = {folder}: the checkpoint folder cannot be read ({error.strerror or error}). Nothing was changed. Make it"
            " readable for this process (permissions, file system) and run the same command again."
        ) from error


def describe_data(splits: Splits) -> dict[str, Any]:
    """Return the fingerprint: hashes of class names and subset; for each part its size and hashes of labels and content.

    At most 256 evenly spaced images of each part are read: a changed image between them is not detected. A part without its corrupt
    images (data.on_corrupt=skip) is described with them, too, under `complete`: a run that meets one can resume without it.
    """
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    described = {part: _describe_part(split) for part, split in parts.items() if split is not None}
    for part, split in splits.complete.items():
        described[part]["complete"] = _describe_part(split)
    return {"classes": _hash("\0".join(splits.class_names).encode()), "subset": splits.subset.hash, **described}


def _describe_part(split: Split) -> dict[str, Any]:
    """Return the size of one part and the hashes of its labels and content."""
    labels = b"unlabeled" if split.labels is None else split.labels.astype("<i8").tobytes()
    groups = {} if split.groups is None else {"groups": _hash("\0".join(split.groups.tolist()).encode())}
    return {"images": len(split), "labels": _hash(labels), "content": content_hash(split.images), **groups}


def _hash(data: bytes) -> str:
    """Return a hash of 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_fingerprint(path: Path) -> dict[str, Any] | None:
    """Return the saved fingerprint of a run, or None if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). It may be intact: make it readable for this process"
            " (permissions, file system)."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a data fingerprint ({error}). Restore it or set another out.") from error
    parts = ("training", "validation", "test")
    if not isinstance(found, dict) or any(not isinstance(found.get(part) or {}, dict) for part in parts):
        raise UserError(f"{path}: not a data fingerprint. Restore it or set another out.")
    return found


def _raise_on_differences(
    folder: Path, saved: dict[str, Any], current: dict[str, Any], moved: Mapping[str, tuple[str, str]]
) -> None:
    """Raise UserError that lists all differences between two fingerprints, and the paths that differ."""
    if lines := differences(saved, current):
        paths = [f"{key}: {before} there, {now} now" for key, (before, now) in moved.items()]
        raise UserError(
            f"out = {folder}: the images differ from those this run started with. Restore them, or set another out to start"
            " a new run.\n" + "\n".join(f"  {line}" for line in [*paths, *lines])
        )


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the differences between two fingerprints in words."""
    lines = []
    if saved.get("classes") != current["classes"]:
        lines.append("class names: changed")
    for part in ("training", "validation", "test"):
        saved_part, current_part = _comparable(saved.get(part) or {}, current.get(part) or {})
        lines += [
            f"{description.format(part=part)}: was {_format(name, saved_part)}, now {_format(name, current_part)}"
            for name, description in _DESCRIPTIONS.items()
            if saved_part.get(name) != current_part.get(name)
        ]
    if saved.get("subset") != current["subset"] and not lines:
        lines.append("subset of the training images: changed")
    return lines


def _comparable(saved: dict[str, Any], current: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the descriptions of a part that are to be compared: both with their corrupt images where these are described.

    Where only one of them is without corrupt images, the other one may be of an earlier version, which did not describe these.
    """
    is_same = all(saved.get(name) == current.get(name) for name in _DESCRIPTIONS)
    if is_same and not ("complete" in saved and "complete" in current):
        return saved, current
    return saved.get("complete", saved), current.get("complete", current)


def _format(name: str, part: Mapping[str, Any]) -> str:
    """Return a value of a fingerprint for messages: a number, or a short hash."""
    value = part.get(name, "none")
    return str(value) if name == "images" else str(value)[:8]
