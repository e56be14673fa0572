"""Roles of splits and hold-outs: training, validation and test never overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.images.collections import PixelImages
from common.data.sources.split import Split
from common.data.splits.roles import HoldOuts, align_classes, assign_roles, check_training_split, divide, hold_out
from common.errors import UserError


def make_split(labels: list[int] | None, names: tuple[str, ...] = ("a", "b", "c"), *, size: int = 0) -> Split:
    """Return a split of 1 by 1 images whose grey value is their position."""
    count = size if labels is None else len(labels)
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 3)
    images = PixelImages([pixels], np.ones((count, 2), dtype=np.int64), block_length=max(count, 1))
    return Split(
        images=images,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        class_names=names if labels is not None else (),
    )


class FakeSource:
    """A source of ready splits."""

    title = "the fake"

    def __init__(self, **splits: Split) -> None:
        self.splits = splits

    def names(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def read(self, name: str, *, labelled: bool) -> Split:
        if labelled and self.splits[name].labels is None:
            raise UserError(f"{name} has no labels")
        return self.splits[name]


def roles_of(names: list[str], train: str = "train", validation: str | None = None, test: str | None = None) -> tuple:
    """Return the roles the named splits get."""
    source = FakeSource(**{name: make_split([0]) for name in names})
    return assign_roles(source, train=train, validation=validation, test=test)[:3]


def divided(source: FakeSource, *, fractions: tuple[float, float] = (0.1, 0.2), **options: object) -> object:
    """Divide a source with its usual roles."""
    named = {"validation": options.pop("validation", None), "test": options.pop("test", None)}
    roles = assign_roles(source, train="train", **named)
    defaults = {"seed": 0, "kept": None, "labelled": True}
    return divide(source, source.splits["train"], roles, fractions=HoldOuts(*fractions), **(defaults | options))


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
def test_splits_serve_by_their_usual_names(names: list[str], expected: tuple) -> None:
    assert roles_of(names) == expected


def test_a_split_named_for_the_test_does_not_validate_too() -> None:
    assert roles_of(["train", "val"], test="val") == ("train", None, "val")


def test_a_split_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(UserError, match=r"data\.validation_split is 'x', but the fake has the splits 'train', 'test'"):
        roles_of(["train", "test"], validation="x")
    with pytest.raises(UserError, match=r"data\.train_split is 'train', but the fake has the splits 'a', 'b'"):
        roles_of(["a", "b"])


@pytest.mark.parametrize("roles", [{"validation": "train"}, {"test": "train"}, {"validation": "x", "test": "x"}])
def test_a_split_cannot_serve_twice(roles: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"are both '(train|x)'\. They must not overlap"):
        roles_of(["train", "x"], **roles)


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_parts_never_overlap_and_every_class_keeps_training(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = make_split(labels.tolist(), tuple("abcde"))
    none, pool = np.zeros(0, np.int64), np.arange(len(split))
    in_test = hold_out(split, pool, test, seed=seed, stream="test", kept=none)
    rest = np.setdiff1d(pool, in_test)
    in_validation = hold_out(split, rest, validation, seed=seed, stream="validation", kept=none)
    training = np.setdiff1d(rest, in_validation)
    assert len(in_test) + len(in_validation) + len(training) == len(split)
    assert set(labels[training]) == set(labels)
    for label, size in enumerate(sizes):
        share = np.count_nonzero(labels[in_test] == label)
        assert share == min(max(int(np.floor(test * size + 0.5)), 1), size - 1)


def test_divided_parts_hold_different_images() -> None:
    source = FakeSource(train=make_split([0, 1, 2] * 20))
    division = divided(source)
    parts = [division.test, division.validation, source.splits["train"].select(division.pool)]
    values = [{int(part.image(i)[0, 0, 0]) for i in range(len(part))} for part in parts]
    assert [len(value) for value in values] == [12, 6, 42]
    assert len(set.union(*values)) == 60
    assert division.test_origin == "held out of 'train' with data.split_seed 0"


def test_the_test_part_does_not_depend_on_the_validation_split() -> None:
    train, other = make_split([0, 1] * 30), make_split([0, 1])
    with_split, without = divided(FakeSource(train=train, val=other)), divided(FakeSource(train=train))
    assert with_split.test.fingerprint == without.test.fingerprint
    assert len(with_split.validation) == 2 and with_split.validation_origin == "the split 'val'"


def test_a_hold_out_passes_over_the_images_of_a_subset_and_keeps_the_rest() -> None:
    split, pool = make_split([0] * 40 + [1] * 40), np.arange(80)
    plain = hold_out(split, pool, 0.25, seed=1, stream="s", kept=np.zeros(0, np.int64))
    kept = np.concatenate([plain[:3], np.setdiff1d(pool, plain)[:5]])
    around = hold_out(split, pool, 0.25, seed=1, stream="s", kept=kept)
    assert len(around) == len(plain) == 20
    assert not set(around) & set(kept)
    assert set(plain) - set(kept) <= set(around)


def test_a_fraction_of_zero_leaves_the_part_out() -> None:
    division = divided(FakeSource(train=make_split([0, 1] * 5)), fractions=(0.0, 0.0))
    assert division.test is None and division.validation is None and len(division.pool) == 10
    assert division.test_origin == "data.test_fraction is 0"


def test_a_hold_out_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.test_fraction 0\.2 holds nothing out of the 3 images"):
        divided(FakeSource(train=make_split([0, 1, 2])))


def test_a_test_split_without_labels_is_left_aside_for_a_hold_out(caplog: pytest.LogCaptureFixture) -> None:
    division = divided(FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4)))
    assert len(division.test) == 4 and division.test_origin.startswith("held out")
    assert "the split 'test' of the fake has no labels and is left aside" in caplog.text


def test_a_named_split_without_labels_is_an_error() -> None:
    with pytest.raises(UserError, match="test has no labels"):
        divided(FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4)), test="test")


def test_pre_training_without_labels_holds_out_what_fine_tuning_holds_out() -> None:
    source = FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4))
    divisions = [divided(source, labelled=labelled) for labelled in (True, False)]
    assert divisions[0].pool.tolist() == divisions[1].pool.tolist()
    assert divisions[0].test.fingerprint == divisions[1].test.fingerprint


def test_without_demanded_labels_a_split_without_them_serves_when_named() -> None:
    source = FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4))
    division = divided(source, labelled=False, test="test")
    assert division.test.labels is None and division.test_origin == "the split 'test'"
    unlabelled = FakeSource(train=make_split(None, size=20), test=make_split([0, 1]))
    assert divided(unlabelled, labelled=False).test.labels is None


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(UserError, match="the split 'val' of the fake is empty"):
        divided(FakeSource(train=make_split([0, 1] * 10), val=make_split([])))


def test_labels_follow_the_names_of_the_training_classes() -> None:
    aligned = align_classes(make_split([0, 1, 1], ("c", "a")), ("a", "b", "c"), title="it")
    assert aligned.labels.tolist() == [2, 0, 0] and aligned.class_names == ("a", "b", "c")


def test_a_class_beyond_those_of_training_is_refused() -> None:
    with pytest.raises(UserError, match="it has classes that the training images do not have: 'x'"):
        align_classes(make_split([0, 1], ("a", "x")), ("a", "b"), title="it")


def test_an_unused_class_beyond_those_of_training_does_no_harm() -> None:
    assert align_classes(make_split([0], ("a", "x")), ("a", "b"), title="it").labels.tolist() == [0]


def test_a_class_without_images_is_refused_when_labels_count() -> None:
    split = make_split([0, 2])
    with pytest.raises(UserError, match=r"the fake has no image of 1 of its 3 classes: 'b'\. Add images"):
        check_training_split(split, title="the fake", labelled=True)
    check_training_split(split, title="the fake", labelled=False)


def test_a_single_class_is_refused_when_labels_count() -> None:
    with pytest.raises(UserError, match="has a single class, 'a'; there is nothing to tell apart"):
        check_training_split(make_split([0, 0], ("a",)), title="the fake", labelled=True)


def test_no_images_are_refused() -> None:
    with pytest.raises(UserError, match="the training split of the fake is empty"):
        check_training_split(make_split([]), title="the fake", labelled=False)


def test_a_selection_of_a_selection_reads_the_right_images() -> None:
    split = make_split([0, 1, 2, 0, 1, 2]).select([5, 3, 1]).select([2, 0])
    assert [int(split.image(index)[0, 0, 0]) for index in range(2)] == [1, 5]
    assert split.labels.tolist() == [1, 2] and split.name(0) == "image 1"
    assert split.class_counts() == {"a": 0, "b": 1, "c": 1}


def test_a_fingerprint_tells_images_labels_and_names_apart() -> None:
    splits = [
        make_split([0, 1, 2]),
        make_split([0, 1, 1]),
        make_split([0, 1, 2], ("a", "b", "d")),
        make_split([0, 1, 2]).select([0, 1]),
        make_split([0, 1, 2, 0]).select([0, 1, 3]),
        make_split(None, size=3),
    ]
    assert len({split.fingerprint for split in splits}) == len(splits)
    assert make_split([0, 1, 2]).fingerprint == splits[0].fingerprint
