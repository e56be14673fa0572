"""Images of a study that occur in several of its parts (training, validation, test), as its runs recorded them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from common.data.splits.fingerprint import DATA_FILE, read_fingerprint
from common.yaml_words import as_value
from recipes.duplicate_record import PAIRS, DuplicateRecord, PairRecord
from recipes.reports.results import RunRecord, StudyRecord


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
    by_stage: dict[str, list[DuplicateRecord]] = {}
    for run in study.runs.values():
        if (record := read_duplicates(run)) is not None:
            by_stage.setdefault(run.planned.stage, []).append(record)
    shared: dict[SharedImages, list[str]] = {}
    skipped: dict[tuple[str, str], dict[str, None]] = {}
    for stage, of_stage in by_stage.items():
        for reason in (reason for record in of_stage for reason in record.skipped.items()):
            skipped.setdefault(reason, {})[stage] = None
        for each in _most(of_stage):
            shared.setdefault(each, []).append(stage)
    return DuplicateImages(
        tuple(by_stage),
        tuple(replace(each, stages=tuple(stages)) for each, stages in shared.items()),
        max((record.label_conflicts for of_stage in by_stage.values() for record in of_stage), default=0),
        {reason: tuple(stages) for reason, stages in skipped.items()},
    )


def read_duplicates(run: RunRecord) -> DuplicateRecord | None:
    """Return what a run recorded, with the number of images of each part, if that is known; None if it recorded nothing.

    Images are named relative to the run's data.source.
    """
    record = None if run.result is None else run.result.duplicates
    if record is None:
        return None
    folder = _source(run)
    pairs = {parts: _relative(pair, folder) for parts, pair in record.pairs.items()}
    return replace(record, pairs=pairs, sizes=record.sizes or _sizes(run))


def _source(run: RunRecord) -> str:
    """Return data.source of a run with a slash at its end, as the names of its images begin; empty if its recipe's is kept."""
    given = [word.partition("=")[2] for word in run.planned.overrides if word.startswith("data.source=")]
    return f"{str(Path(str(as_value(given[-1]))).expanduser())}/" if given else ""


def _relative(pair: PairRecord, folder: str) -> PairRecord:
    """Return the record of two parts with its examples named relative to a folder."""
    examples = tuple((image.removeprefix(folder), other.removeprefix(folder)) for image, other in pair.examples)
    return replace(pair, examples=examples)


def _sizes(run: RunRecord) -> dict[str, int]:
    """Return the number of images of each part of a run's data, from its data.json."""
    saved = read_fingerprint(run.folder / DATA_FILE) or {}
    names = {"training": "train", "validation": "validation", "test": "test"}
    parts = {name: saved[entry] for entry, name in names.items() if isinstance(saved.get(entry), dict)}
    return {name: part["images"] for name, part in parts.items() if isinstance(part.get("images"), int)}


def _most(records: Iterable[DuplicateRecord]) -> list[SharedImages]:
    """Return the images that each pair of parts shares in the run of a stage that has the most, for pairs that share any."""
    found: dict[tuple[str, str], list[SharedImages]] = {}
    for record in records:
        for parts in (each for each in PAIRS if each in record.pairs):
            found.setdefault(parts, []).append(_shared(*parts, record))
    most = []
    for of_pair in found.values():
        best = max(of_pair, key=lambda each: (not each.is_excluded, each.count))
        if best.count:
            most.append(replace(best, varies=any(each.count < best.count for each in of_pair)))
    return most


def _shared(first: str, second: str, record: DuplicateRecord) -> SharedImages:
    """Return the images that two parts share, from the record of a run."""
    pair = record.pairs[first, second]
    return SharedImages(
        first=first,
        second=second,
        same=pair.same,
        near=pair.near,
        of_first=pair.of_first,
        size=record.sizes.get(second),
        examples=pair.examples,
        is_excluded=first == "train" and bool(record.dropped),
    )
