"""Roles of the splits of a source: training, validation, test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from common.data.sources.missing_labels import is_unlabeled_name
from common.data.sources.source import Source
from common.data.sources.split import Split
from common.data.sources.split_names import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES, Role, find_role
from common.data.splits.subset import Subset
from common.errors import UserError, quoted

if TYPE_CHECKING:
    from common.data.splits.duplicates import Duplicates


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The training, validation and test images of a run. `subset` gives the images of the full training set in `train`.

    Those of pre-training on partly labeled data are followed by `subset.num_unlabeled` images without a label.
    `excluded` lists the names of the corrupt images excluded from validation and test (data.on_corrupt=skip), by part. `duplicates`
    is what was found where duplicates are excluded (data.duplicates=drop). `held_out` are those of `validation` and `test` that
    were held out of the training images. `complete` are the parts with `excluded` images ("validation", "test"), with these.
    """

    train: Split
    validation: Split | None
    test: Split | None
    class_names: tuple[str, ...]
    subset: Subset
    excluded: dict[str, list[str]]
    duplicates: "Duplicates | None" = None
    held_out: frozenset[str] = frozenset()
    complete: Mapping[str, Split] = field(default_factory=dict)

    def without_unlabeled(self) -> "Splits":
        """Return the splits of a stage that needs labels: the training images that have one."""
        if not self.subset.num_unlabeled:
            return self
        train = self.train.select(np.arange(len(self.subset)))
        return replace(self, train=train, subset=replace(self.subset, num_unlabeled=0))


class Roles(NamedTuple):
    """Split name of each role; None if the role is filled by a hold-out of the training split.

    `explicit` are the roles whose split the configuration names; these splits must be usable.
    """

    train: str
    validation: str | None
    test: str | None
    explicit: frozenset[str]


def assign_roles(source: Source, *, train: str, validation: str | None, test: str | None) -> Roles:
    """Return the split of each role; None for `validation` or `test` selects a split by its usual names.

    Raise UserError for a split that does not exist, or that has two roles.
    """
    names = source.names()
    if train not in names and train in TRAIN_NAMES:
        names_left = [name for name in names if not is_unlabeled_name(name)]
        train = _find(names_left, "train", TRAIN_NAMES, source.title) or (
            names_left[0] if len(names_left) == 1 else names[0] if len(names) == 1 else train
        )
    for role, name in (("train", train), ("validation", validation), ("test", test)):
        if name is not None and name not in names:
            raise UserError(f"data.{role}_split is '{name}', but {source.title} has the splits {quoted(names)}.")
    explicit = frozenset(role for role, name in (("validation", validation), ("test", test)) if name is not None)
    unassigned = [name for name in names if name not in (train, validation, test) and not is_unlabeled_name(name)]
    validation = validation or _find(unassigned, "validation", VALIDATION_NAMES, source.title)
    test = test or _find(unassigned, "test", TEST_NAMES, source.title)
    for role, name, other, other_name in (
        ("validation", validation, "train", train),
        ("test", test, "train", train),
        ("test", test, "validation", validation),
    ):
        if name is not None and name == other_name:
            raise UserError(
                f"data.{role}_split and data.{other}_split are both '{name}', but they must not overlap. Remove"
                f" data.{role}_split to hold out a fraction of the training images."
            )
    return Roles(train, validation, test, explicit)


def _find(names: Sequence[str], role: Role, usual: Sequence[str], title: str) -> str | None:
    """Return the split of a role by its name, or None; raise UserError if several names tell the same role."""
    found = find_role(names, role, usual)
    if len(found) > 1:
        raise UserError(
            f"data.{role}_split: {title} has several splits for it: {quoted(found)}. Set it to one of them."
        )
    return found[0] if found else None
