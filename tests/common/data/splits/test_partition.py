"""Partition of a source: training, validation and test images are disjoint."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.splits.partition import (
    HoldOutFractions,
    align_classes,
    check_training_split,
    hold_out,
    partition_source,
)
from common.data.splits.roles import assign_roles
from common.errors import UserError


def make_split(labels: list[int] | None, names: tuple[str, ...] = ("a", "b", "c"), *, size: int = 0) -> Split:
    """Return a split of 1 x 1 images whose gray value is their index."""
    count = size if labels is None else len(labels)
    pixels = np.repeat(np.arange(count, dtype=np.uint8), 3)
    shapes = np.ones((count, 2), dtype=np.int64)
    images = PixelImages([pixels], shapes, block_length=max(count, 1), decoder=ImageDecoder())
    return Split(
        images=images,
        labels=None if labels is None else np.array(labels, dtype=np.int64),
        class_names=names if labels is not None else (),
    )


class FakeSource:
    """A source of given splits."""

    title = "the fake"

    def __init__(self, **splits: Split) -> None:
        self.splits = splits

    def names(self) -> tuple[str, ...]:
        return tuple(self.splits)

    def read(self, name: str, *, labeled: bool) -> Split:
        if labeled and self.splits[name].labels is None:
            raise UserError(f"{name} has no labels")
        return self.splits[name]


def partitioned(source: FakeSource, *, fractions: tuple[float, float] = (0.1, 0.2), **options: object) -> object:
    """Partition a source with its usual roles."""
    explicit = {"validation": options.pop("validation", None), "test": options.pop("test", None)}
    roles = assign_roles(source, train="train", **explicit)
    defaults = {"seed": 0, "reserved": None, "labeled": True}
    fractions = HoldOutFractions(*fractions)
    return partition_source(source, source.splits["train"], roles, fractions=fractions, **(defaults | options))


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
@settings(max_examples=80, deadline=None)
def test_parts_are_disjoint_and_every_class_keeps_training_images(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    split = make_split(labels.tolist(), tuple("abcde"))
    empty, pool = np.zeros(0, np.int64), np.arange(len(split))
    in_test = hold_out(split, pool, test, seed=seed, stream="test", reserved=empty)
    rest = np.setdiff1d(pool, in_test)
    in_validation = hold_out(split, rest, validation, seed=seed, stream="validation", reserved=empty)
    training = np.setdiff1d(rest, in_validation)
    assert len(in_test) + len(in_validation) + len(training) == len(split)
    assert set(labels[training]) == set(labels)
    for label, size in enumerate(sizes):
        count = np.count_nonzero(labels[in_test] == label)
        assert count == min(max(int(np.floor(test * size + 0.5)), 1), size - 1)


def test_partition_is_disjoint_and_complete() -> None:
    source = FakeSource(train=make_split([0, 1, 2] * 20))
    partition = partitioned(source)
    parts = [partition.test, partition.validation, source.splits["train"].select(partition.pool)]
    values = [{int(part.image(i)[0, 0, 0]) for i in range(len(part))} for part in parts]
    assert [len(value) for value in values] == [12, 6, 42]
    assert len(set.union(*values)) == 60
    assert partition.test_origin == "held out from 'train' with data.split_seed 0"


def test_test_hold_out_does_not_depend_on_the_validation_split() -> None:
    train, other = make_split([0, 1] * 30), make_split([0, 1])
    with_split, without = partitioned(FakeSource(train=train, val=other)), partitioned(FakeSource(train=train))
    assert with_split.test.fingerprint == without.test.fingerprint
    assert len(with_split.validation) == 2 and with_split.validation_origin == "split 'val'"


def test_hold_out_skips_reserved_images_and_keeps_the_others() -> None:
    split, pool = make_split([0] * 40 + [1] * 40), np.arange(80)
    expected = hold_out(split, pool, 0.25, seed=1, stream="s", reserved=np.zeros(0, np.int64))
    reserved = np.concatenate([expected[:3], np.setdiff1d(pool, expected)[:5]])
    held_out = hold_out(split, pool, 0.25, seed=1, stream="s", reserved=reserved)
    assert len(held_out) == len(expected) == 20
    assert not set(held_out) & set(reserved)
    assert set(expected) - set(reserved) <= set(held_out)


def test_fraction_zero_holds_out_nothing() -> None:
    partition = partitioned(FakeSource(train=make_split([0, 1] * 5)), fractions=(0.0, 0.0))
    assert partition.test is None and partition.validation is None and len(partition.pool) == 10
    assert partition.test_origin == "data.test_fraction is 0"


def test_empty_hold_out_is_rejected() -> None:
    with pytest.raises(UserError, match=r"data\.test_fraction 0\.2 holds out none of the 3 images"):
        partitioned(FakeSource(train=make_split([0, 1, 2])))


def test_test_split_without_labels_is_replaced_by_a_hold_out(caplog: pytest.LogCaptureFixture) -> None:
    partition = partitioned(FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4)))
    assert len(partition.test) == 4 and partition.test_origin.startswith("held out")
    assert "the split 'test' of the fake has no labels and is ignored" in caplog.text


def test_explicit_split_without_labels_is_an_error() -> None:
    with pytest.raises(UserError, match="test has no labels"):
        partitioned(FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4)), test="test")


def test_pre_training_and_fine_tuning_hold_out_the_same_images() -> None:
    source = FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4))
    partitions = [partitioned(source, labeled=labeled) for labeled in (True, False)]
    assert partitions[0].pool.tolist() == partitions[1].pool.tolist()
    assert partitions[0].test.fingerprint == partitions[1].test.fingerprint


def test_explicit_split_without_labels_is_used_if_labels_are_not_required() -> None:
    source = FakeSource(train=make_split([0, 1] * 10), test=make_split(None, size=4))
    partition = partitioned(source, labeled=False, test="test")
    assert partition.test.labels is None and partition.test_origin == "split 'test'"
    unlabeled = FakeSource(train=make_split(None, size=20), test=make_split([0, 1]))
    assert partitioned(unlabeled, labeled=False).test.labels is None


def test_empty_split_is_rejected() -> None:
    with pytest.raises(UserError, match="the split 'val' of the fake is empty"):
        partitioned(FakeSource(train=make_split([0, 1] * 10), val=make_split([])))


def test_labels_are_aligned_by_class_name() -> None:
    aligned = align_classes(make_split([0, 1, 1], ("c", "a")), ("a", "b", "c"), title="it")
    assert aligned.labels.tolist() == [2, 0, 0] and aligned.class_names == ("a", "b", "c")


def test_class_unknown_to_training_is_rejected() -> None:
    with pytest.raises(UserError, match="it has classes that the training images do not have: 'x'"):
        align_classes(make_split([0, 1], ("a", "x")), ("a", "b"), title="it")


def test_unused_class_unknown_to_training_is_ignored() -> None:
    assert align_classes(make_split([0], ("a", "x")), ("a", "b"), title="it").labels.tolist() == [0]


def test_class_without_images_is_rejected_if_labels_are_required() -> None:
    split = make_split([0, 2])
    with pytest.raises(UserError, match=r"the fake has no images of 1 of its 3 classes: 'b'\. Add images"):
        check_training_split(split, title="the fake", labeled=True)
    check_training_split(split, title="the fake", labeled=False)


def test_single_class_is_rejected_if_labels_are_required() -> None:
    with pytest.raises(UserError, match="has a single class, 'a'; a classifier needs at least two"):
        check_training_split(make_split([0, 0], ("a",)), title="the fake", labeled=True)


def test_split_without_images_is_rejected() -> None:
    with pytest.raises(UserError, match="the training split of the fake is empty"):
        check_training_split(make_split([]), title="the fake", labeled=False)


def test_nested_selection_reads_the_right_images() -> None:
    split = make_split([0, 1, 2, 0, 1, 2]).select([5, 3, 1]).select([2, 0])
    assert [int(split.image(index)[0, 0, 0]) for index in range(2)] == [1, 5]
    assert split.labels.tolist() == [1, 2] and split.name(0) == "image 1"
    assert split.class_counts() == {"a": 0, "b": 1, "c": 1}


def test_fingerprint_distinguishes_images_labels_and_class_names() -> None:
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
