"""PK sampling: contents of a batch and an epoch, the part of each process, and resuming."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest

from common.data.reid.pk_sampler import PKSampler, most_steps
from common.errors import UserError

COUNTS = [9, 4, 4, 13, 2, 5, 8, 30, 6, 4, 3, 7]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))


def sampler(**options):
    return PKSampler(LABELS, 16, 4, 3, **options)


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_a_batch_has_four_identities_with_four_images_each(epoch):
    batches = list(sampler().batches(epoch))
    assert len(batches) == sampler().steps_per_epoch
    for batch in batches:
        blocks = [batch[start : start + 4] for start in range(0, 16, 4)]
        identities = [{int(LABELS[key.index]) for key in block} for block in blocks]
        assert all(len(block) == 1 for block in identities) and len(set.union(*identities)) == 4
        assert len({(key.index, key.repeat) for key in batch}) == 16
    keys = list(chain.from_iterable(batches))
    assert [key.position for key in keys] == list(range(len(keys))) and {key.epoch for key in keys} == {epoch}


def test_an_image_occurs_once_per_epoch_unless_its_identity_has_too_few():
    counts = Counter(key.index for batch in sampler().batches(0) for key in batch)
    assert {int(LABELS[index]) for index, count in counts.items() if count > 1} <= {4, 10}
    repeated = [key for batch in sampler().batches(0) for key in batch if LABELS[key.index] == 4]
    assert sorted(key.repeat for key in repeated) == [0, 0, 1, 1] and len({key.index for key in repeated}) == 2


@pytest.mark.parametrize("groups", [[1] * 8, [2, 1, 1, 3, 1, 1, 2, 7, 1, 1, 1, 1], [50, 1, 1, 1], [3, 3, 3, 3]])
def test_the_length_of_an_epoch_is_the_largest_that_can_be_filled(groups):
    steps = most_steps(np.array(groups), 4)
    fits = [count for count in range(1, 60) if sum(min(group, count) for group in groups) >= 4 * count]
    assert steps == max(fits)


def test_every_epoch_can_be_filled_for_all_draws():
    """With very different numbers of images per identity, a greedy draw without lookahead would run out of identities."""
    labels = np.repeat(np.arange(9), [36, 36, 28, 24, 4, 4, 4, 4, 4])
    uneven = PKSampler(labels, 16, 4, 0)
    assert uneven.steps_per_epoch == 9
    for epoch in range(20):
        chosen = list(uneven.identities(epoch))
        assert len(chosen) == 9 and all(len({identity for identity, _ in batch}) == 4 for batch in chosen)
        assert len({pair for batch in chosen for pair in batch}) == 36


@pytest.mark.parametrize("num_processes", [2, 4])
def test_each_process_takes_complete_identities_of_the_global_batch(num_processes):
    global_batches = list(sampler().batches(4))
    parts = [list(sampler(rank=rank, num_processes=num_processes).batches(4)) for rank in range(num_processes)]
    for step, batch in enumerate(global_batches):
        assert batch == list(chain.from_iterable(part[step] for part in parts))
        assert all(len({int(LABELS[key.index]) for key in part[step]}) == 4 // num_processes for part in parts)


def test_an_epoch_can_start_at_any_step_and_is_keyed_by_seed_and_epoch():
    assert list(sampler().batches(1, first_step=2)) == list(sampler().batches(1))[2:]
    assert list(sampler().batches(1)) != list(sampler().batches(2))
    assert list(sampler().batches(1)) != list(PKSampler(LABELS, 16, 4, 4).batches(1))


@pytest.mark.parametrize(
    ("batch_size", "images", "num_processes", "words"),
    [
        (64, 4, 1, "needs 16 identities.*have 12"),
        (18, 4, 1, "batch_size = 18"),
        (4, 4, 1, "at least 2"),
        (12, 4, 2, "3 identities.*2 processes"),
    ],
)
def test_batches_that_cannot_be_filled_are_rejected(batch_size, images, num_processes, words):
    with pytest.raises(UserError, match=words):
        PKSampler(LABELS, batch_size, images, 0, num_processes=num_processes)
