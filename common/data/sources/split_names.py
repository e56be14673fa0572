"""Which folders of a data source are splits, by their names: train, val2017, test_set, Validate."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

from common.errors import UserError, quoted

Role = Literal["train", "validation", "test"]

TRAIN_NAMES = ("train", "training")
VALIDATION_NAMES = ("validation", "valid", "val", "dev")
TEST_NAMES = ("test", "testing")
_WORDS: dict[Role, frozenset[str]] = {
    "train": frozenset((*TRAIN_NAMES, "trainset", "trainval")),
    "validation": frozenset((*VALIDATION_NAMES, "validate", "valset")),
    "test": frozenset((*TEST_NAMES, "testset")),
}
FILLERS = frozenset(
    (
        *(
            "set",
            "split",
            "data",
            "dataset",
            "image",
            "images",
            "img",
            "imgs",
            "input",
            "photos",
            "folder",
            "part",
            "new",
        ),
        *("mini", "small", "full", "extra", "subset", "sub", "final", "original", "resized"),
    )
)
"""Words that say nothing beside the role."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case; numbers and separators are none."""
    return [word.lower() for word in _WORD.findall(name)]


def split_role(name: str) -> Role | None:
    """Return the role that a word of a name tells, such as test of `seg_test` and `TestSet`; None without one, or with several."""
    words = {*words_of(name), name.lower()}
    roles = [role for role, usual in _WORDS.items() if words & usual]
    return roles[0] if len(roles) == 1 else None


def is_usual_name(name: str) -> bool:
    """Return whether a name is one that splits usually have, and nothing else."""
    return name.lower() in (*TRAIN_NAMES, *VALIDATION_NAMES, *TEST_NAMES)


def find_role(names: Iterable[str], role: Role, usual: Sequence[str]) -> list[str]:
    """Return the names of splits that have `role`: the first of the usual ones, ignoring case, otherwise all that a word tells."""
    names = list(names)
    exact = next((name for word in usual for name in names if name.lower() == word), None)
    return [exact] if exact is not None else [name for name in names if split_role(name) == role]


def are_splits(
    folders: Sequence[str], *, declared: Sequence[str], has_folders: Callable[[str], bool], title: str
) -> bool:
    """Return whether the folders of a source are splits, not classes.

    They are if the configuration declares one of them; if all have usual names of splits; if a folder `train` has folders; or if
    there is a folder `train` and a folder `test` or `validation`. A folder `train` beside `bus` and `tram` is a class. Raise
    UserError where only words of the names look like splits (`train2017`, `seg_test`) and no folders within them settle it.
    """
    if any(name in folders for name in declared):
        return True
    roles = {name: role for name in folders if (role := split_role(name)) is not None}
    usual = [name for name in roles if is_usual_name(name)]
    usual_roles = {roles[name] for name in usual}
    if len(usual) == len(folders) > 0 or (len(usual_roles) > 1 and "train" in usual_roles):
        return True
    if any(roles[name] == "train" and has_folders(name) for name in usual):
        return True
    alike = [
        name for name in roles if _has_train_and_other([other for other in roles if _rest(other) == _rest(name)], roles)
    ]
    if not alike:
        return False  # test_tube and training_shoes
    is_one_set = len(alike) == len(folders) and len({_rest(name) for name in alike}) == 1
    if is_one_set and all(has_folders(name) for name in alike if roles[name] == "train"):
        return True
    raise UserError(
        f"data.source: the folders {quoted(alike)} of {title} look like splits, not classes. Set"
        f" data.train_split={next(name for name in alike if roles[name] == 'train')} (and data.validation_split,"
        " data.test_split) if they are, or data.kind=class_folders if they are classes."
    )


def _rest(name: str) -> tuple[str, ...]:
    """Return the words of a name that are neither roles nor fillers: what two splits of one data set have in common."""
    return tuple(
        sorted(
            word
            for word in words_of(name)
            if word not in FILLERS and not any(word in usual for usual in _WORDS.values())
        )
    )


def _has_train_and_other(names: Sequence[str], roles: Mapping[str, Role]) -> bool:
    """Return whether some of the names are training splits and some are not."""
    return len({roles[name] == "train" for name in names}) > 1
