"""Roles of the splits of a source, by their names and by the configuration."""

import pytest

from common.data.sources.split import Split
from common.data.splits.roles import assign_roles
from common.errors import UserError


class FakeSource:
    """A source of splits that are not read."""

    title = "the fake"

    def __init__(self, names: list[str]) -> None:
        self._names = tuple(names)

    def names(self) -> tuple[str, ...]:
        return self._names

    def read(self, name: str, *, labeled: bool) -> Split:
        raise AssertionError("roles are assigned by name")


def roles_of(names: list[str], train: str = "train", validation: str | None = None, test: str | None = None) -> tuple:
    """Return the roles assigned to splits of these names."""
    return assign_roles(FakeSource(names), train=train, validation=validation, test=test)[:3]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "val", "test"], ("train", "val", "test")),
        (["test", "train", "valid"], ("train", "valid", "test")),
        (["Train", "Validation", "Testing"], ("Train", "Validation", "Testing")),
        (["train"], ("train", None, None)),
        (["everything"], ("everything", None, None)),
        (["train", "dev", "unsupervised"], ("train", "dev", None)),
        (["train", "val", "validation"], ("train", "validation", None)),
    ],
)
def test_roles_are_assigned_by_usual_names(names: list[str], expected: tuple) -> None:
    assert roles_of(names) == expected


def test_explicit_test_split_is_not_the_validation_split() -> None:
    assert roles_of(["train", "val"], test="val") == ("train", None, "val")


def test_unknown_split_lists_the_existing_ones() -> None:
    with pytest.raises(UserError, match=r"data\.validation_split is 'x', but the fake has the splits 'train', 'test'"):
        roles_of(["train", "test"], validation="x")
    with pytest.raises(UserError, match=r"data\.train_split is 'train', but the fake has the splits 'a', 'b'"):
        roles_of(["a", "b"])


@pytest.mark.parametrize("roles", [{"validation": "train"}, {"test": "train"}, {"validation": "x", "test": "x"}])
def test_split_cannot_have_two_roles(roles: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"are both '(train|x)', but they must not overlap"):
        roles_of(["train", "x"], **roles)
