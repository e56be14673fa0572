"""Samplers: the images of an epoch, their order, and the part of each process."""

import time
from collections import Counter

import numpy as np
import pytest

from common.data.loading.sampler import EpochBatches, EpochSampler, EvaluationSampler
from common.errors import UserError


def flat(batches):
    return [key for batch in batches for key in batch]


def test_an_epoch_has_each_image_at_most_once_and_drops_the_remainder():
    sampler = EpochSampler(23, 5, seed=3)
    batches = list(sampler.batches(0))
    assert sampler.steps_per_epoch == len(batches) == 4
    assert [len(batch) for batch in batches] == [5] * 4
    indices = [key.index for key in flat(batches)]
    assert len(set(indices)) == 20 and set(indices) < set(range(23))
    assert [key.position for key in flat(batches)] == list(range(20))
    assert {key.repeat for key in flat(batches)} == {0}


def test_order_is_keyed_by_seed_and_epoch():
    order = EpochSampler(50, 5, seed=3).order(2)
    assert sorted(order) == list(range(50))
    assert np.array_equal(order, EpochSampler(50, 10, seed=3, rank=1, num_processes=2).order(2))
    assert not np.array_equal(order, EpochSampler(50, 5, seed=3).order(3))
    assert not np.array_equal(order, EpochSampler(50, 5, seed=4).order(2))
    assert np.array_equal(EpochSampler(50, 5, seed=3, shuffle=False).order(2), np.arange(50))


@pytest.mark.parametrize("repeats", [1, 3])
def test_each_process_takes_a_contiguous_block_of_the_global_batch(repeats):
    global_batches = list(EpochSampler(100, 12, seed=1, repeats=repeats).batches(4))
    parts = [
        list(EpochSampler(100, 12, seed=1, repeats=repeats, rank=rank, num_processes=3).batches(4)) for rank in range(3)
    ]
    for step, batch in enumerate(global_batches):
        assert batch == flat(part[step] for part in parts)
        assert all(len(part[step]) == 4 for part in parts)


def test_epoch_can_start_at_any_step():
    sampler = EpochSampler(40, 8, seed=0)
    assert list(sampler.batches(1, first_step=3)) == list(sampler.batches(1))[3:]


def test_a_small_data_set_is_repeated_to_fill_a_batch():
    sampler = EpochSampler(7, 16, seed=0)
    (batch,) = sampler.batches(0)
    assert sampler.steps_per_epoch == 1
    assert Counter(key.index for key in batch) == Counter({i: 3 if i in sampler.order(0)[:2] else 2 for i in range(7)})
    assert [key.repeat for key in batch] == [0] * 7 + [1] * 7 + [2] * 2
    assert len({(key.index, key.repeat) for key in batch}) == 16


@pytest.mark.parametrize(("num_images", "batch_size"), [(1000, 96), (1000, 64), (50, 64), (9, 64), (2, 6)])
def test_repeated_augmentation_keeps_copies_in_one_batch_but_not_adjacent(num_images, batch_size):
    sampler = EpochSampler(num_images, batch_size, seed=5, repeats=3)
    seen = set()
    for batch in sampler.batches(0):
        assert len(batch) == batch_size
        assert len({(key.index, key.repeat) for key in batch}) == batch_size
        images = {key.index for key in batch}
        assert not images & seen
        seen |= images
        assert all(first.index != second.index for first, second in zip(batch[::2], batch[1::2], strict=True))
        counts = Counter(key.index for key in batch)
        assert max(counts.values()) <= 3 or num_images < batch_size
    assert sampler.steps_per_epoch == max(1, num_images // batch_size)


def test_copies_of_an_image_are_on_different_processes():
    parts = [next(EpochSampler(500, 48, seed=5, repeats=3, rank=rank, num_processes=3).batches(0)) for rank in range(3)]
    images = [[key.index for key in part] for part in parts]
    assert images[0] == images[1] == images[2] and len(set(images[0])) == 16
    assert [{key.repeat for key in part} for part in parts] == [{0}, {1}, {2}]


def test_adjacent_images_differ_when_a_small_split_fills_a_batch():
    for num_images in range(2, 12):
        (batch,) = EpochSampler(num_images, 12, seed=0).batches(0)
        assert all(first.index != second.index for first, second in zip(batch[::2], batch[1::2], strict=True))


def test_order_of_a_large_epoch_is_fast():
    sampler = EpochSampler(1_300_000, 1024, seed=0, repeats=3)
    start = time.perf_counter()
    next(sampler.batches(0))
    assert time.perf_counter() - start < 0.5


def test_batch_size_must_divide_among_the_processes():
    with pytest.raises(UserError, match=r"train\.batch_size = 10.*multiple of 4"):
        EpochSampler(100, 10, seed=0, num_processes=4)
    with pytest.raises(UserError, match=r"train\.batch_size = 0"):
        EpochSampler(100, 0, seed=0)


def test_an_empty_split_and_zero_repeats_are_rejected():
    with pytest.raises(UserError, match=r"data\.source"):
        EpochSampler(0, 4, seed=0)
    with pytest.raises(UserError, match=r"augment\.aug_repeats = 0"):
        EpochSampler(8, 4, seed=0, repeats=0)


def test_epoch_batches_run_over_epochs_from_any_step():
    sampler = EpochSampler(20, 4, seed=0)
    batches = EpochBatches(sampler)
    assert len(batches) == 5 and list(batches) == list(sampler.batches(0))
    batches.set_epoch(2, 3, num_epochs=2)
    expected = list(sampler.batches(2, 3)) + list(sampler.batches(3))
    assert len(batches) == len(expected) == 7
    assert list(batches) == expected


@pytest.mark.parametrize(("num_images", "num_processes"), [(10, 1), (10, 3), (2, 3), (64, 2)])
def test_evaluation_uses_each_image_once_in_order(num_images, num_processes):
    samplers = [
        EvaluationSampler(num_images, 4, rank=rank, num_processes=num_processes) for rank in range(num_processes)
    ]
    parts = [list(sampler) for sampler in samplers]
    assert [len(part) for part in parts] == [len(sampler) for sampler in samplers]
    assert [key.index for part in parts for batch in part for key in batch] == list(range(num_images))
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1
