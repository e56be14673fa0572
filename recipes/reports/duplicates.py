"""Images of a study that occur in several of its parts (training, validation, test), as its runs recorded them."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.data.splits.fingerprint import DATA_FILE, read_fingerprint
from common.errors import UserError
from common.yaml_text import as_value
from recipes.reports.results import RunRecord, StudyRecord
from recipes.result import RESULT

PAIRS = (("train", "test"), ("train", "validation"), ("validation", "test"))
"""Pairs of parts, the one that matters most first."""


@dataclass(frozen=True)
class SharedImages:
    """Images of the part `second` that are also images of the part `first`, in the run of some stages that has the most."""

    first: str
    second: str
    same: int
    """Images with the same content."""
    near: int
    """Images that are resized, recompressed or mirrored."""
    of_first: int
    """Images of the first part that they are the same as."""
    size: int | None
    """Images of the second part; None: not recorded."""
    examples: tuple[tuple[str, str], ...]
    """Names of some pairs of images: one of the second part, one of the first."""
    is_excluded: bool
    """Whether the images of the first part were excluded from training (data.duplicates=drop)."""
    varies: bool = False
    """Whether other runs of the same stage have fewer."""
    stages: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Return the number of images of the second part."""
        return self.same + self.near


@dataclass(frozen=True)
class DuplicateImages:
    """What the runs of a study recorded about duplicates; no `stages`: they recorded nothing."""

    stages: tuple[str, ...] = ()
    shared: tuple[SharedImages, ...] = ()
    conflicts: int = 0
    """Most training images of a run that have the same content as another one, and another label."""
    skipped: Mapping[tuple[str, str], tuple[str, ...]] | None = None
    """Stages in which something was not looked for, by what (`exact`, `near`) and why."""

    def of(self, first: str, second: str) -> list[SharedImages]:
        """Return the images that two parts share and that were not excluded."""
        pair = first, second
        return [each for each in self.shared if (each.first, each.second) == pair and not each.is_excluded]


def find_duplicates(study: StudyRecord) -> DuplicateImages:
    """Return what the results of a study's runs say about duplicates."""
    records = [(run, found) for run in study.runs.values() if (found := read_duplicates(run)) is not None]
    by_stage: dict[str, list[tuple[RunRecord, Mapping[str, Any]]]] = {}
    for run, found in records:
        by_stage.setdefault(run.planned.stage, []).append((run, found))
    shared: dict[SharedImages, list[str]] = {}
    skipped: dict[tuple[str, str], dict[str, None]] = {}
    conflicts = 0
    for stage, of_stage in by_stage.items():
        for run, found in of_stage:
            try:
                conflicts = max(conflicts, int(found["label_conflicts"]))
                for reason in found["skipped"].items():
                    skipped.setdefault(reason, {})[stage] = None
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _damaged(run, error) from error
        for each in _most(of_stage):
            shared.setdefault(each, []).append(stage)
    return DuplicateImages(
        tuple(by_stage),
        tuple(replace(each, stages=tuple(stages)) for each, stages in shared.items()),
        conflicts,
        {reason: tuple(stages) for reason, stages in skipped.items()},
    )


def read_duplicates(run: RunRecord) -> Mapping[str, Any] | None:
    """Return the entry `duplicates` of a run's result, with the number of images of each part as `splits`; None if it has none.

    Images are named relative to the run's data.source.
    """
    if run.result is None:
        return None
    content = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
    found = content.get("duplicates")
    if not isinstance(found, dict):
        return None
    folder = _source(run)
    return {
        **{name: _relative(entry, folder) for name, entry in found.items()},
        "splits": content.get("splits") or _sizes(run),
    }


def _source(run: RunRecord) -> str:
    """Return data.source of a run with a slash at its end, as the names of its images begin; empty if its recipe's is kept."""
    given = [word.partition("=")[2] for word in run.planned.overrides if word.startswith("data.source=")]
    return f"{str(Path(str(as_value(given[-1]))).expanduser())}/" if given else ""


def _relative(entry: Any, folder: str) -> Any:
    """Return the entry of two parts with its examples named relative to a folder; any other entry as it is."""
    if not isinstance(entry, dict) or not isinstance(entry.get("examples"), list):
        return entry
    return {**entry, "examples": [[str(name).removeprefix(folder) for name in pair] for pair in entry["examples"]]}


def _sizes(run: RunRecord) -> dict[str, int]:
    """Return the number of images of each part of a run's data, from its data.json."""
    saved = read_fingerprint(run.folder / DATA_FILE) or {}
    names = {"training": "train", "validation": "validation", "test": "test"}
    return {name: part["images"] for entry, name in names.items() if isinstance(part := saved.get(entry), dict)}


def _most(records: Iterable[tuple[RunRecord, Mapping[str, Any]]]) -> list[SharedImages]:
    """Return the images that each pair of parts shares in the run of a stage that has the most, for pairs that share any."""
    found: dict[tuple[str, str], list[SharedImages]] = {}
    for run, record in records:
        for first, second in PAIRS:
            entry = record.get(f"{first}/{second}")
            if entry is not None:
                try:
                    found.setdefault((first, second), []).append(_shared(first, second, entry, record))
                except (KeyError, TypeError, ValueError) as error:
                    raise _damaged(run, error) from error
    most = []
    for of_pair in found.values():
        best = max(of_pair, key=lambda each: (not each.is_excluded, each.count))
        if best.count:
            most.append(replace(best, varies=any(each.count < best.count for each in of_pair)))
    return most


def _shared(first: str, second: str, entry: Mapping[str, Any], record: Mapping[str, Any]) -> SharedImages:
    """Return the images that two parts share, from the entry of a result."""
    return SharedImages(
        first=first,
        second=second,
        same=int(entry["exact"]),
        near=int(entry["near"]),
        of_first=int(entry[f"{first}_images"]),
        size=record["splits"].get(second),
        examples=tuple((str(image), str(other)) for image, other in entry["examples"]),
        is_excluded=first == "train" and bool(record["dropped"]),
    )


def _damaged(run: RunRecord, error: Exception) -> UserError:
    """Return the error for a result whose entries cannot be read."""
    return UserError(
        f"{run.folder / RESULT}: not the result of a run (duplicates: {error!r}). Delete only this file: the run resumes from its"
        " last checkpoint."
    )
