"""Partition of a source into disjoint training, validation and test images, with hold-outs for missing splits."""

import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from common.data.sources.listing import normalized
from common.data.sources.source import Source
from common.data.sources.split import Split
from common.data.splits.groups import check_groups, hold_out_groups, nothing_held_out
from common.data.splits.roles import Roles
from common.data.splits.stratified import Indices, class_permutations
from common.data.splits.subset import Subset, draw_subset
from common.data.splits.unlabeled import divide
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)


class HoldOutFractions(NamedTuple):
    """Fraction of each class's training images held out if a source has no such split; 0 for none."""

    validation: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The images available for training (`pool`, sorted indices), and the disjoint validation and test splits.

    The origins describe, for logs, where validation and test come from.
    """

    roles: Roles
    pool: Indices
    validation: Split | None
    validation_origin: str
    test: Split | None
    test_origin: str
    held_out: frozenset[str]
    """Those of `validation` and `test` that were held out of the training images."""


def partition_source(
    source: Source,
    full_train: Split,
    roles: Roles,
    *,
    fractions: HoldOutFractions,
    seed: int,
    reserved: Indices | None,
    labeled: bool,
) -> Partition:
    """Partition a source into disjoint training, validation and test images.

    `full_train` is the training split of `roles`. Images in `reserved` (a published subset) are never held out. The test
    images are held out first, so they do not depend on whether there is a validation split. `labeled` requires labels in
    every part.
    """
    reserved = np.zeros(0, dtype=np.int64) if reserved is None else reserved
    pool = np.arange(len(full_train))
    parts: dict[str, tuple[Split | None, str]] = {}
    parts_held_out: set[str] = set()
    for part, name, fraction in (
        ("test", roles.test, fractions.test),
        ("validation", roles.validation, fractions.validation),
    ):
        split = None
        if name is not None:
            split = _read_part(source, name, full_train, labeled=labeled, explicit=part in roles.explicit)
        if split is not None:
            parts[part] = split, f"split '{name}'"
        elif fraction == 0:
            parts[part] = None, f"data.{part}_fraction is 0"
        else:
            held_out = hold_out(full_train, pool, fraction, seed=seed, stream=f"{part} hold-out", reserved=reserved)
            _check_hold_out(full_train, held_out, pool, fraction, part=part, train=roles.train)
            is_available = np.zeros(len(full_train), dtype=bool)
            is_available[pool] = True
            is_available[held_out] = False
            pool = np.flatnonzero(is_available)
            parts_held_out.add(part)
            parts[part] = full_train.select(held_out), f"held out from '{roles.train}' with data.split_seed {seed}"
    (validation, validation_origin), (test, test_origin) = parts["validation"], parts["test"]
    check_groups({"training": full_train.select(pool), "validation": validation, "test": test})
    return Partition(
        roles=roles,
        pool=pool,
        validation=validation,
        validation_origin=validation_origin,
        test=test,
        test_origin=test_origin,
        held_out=frozenset(parts_held_out),
    )


def _read_part(source: Source, name: str, full_train: Split, *, labeled: bool, explicit: bool) -> Split | None:
    """Return split `name` with the class indices of the training split.

    If the training images have labels and the split has none, as is common for published test splits, return None, so that
    a hold-out is used instead, even if labels are not required: otherwise pre-training would see the images that fine-tuning
    holds out. For an `explicit` split, raise UserError if `labeled`, and return it without labels otherwise.
    """
    split, rest = divide(source.read(name, labeled=labeled and explicit))
    if rest is not None:
        _log.info("data: %d images of the split '%s' have no label and are not used", len(rest), name)
    if not len(split):
        raise UserError(f"data.source: the split '{name}' of {source.title} is empty.")
    if full_train.labels is not None and split.labels is None and not explicit:
        _log.warning("data: the split '%s' of %s has no labels and is ignored", name, source.title)
        return None
    if full_train.labels is None:
        return replace(split, labels=None, class_names=())
    known = {_plain(name) for name in full_train.class_names}
    found = [] if split.labels is None else [split.class_names[label] for label in np.unique(split.labels)]
    if found and not explicit and not any(_plain(name) in known for name in found):
        _log.warning(
            "data: the split '%s' of %s has none of the training classes, only %s, so it has no labels and is ignored",
            name,
            source.title,
            quoted(found, limit=3),
        )
        return None
    return align_classes(split, full_train.class_names, title=f"the split '{name}' of {source.title}")


def _check_hold_out(
    full_train: Split, held_out: Indices, pool: Indices, fraction: float, *, part: str, train: str
) -> None:
    """Raise UserError if nothing is held out."""
    if not len(held_out):
        if full_train.groups is not None:
            raise nothing_held_out(full_train, pool, fraction, part=part, train=train)
        raise UserError(
            f"data.{part}_fraction {fraction:g} holds out none of the {len(pool)} images of '{train}': every class has a"
            f" single image, or data.subset_file selects all images. Set data.{part}_split, or set the fraction to 0."
        )


def check_training_split(full_train: Split, *, title: str, labeled: bool) -> None:
    """Raise UserError if the split has no images or, with labels required, a single class or an empty class."""
    if not len(full_train):
        raise UserError(f"data.source: the training split of {title} is empty.")
    plain = defaultdict[str, list[str]](list)
    for name in full_train.class_names:
        plain[_plain(name)].append(name)
    if alike := [name for names in plain.values() if len(names) > 1 for name in names]:
        _log.warning(
            "data: classes of %s differ only in case or spaces: %s. Rename them if they are the same",
            title,
            quoted(alike),
        )
    if not labeled:
        return
    empty = [name for name, count in full_train.class_counts().items() if count == 0]
    if empty:
        raise UserError(
            f"data.source: the training split of {title} has no images of {len(empty)} of its"
            f" {len(full_train.class_names)} classes: {quoted(empty)}. Add images of them, or remove the classes;"
            f" folders that are no classes are left out with data.leave_out=[{', '.join(empty[:3])}]."
        )
    if len(full_train.class_names) < 2:
        raise UserError(
            f"data.source: the training split of {title} has a single class, {quoted(full_train.class_names)}; a classifier"
            " needs at least two. Check whether data.source is one folder level too deep or too high."
        )


def _plain(name: str) -> str:
    """Return the name of a class without regard to case and spaces around it."""
    return normalized(name).strip().casefold()


def choose_subset(
    full_train: Split, pool: Indices, *, fraction: float, images_per_class: int | None, seed: int
) -> Subset:
    """Draw a subset of the images of `full_train` in `pool`; its indices are positions in `full_train`.

    Unlabeled images count as one class.
    """
    labeled = full_train.labels is not None
    subset = draw_subset(
        full_train.labels[pool] if full_train.labels is not None else np.zeros(len(pool), dtype=np.int64),
        fraction=None if images_per_class is not None else fraction,
        images_per_class=images_per_class,
        seed=seed,
        class_names=full_train.class_names if labeled else ("unlabeled",),
    )
    return replace(subset, indices=pool[subset.indices], num_images=len(full_train), fingerprint=full_train.fingerprint)


def align_classes(split: Split, class_names: tuple[str, ...], *, title: str) -> Split:
    """Return `split` with its labels mapped to indices of `class_names`; raise UserError for unknown classes."""
    if split.labels is None or split.class_names == class_names:
        return split
    class_indices = {normalized(name): index for index, name in enumerate(class_names)}
    used = np.unique(split.labels)
    unknown = [split.class_names[label] for label in used if normalized(split.class_names[label]) not in class_indices]
    if unknown:
        alike = {_plain(name): name for name in class_names}
        only = [f"'{name}' is '{alike[_plain(name)]}' in training" for name in unknown if _plain(name) in alike]
        reason = f" but for case and spaces: {'; '.join(only[:3])}" if only else f": {quoted(unknown)}"
        remedy = (
            "Give them the same names."
            if only
            else "Rename them, or leave them out with data.leave_out or from the table."
        )
        raise UserError(f"{title} has classes that the training images do not have{reason}. {remedy}")
    mapping = np.zeros(len(split.class_names), dtype=np.int64)
    mapping[used] = [class_indices[normalized(split.class_names[label])] for label in used]
    return replace(split, labels=mapping[split.labels], class_names=class_names)


def hold_out(split: Split, pool: Indices, fraction: float, *, seed: int, stream: str, reserved: Indices) -> Indices:
    """Return the sorted indices in `split` of a stratified sample of `pool` that is excluded from training.

    From each class of n images in the pool, round-half-up(fraction * n) are held out, at least one and at most n - 1; none
    from a class of a single image. Images in `reserved` (a published subset) are skipped, so that the hold-out is the same
    with and without the subset except where they overlap. Images with groups are held out group by group (`hold_out_groups`).
    """
    if split.groups is not None:
        return hold_out_groups(split, pool, fraction, seed=seed, stream=stream, reserved=reserved)
    labels = np.zeros(len(pool), np.int64) if split.labels is None else split.labels[pool]
    is_reserved = np.zeros(len(split), dtype=bool)
    is_reserved[reserved] = True
    is_skipped = is_reserved[pool]
    held_out = [np.zeros(0, dtype=np.int64)]
    for _, order in class_permutations(labels, seed=seed, stream=stream):
        count = min(max(int(np.floor(fraction * len(order) + 0.5)), 1), len(order) - 1)
        held_out.append(order[~is_skipped[order]][:count])
    return np.sort(pool[np.concatenate(held_out)])
