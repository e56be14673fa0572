"""Corrupt images in training: replaced by a keyed random image with its own label, counted, and limited."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.data.augment.supervised import AugmentConfig, build_supervised_transform
from common.data.loading.corrupt import CorruptImage, CorruptImageCounter, read_images
from common.data.loading.loader import Batch, build_loader
from common.data.loading.sampler import EpochBatches, EpochSampler
from common.errors import UserError
from common.rng import SampleKey

CORRUPT = (3, 11)


class Pictures:
    """Twenty uniform images whose brightness is their index, two of them corrupt."""

    labels = np.arange(20) + 100

    def __init__(self, corrupt=CORRUPT):
        self.corrupt = corrupt

    def __len__(self):
        return 20

    def image(self, index):
        if index in self.corrupt:
            raise UserError(f"pictures/{index}.png: the image is truncated.")
        return np.full((8, 8, 3), index, dtype=np.uint8)


def keys(*indices, epoch=0):
    return [SampleKey(epoch, position, index, 0) for position, index in enumerate(indices)]


def read(*indices, epoch=0, corrupt=CORRUPT, seed=5):
    return read_images(Pictures(corrupt).image, 20, keys(*indices, epoch=epoch), replacement_seed=seed)


def batches(workers, first_step=0, rank=0, num_processes=1):
    transform = build_supervised_transform(
        AugmentConfig(auto_augment="", random_erasing_prob=0.0), 8, 5, mean=(0.5, 0.5, 0.5)
    )
    order = EpochBatches(EpochSampler(20, 4, seed=5, rank=rank, num_processes=num_processes))
    order.set_epoch(0, first_step, num_epochs=2)
    return list(build_loader(Pictures(), transform, order, workers=workers, replacement_seed=7))


ALONE = SimpleNamespace(any=lambda *flags: flags, gather=lambda value: [value])


def counter(on_corrupt="skip", max_corrupt=0.2, excluded=None, processes=ALONE):
    return CorruptImageCounter(
        on_corrupt=on_corrupt, max_corrupt=max_corrupt, num_images=20, excluded=excluded or {}, processes=processes
    )


def batch(*indices):
    corrupt = [CorruptImage(index, f"pictures/{index}.png: the image is truncated.") for index in indices]
    return Batch([], [], None, None, torch.zeros(4), corrupt=corrupt)


def test_readable_images_are_not_replaced():
    images, indices, corrupt = read(0, 7, 2)
    assert [image[0, 0, 0].item() for image in images] == indices == [0, 7, 2] and corrupt == []


def test_a_corrupt_image_is_replaced_and_reported():
    images, indices, corrupt = read(0, 3, 11)
    assert indices[0] == 0 and not {3, 11} & set(indices)
    assert [image[0, 0, 0].item() for image in images] == indices
    assert corrupt == [(3, "pictures/3.png: the image is truncated."), (11, "pictures/11.png: the image is truncated.")]


def test_the_replacement_is_keyed_by_seed_epoch_and_image():
    assert read(3, 11)[1] == read(3, 11)[1]
    assert read(0, 3)[1][1] == read(3, 5)[1][0], "not by the position in the batch"
    assert len({read(3, epoch=epoch)[1][0] for epoch in range(8)}) > 1
    assert len({read(3, seed=seed)[1][0] for seed in range(8)}) > 1


def test_replacements_are_drawn_from_all_readable_images():
    replacements = {read(3, epoch=epoch)[1][0] for epoch in range(300)}
    assert replacements == set(range(20)) - set(CORRUPT)


def test_a_data_set_without_readable_images_is_one_error():
    with pytest.raises(UserError, match=r"pictures/4\.png: .* No readable replacement was found in 64 draws"):
        read(4, corrupt=range(20))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_neither_batches_nor_counts(workers):
    expected, actual = batches(0), batches(workers)
    for one, other in zip(expected, actual, strict=True):
        assert torch.equal(one.views[0], other.views[0]) and torch.equal(one.labels, other.labels)
        assert one.corrupt == other.corrupt
    assert sorted(image.image_index for one in expected for image in one.corrupt) == [3, 3, 11, 11]


def test_a_replacement_has_its_own_label():
    for one in batches(0):
        assert torch.equal(one.labels, one.indices + 100)
        assert not set(CORRUPT) & set(one.indices.tolist())


def test_batches_resume_from_any_step_and_are_split_over_processes():
    expected, resumed = batches(0), batches(0, first_step=3)
    assert all(torch.equal(a.indices, b.indices) for a, b in zip(expected[3:], resumed, strict=True))
    parts = zip(batches(0, rank=0, num_processes=2), batches(0, rank=1, num_processes=2), strict=True)
    assert all(
        torch.equal(one.indices, torch.cat([a.indices, b.indices])) for one, (a, b) in zip(expected, parts, strict=True)
    )


def test_stop_raises_at_the_first_corrupt_image_before_its_batch_is_used():
    used = []
    with pytest.raises(UserError, match=r"^pictures/3\.png: .* data\.on_corrupt=skip"):
        for one in counter("stop").watch([batch(), batch(3), batch()]):
            used.append(one)
    assert len(used) == 1


def test_skip_counts_samples_and_images_and_logs_each_image_once(caplog: pytest.LogCaptureFixture):
    corrupt_counter = counter(excluded={"test": ["test/1.png"]})
    with caplog.at_level(logging.WARNING):
        assert len(list(corrupt_counter.watch([batch(3), batch(), batch(3, 11)]))) == 3
    assert corrupt_counter.summary()["data_errors"] == {
        "replaced_samples": 3,
        "corrupt_images": 2,
        "listed": ["pictures/3.png: the image is truncated.", "pictures/11.png: the image is truncated."],
        "excluded": {"test": ["test/1.png"]},
    }
    assert len(caplog.records) == 2 and "training image 3 is replaced" in caplog.text


def test_exceeding_the_limit_of_corrupt_images_stops():
    corrupt_counter = counter(max_corrupt=0.1)
    list(corrupt_counter.watch([batch(3, 11, 3, 11)]))
    with pytest.raises(UserError, match=r"data\.max_corrupt = 0\.1: 3 of the 20 training images .* pictures/5\.png"):
        list(corrupt_counter.watch([batch(5)]))


def test_counts_resume_from_a_state_dict():
    uninterrupted, first, second = counter(), counter(), counter()
    list(uninterrupted.watch([batch(3), batch(3, 11), batch(3, 4)]))
    list(first.watch([batch(3)]))
    second.load_state_dict(first.state_dict())
    list(second.watch([batch(3, 11), batch(3, 4)]))
    assert second.state_dict() == uninterrupted.state_dict() and second.summary() == uninterrupted.summary()


def test_batches_without_corrupt_images_gather_nothing():
    """One flag is reduced on the host before each batch; the images are gathered only where there are some."""
    flags, gathered = [], []
    processes = SimpleNamespace(
        any=lambda *own: flags.append(own) or own,
        gather=lambda value: gathered.append(value) or [value, [CorruptImage(11, "pictures/11.png: truncated.")]],
    )
    corrupt_counter = counter(processes=processes)
    list(corrupt_counter.watch([batch(), batch(3), batch()]))
    assert flags == [(False,), (True,), (False,)] and len(gathered) == 1
    assert corrupt_counter.summary()["data_errors"]["corrupt_images"] == 2, "those of the other process, too"
