"""Owns the roles of a source's splits: which one trains, validates and tests, and the hold-outs where there is none."""

import logging
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from common.data.sources.source import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES, Source
from common.data.sources.split import Split
from common.data.splits.stratified import Indices, class_permutations
from common.data.splits.subset import Subset, draw_subset
from common.errors import UserError, some

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """What a run trains on and is measured by; `subset` says which images of the source's training set train.

    `left_out` names the broken images that were taken out of validation and test (data.on_error=skip), by part.
    """

    train: Split
    validation: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    subset: Subset
    left_out: dict[str, list[str]]


class Roles(NamedTuple):
    """Names of the splits that serve; None where a hold-out of the training split has to.

    `named` are the roles whose split the user named, and which therefore must be usable.
    """

    train: str
    validation: str | None
    test: str | None
    named: frozenset[str]


def assign_roles(source: Source, *, train: str, validation: str | None, test: str | None) -> Roles:
    """Return which split serves as what; None for validation and test means: find it by its usual names.

    Raise UserError for a split that does not exist, or that would serve twice.
    """
    names = source.names()
    if train not in names and train in TRAIN_NAMES:
        alike = [name for name in names if name.lower() in TRAIN_NAMES]
        train = alike[0] if alike else names[0] if len(names) == 1 else train
    for role, name in (("train", train), ("validation", validation), ("test", test)):
        if name is not None and name not in names:
            raise UserError(f"data.{role}_split is '{name}', but {source.title} has the splits {some(names)}.")
    named = frozenset(role for role, name in (("validation", validation), ("test", test)) if name is not None)
    free = [name for name in names if name not in (train, validation, test)]
    validation = validation or _find(free, VALIDATION_NAMES)
    test = test or _find(free, TEST_NAMES)
    for role, name, other, other_name in (
        ("validation", validation, "train", train),
        ("test", test, "train", train),
        ("test", test, "validation", validation),
    ):
        if name is not None and name == other_name:
            raise UserError(
                f"data.{role}_split and data.{other}_split are both '{name}'. They must not overlap: leave"
                f" data.{role}_split empty, and a part of the training images is held out."
            )
    return Roles(train, validation, test, named)


def _find(names: list[str], usual: tuple[str, ...]) -> str | None:
    """Return the first of `names` in the order of the usual ones, whatever its case."""
    return next((name for word in usual for name in names if name.lower() == word), None)


class HoldOuts(NamedTuple):
    """Parts of every class's training images that are held out where a source has no such split; 0 for none."""

    validation: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Division:
    """The images that may train (`pool`, sorted positions), and what they are kept apart from, with its origin."""

    roles: Roles
    pool: Indices
    validation: Split | None
    validation_origin: str
    test: Split | None
    test_origin: str


def divide(
    source: Source,
    whole: Split,
    roles: Roles,
    *,
    fractions: HoldOuts,
    seed: int,
    kept: Indices | None,
    labelled: bool,
) -> Division:
    """Divide the training split `whole` and its neighbours into training, validation and test without overlap.

    Images in `kept` (a published subset) stay with training. The test part is taken first: it does not depend on
    whether there is a validation split. `labelled` demands labels of every part.
    """
    kept = np.zeros(0, dtype=np.int64) if kept is None else kept
    pool = np.arange(len(whole))
    parts: dict[str, tuple[Split | None, str]] = {}
    for part, name, fraction in (
        ("test", roles.test, fractions.test),
        ("validation", roles.validation, fractions.validation),
    ):
        split = None
        if name is not None:
            split = _read_part(source, name, whole, labelled=labelled, named=part in roles.named)
        if split is not None:
            parts[part] = split, f"the split '{name}'"
        elif fraction == 0:
            parts[part] = None, f"data.{part}_fraction is 0"
        else:
            held = hold_out(whole, pool, fraction, seed=seed, stream=f"{part} hold-out", kept=kept)
            if not len(held):
                raise UserError(
                    f"data.{part}_fraction {fraction:g} holds nothing out of the {len(pool)} images of '{roles.train}':"
                    f" every class has one image, or data.subset_file takes all. Name data.{part}_split, or set the"
                    " fraction to 0."
                )
            free = np.zeros(len(whole), dtype=bool)
            free[pool] = True
            free[held] = False
            pool = np.flatnonzero(free)
            parts[part] = whole.select(held), f"held out of '{roles.train}' with data.split_seed {seed}"
    (validation, validation_origin), (test, test_origin) = parts["validation"], parts["test"]
    return Division(
        roles=roles,
        pool=pool,
        validation=validation,
        validation_origin=validation_origin,
        test=test,
        test_origin=test_origin,
    )


def _read_part(source: Source, name: str, whole: Split, *, labelled: bool, named: bool) -> Split | None:
    """Return split `name` with the classes of the training split.

    Where the training images have labels and it has none, as published test splits often do, return None, so that a
    hold-out serves. This holds also where labels are not demanded, or pre-training would see the images that
    fine-tuning holds out. If the user `named` the split, raise UserError where `labelled`, and return it otherwise.
    """
    split = source.read(name, labelled=labelled and named)
    if not len(split):
        raise UserError(f"data.source: the split '{name}' of {source.title} is empty.")
    if whole.labels is not None and split.labels is None and not named:
        _log.warning("data: the split '%s' of %s has no labels and is left aside", name, source.title)
        return None
    if whole.labels is None:
        return replace(split, labels=None, class_names=())
    return align_classes(split, whole.class_names, title=f"the split '{name}' of {source.title}")


def check_training_split(whole: Split, *, title: str, labelled: bool) -> None:
    """Raise UserError when there is nothing to train on: no images; with labels, a single class or an empty one."""
    if not len(whole):
        raise UserError(f"data.source: the training split of {title} is empty.")
    if not labelled:
        return
    empty = [name for name, count in whole.class_counts().items() if count == 0]
    if empty:
        raise UserError(
            f"data.source: the training split of {title} has no image of {len(empty)} of its {len(whole.class_names)}"
            f" classes: {some(empty)}. Add images of them, or remove the classes."
        )
    if len(whole.class_names) < 2:
        raise UserError(
            f"data.source: the training split of {title} has a single class, {some(whole.class_names)}; there is"
            " nothing to tell apart. Does the source point one folder too deep or too high?"
        )


def choose_subset(whole: Split, pool: Indices, *, fraction: float, images_per_class: int | None, seed: int) -> Subset:
    """Draw a subset of the images of `whole` that are in `pool`; its indices are positions in `whole`.

    Images without labels count as one class.
    """
    labelled = whole.labels is not None
    subset = draw_subset(
        whole.labels[pool] if whole.labels is not None else np.zeros(len(pool), dtype=np.int64),
        fraction=None if images_per_class is not None else fraction,
        images_per_class=images_per_class,
        seed=seed,
        class_names=whole.class_names if labelled else ("unlabelled",),
    )
    return replace(subset, indices=pool[subset.indices], num_images=len(whole), fingerprint=whole.fingerprint)


def align_classes(split: Split, class_names: tuple[str, ...], *, title: str) -> Split:
    """Return `split` with its labels renumbered to `class_names`; raise UserError for a class beyond them."""
    if split.labels is None or split.class_names == class_names:
        return split
    numbers = {name: number for number, name in enumerate(class_names)}
    used = np.unique(split.labels)
    strange = [split.class_names[label] for label in used if split.class_names[label] not in numbers]
    if strange:
        raise UserError(f"{title} has classes that the training images do not have: {some(strange)}. Rename them.")
    renumbered = np.zeros(len(split.class_names), dtype=np.int64)
    renumbered[used] = [numbers[split.class_names[label]] for label in used]
    return replace(split, labels=renumbered[split.labels], class_names=class_names)


def hold_out(split: Split, pool: Indices, fraction: float, *, seed: int, stream: str, kept: Indices) -> Indices:
    """Return the positions in `split`, sorted, of a stratified part of `pool` that training must not see.

    Each class of n images in the pool gives round-half-up(fraction * n) of them, at least one and at most n - 1; a
    class of a single image gives none. Images in `kept` (a published subset) are passed over, so that the hold-out is
    the same with and without the subset wherever they do not meet.
    """
    labels = np.zeros(len(pool), np.int64) if split.labels is None else split.labels[pool]
    is_kept = np.zeros(len(split), dtype=bool)
    is_kept[kept] = True
    passed_over = is_kept[pool]
    chosen = [np.zeros(0, dtype=np.int64)]
    for _, order in class_permutations(labels, seed=seed, stream=stream):
        wanted = min(max(int(np.floor(fraction * len(order) + 0.5)), 1), len(order) - 1)
        chosen.append(order[~passed_over[order]][:wanted])
    return np.sort(pool[np.concatenate(chosen)])
