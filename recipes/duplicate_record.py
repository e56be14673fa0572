"""What a run recorded about images that occur in several parts of its data: the entry `duplicates` of result.json."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAIRS = (("train", "test"), ("train", "validation"), ("validation", "test"))
"""Pairs of parts, the one that matters most first."""


@dataclass(frozen=True)
class PairRecord:
    """Images of the second part of a pair that are also images of the first."""

    same: int
    """Images with the same content."""
    near: int
    """Images that are resized, recompressed or mirrored."""
    of_first: int
    """Images of the first part that they are the same as."""
    examples: tuple[tuple[str, str], ...]
    """Names of some pairs of images: one of the second part, one of the first."""


@dataclass(frozen=True)
class DuplicateRecord:
    """The record of a run."""

    mode: str
    """Value of data.duplicates."""
    skipped: Mapping[str, str]
    """Why contents (`exact`) or looks (`near`) were not compared."""
    pairs: Mapping[tuple[str, str], PairRecord]
    label_conflicts: int
    """Training images with the same content as another one, and another label."""
    dropped: int
    """Training images that were excluded."""
    sizes: Mapping[str, int]
    """Images of each part, if the result has them."""

    @property
    def is_empty(self) -> bool:
        """Return whether no duplicate was found."""
        return not self.label_conflicts and not any(pair.same or pair.near for pair in self.pairs.values())

    def to_result(self) -> dict[str, Any]:
        """Return the entries of result.json."""
        pairs = {
            f"{first}/{second}": {
                "exact": pair.same,
                "near": pair.near,
                f"{first}_images": pair.of_first,
                "examples": [list(names) for names in pair.examples],
            }
            for (first, second), pair in self.pairs.items()
        }
        counts = {"label_conflicts": self.label_conflicts, "dropped": self.dropped}
        return {
            "duplicates": {"mode": self.mode, "skipped": dict(self.skipped), **pairs, **counts},
            "splits": dict(self.sizes),
        }


def read_record(result: Mapping[str, Any]) -> DuplicateRecord | None:
    """Return the record in the content of a result.json, or None without one.

    Raise ValueError, LookupError, TypeError or AttributeError for one that is damaged.
    """
    found = result.get("duplicates")
    if found is None:
        return None
    return DuplicateRecord(
        mode=str(found["mode"]),
        skipped={str(what): str(reason) for what, reason in found["skipped"].items()},
        pairs={(one, two): _read_pair(found[f"{one}/{two}"], one) for one, two in PAIRS if f"{one}/{two}" in found},
        label_conflicts=int(found["label_conflicts"]),
        dropped=int(found["dropped"]),
        sizes={str(part): int(count) for part, count in (result.get("splits") or {}).items()},
    )


def _read_pair(entry: Mapping[str, Any], first: str) -> PairRecord:
    """Return the entry of two parts, of which `first` is one."""
    return PairRecord(
        same=int(entry["exact"]),
        near=int(entry["near"]),
        of_first=int(entry[f"{first}_images"]),
        examples=tuple((str(image), str(other)) for image, other in entry["examples"]),
    )
