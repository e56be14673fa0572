"""Duplicates between training, validation and test images: counted, reported and, if wanted, excluded from training."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.config import DataConfig
from common.data.sources.split import UNLABELED, Split
from common.data.splits.content_hashes import Hashes, content_hashes, exact_duplicates, label_conflicts, mean_bytes
from common.data.splits.near_duplicates import NearIndex, Partners, common_features
from common.data.splits.roles import Splits
from common.data.splits.thumbnails import BLOCK_LENGTH, SIDE, thumbnail_blocks, thumbnails
from common.data.splits.verification import MAX_VERIFY_ALL, is_decoded
from common.data.worker_count import count_threads
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

MAX_HASHED_IMAGES, MAX_HASHED_BYTES = 100_000, 2 * 2**30
"""Largest number of images, and of their bytes, that `duplicates: auto` hashes: a second, and a few."""
MAX_DECODED_BYTES = 256 * 2**20
"""Largest number of bytes that `duplicates: auto` decodes once more for near duplicates: a few seconds of JPEG."""
MAX_COMPARISONS = 10**12
"""Largest number of pairs whose thumbnails are compared: half an hour on a core. ImageNet with its hold-outs has 2e11."""
_PAIRS = (("train", "validation"), ("train", "test"), ("validation", "test"))
_MAX_LISTED, _MAX_LOGGED = 10, 3
_REMEDY = "data.duplicates=warn looks for them all the same, data.duplicates=ignore never."


class PairOfParts(NamedTuple):
    """The duplicates between two parts, by content and by look."""

    first: str
    second: str
    exact: Partners
    near: Partners

    def partners(self) -> Partners:
        """Return the partner of every image: one with the same content if there is one."""
        return Partners(*(np.where(exact >= 0, exact, near) for exact, near in zip(self.exact, self.near, strict=True)))


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """What was found in the parts of a run with `mode`, the value of data.duplicates.

    hashes: of the content of every image, by part; empty if they were not computed. skipped: why contents or looks (`exact`,
    `near`) were not compared. num_dropped: training images that were excluded.
    """

    mode: str
    parts: Mapping[str, Split]
    hashes: Mapping[str, Hashes]
    pairs: tuple[PairOfParts, ...]
    conflicts: list[tuple[int, int]]
    skipped: Mapping[str, str]
    num_dropped: int = 0

    def leaked(self) -> npt.NDArray[np.bool_]:
        """Return (n,) whether each training image has a duplicate in validation or test."""
        found = np.zeros(len(self.parts["train"]), dtype=bool)
        for pair in self.pairs:
            if pair.first == "train":
                found |= pair.partners().of_first >= 0
        return found

    def summary(self) -> dict[str, Any]:
        """Return the entry `duplicates` of data.json and result.json."""
        return {
            "mode": self.mode,
            "skipped": dict(self.skipped),
            **{f"{pair.first}/{pair.second}": self._count(pair) for pair in self.pairs},
            "label_conflicts": len(self.conflicts),
            "dropped": self.num_dropped,
        }

    def _count(self, pair: PairOfParts) -> dict[str, Any]:
        """Return the number of images of the second part that have a duplicate, those of the first, and examples by name."""
        exact, both = pair.exact.of_second >= 0, pair.partners()
        found = np.flatnonzero(both.of_second >= 0)
        examples = found[np.argsort(~exact[found], kind="stable")][:_MAX_LISTED]
        return {
            "exact": int(exact.sum()),
            "near": len(found) - int(exact.sum()),
            f"{pair.first}_images": int((both.of_first >= 0).sum()),
            "examples": [[self._name(pair.second, i), self._name(pair.first, both.of_second[i])] for i in examples],
        }

    def _name(self, part: str, index: int) -> str:
        return self.parts[part].name(int(index))

    def log(self) -> None:
        """Log one line per pair of parts with duplicates, one for contradicting labels, and what was not compared."""
        for pair in self.pairs:
            count = self._count(pair)
            if number := count["exact"] + count["near"]:
                _log.warning(
                    "data: %d of the %d %s images have duplicates among the %s images (%d with the same content, %d resized,"
                    " recompressed or mirrored), such as %s.%s",
                    number,
                    len(self.parts[pair.second]),
                    pair.second,
                    {"train": "training"}.get(pair.first, pair.first),
                    count["exact"],
                    count["near"],
                    "; ".join(" = ".join(names) for names in count["examples"][:_MAX_LOGGED]),
                    self._consequence(pair),
                )
            if others := self._with_other_labels(pair):
                _log.warning(
                    "data: %d of these %s images %s another label than their duplicate, such as %s. Correct the labels.",
                    len(others),
                    pair.second,
                    "has" if len(others) == 1 else "have",
                    "; ".join(others[:_MAX_LOGGED]),
                )
        if self.conflicts:
            _log.warning(
                "data: %d training images have the same content as another one and another label, such as %s. Correct the labels,"
                " or remove these images.",
                len(self.conflicts),
                "; ".join(self._conflict(*both) for both in self.conflicts[:_MAX_LOGGED]),
            )
        for what, reason in self.skipped.items():
            _log.info("data: %s duplicates are not looked for: %s", what, reason)

    def _with_other_labels(self, pair: PairOfParts) -> list[str]:
        """Return the images of the second part that have another label than their duplicate in the first, with both labels."""
        first, second = self.parts[pair.first], self.parts[pair.second]
        if first.labels is None or second.labels is None or first.class_names != second.class_names:
            return []
        partners = pair.partners().of_second
        found = np.flatnonzero(partners >= 0)
        one, two = first.labels[partners[found]], second.labels[found]
        differ = found[(one != two) & (one != UNLABELED) & (two != UNLABELED)]
        return [f"{_labeled(second, i)} = {_labeled(first, partners[i])}" for i in differ.tolist()]

    def _consequence(self, pair: PairOfParts) -> str:
        """Return what is done about the duplicates of two parts."""
        if pair.first != "train":
            return ""
        if self.num_dropped:
            return " These training images are excluded (data.duplicates=drop)."
        return f" Set data.duplicates=drop in both stages to exclude the {self._count(pair)['train_images']} training images."

    def _conflict(self, first: int, later: int) -> str:
        """Return both images with their labels."""
        return " = ".join(_labeled(self.parts["train"], index) for index in (first, later))


def _labeled(split: Split, index: int) -> str:
    """Return the name of a labeled image with its label."""
    assert split.labels is not None
    return f"{split.name(int(index))} ('{split.class_names[split.labels[index]]}')"


def find_duplicates(splits: Splits, config: DataConfig) -> Duplicates:
    """Compare the parts of a run with each other; `data.duplicates` says how far (`DataConfig`)."""
    parts = {part: split for part in ("train", "validation", "test") if (split := getattr(splits, part)) is not None}
    threads, mode = count_threads(config.workers), config.duplicates
    reasons = {"exact": _why_not_exact(parts, mode), "near": _why_not_near(parts, mode)}
    skipped = {what: reason for what, reason in reasons.items() if reason is not None}
    hashes = (
        {}
        if "exact" in skipped
        else {part: content_hashes(split.images, threads=threads) for part, split in parts.items()}
    )
    near = {} if "near" in skipped else _find_near(parts, threads=threads)
    if near is None:
        skipped["near"], near = f"the images are flat, or smaller than {SIDE} pixels", {}
    pairs = []
    for first, second in _PAIRS:
        if first in parts and second in parts:
            none = Partners.none(len(parts[first]), len(parts[second]))
            exact = exact_duplicates(hashes[first], hashes[second]) if hashes else none
            pairs.append(PairOfParts(first, second, exact, near.get((first, second), none)))
    labels = parts["train"].labels
    conflicts = label_conflicts(hashes["train"], labels) if hashes and labels is not None else []
    return Duplicates(mode=mode, parts=parts, hashes=hashes, pairs=tuple(pairs), conflicts=conflicts, skipped=skipped)


def drop_duplicates(splits: Splits, found: Duplicates) -> Splits:
    """Return the splits without the training images that have duplicates in validation or test, and with what was found.

    The subset is drawn before: which images are excluded depends on the hold-outs alone, so both stages exclude the same. Raise
    UserError if a class has no image left.
    """
    leaked = found.leaked()
    kept = np.flatnonzero(~leaked)
    train = splits.train.select(kept)
    counts = train.class_counts() or {name: len(train) for name in splits.subset.class_counts}
    emptied = [name for name, count in counts.items() if count == 0 and splits.subset.class_counts.get(name, 0)]
    if emptied or not len(train):
        raise UserError(
            f"data.duplicates is 'drop', which leaves {quoted(emptied or ['training'])} without images: all of them have duplicates"
            " among the validation and test images. Remove the duplicates from the data, or set data.duplicates=warn."
        )
    of_subset = kept[kept < len(splits.subset)]  # images without a label follow
    subset = replace(
        splits.subset,
        indices=splits.subset.indices[of_subset],
        class_counts=counts,
        num_unlabeled=len(kept) - len(of_subset),
    )
    hashes = {part: values[kept] if part == "train" else values for part, values in found.hashes.items()}
    _log.info("data: train: %d images excluded as duplicates of validation or test images", len(leaked) - len(kept))
    found = replace(found, num_dropped=int(leaked.sum()), hashes=hashes)
    return replace(splits, train=train, subset=subset, duplicates=found)


def _why_not_exact(parts: Mapping[str, Split], mode: str) -> str | None:
    """Return why contents are not compared, or None."""
    total = sum(len(split) for split in parts.values())
    if mode in ("warn", "drop"):
        return None
    if total > MAX_HASHED_IMAGES:
        return f"{total:,} images are more than {MAX_HASHED_IMAGES:,}. {_REMEDY}"
    num_bytes = _estimate_bytes(parts.values())
    if num_bytes > MAX_HASHED_BYTES:
        return f"the images have about {num_bytes / 2**30:.1f} GiB, more than {MAX_HASHED_BYTES / 2**30:.1f}. {_REMEDY}"
    return None


def _why_not_near(parts: Mapping[str, Split], mode: str) -> str | None:
    """Return why looks are not compared, or None."""
    if mode == "ignore":
        return "data.duplicates is 'ignore'"
    total = sum(len(split) for split in parts.values())
    comparisons = len(parts["train"]) * (total - len(parts["train"]))
    if comparisons > MAX_COMPARISONS:
        return f"{comparisons:.1e} pairs of images are more than {MAX_COMPARISONS:.0e}"
    if mode != "auto":
        return None
    if total > MAX_VERIFY_ALL:
        return f"{total:,} images are more than {MAX_VERIFY_ALL:,}. {_REMEDY}"
    num_bytes = _estimate_bytes(split for split in parts.values() if not is_decoded(split))
    if num_bytes > MAX_DECODED_BYTES:
        return f"decoding {num_bytes / 2**20:.0f} MiB of images again would take long. {_REMEDY}"
    return None


def _estimate_bytes(splits: Iterable[Split]) -> float:
    """Return the number of bytes of all images, estimated from a few of each split."""
    return sum(len(split) * mean_bytes(split.images) for split in splits)


def _find_near(parts: Mapping[str, Split], *, threads: int) -> dict[tuple[str, str], Partners] | None:
    """Return the near duplicates by pair of parts; None if the images are too small or flat to be compared.

    The training images are compared block by block and not kept.
    """
    thumbs = {part: thumbnails(split, threads=threads) for part, split in parts.items() if part != "train"}
    if not thumbs:
        return {}
    common = common_features(np.concatenate(list(thumbs.values())))
    if common is None:
        return None
    indices = {part: NearIndex(own, common) for part, own in thumbs.items()}
    train = parts["train"]
    found = {("train", part): Partners.none(len(train), len(index)) for part, index in indices.items()}
    for number, block in enumerate(thumbnail_blocks(train, threads=threads)):
        for part, index in indices.items():
            index.compare(block, number * BLOCK_LENGTH, found["train", part])
    if len(thumbs) == 2:
        found["validation", "test"] = Partners.none(len(thumbs["validation"]), len(thumbs["test"]))
        indices["test"].compare(thumbs["validation"], 0, found["validation", "test"])
    return found
