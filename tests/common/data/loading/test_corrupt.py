"""Broken images met in training: replaced by a keyed draw with its own label, counted, and bounded."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from common.data.augment.supervised import AugmentConfig, build_supervised_view
from common.data.loading.corrupt import BrokenImage, ErrorCount, read_images
from common.data.loading.loader import Batch, view_loader
from common.data.loading.sampler import EpochBatches, EpochSampler
from common.errors import UserError
from common.rng import SampleKey

BROKEN = (3, 11)


class Pictures:
    """Twenty plain images whose brightness is their index, two of them broken."""

    labels = np.arange(20) + 100

    def __init__(self, broken=BROKEN):
        self.broken = broken

    def __len__(self):
        return 20

    def image(self, index):
        if index in self.broken:
            raise UserError(f"pictures/{index}.png: the image is truncated.")
        return torch.full((3, 8, 8), index, dtype=torch.uint8)


def keys(*indices, epoch=0):
    return [SampleKey(epoch, position, index, 0) for position, index in enumerate(indices)]


def read(*indices, epoch=0, broken=BROKEN, seed=5):
    return read_images(Pictures(broken).image, 20, keys(*indices, epoch=epoch), replacement_seed=seed)


def batches(workers, first_step=0, rank=0, num_processes=1):
    view = build_supervised_view(AugmentConfig(auto_augment="", erasing=0.0), 8, 5, mean=(0.5, 0.5, 0.5))
    order = EpochBatches(EpochSampler(20, 4, seed=5, rank=rank, num_processes=num_processes))
    order.set(0, first_step, num_epochs=2)
    return list(view_loader(Pictures(), view, order, workers=workers, replacement_seed=7))


def error_count(on_error="skip", max_errors=0.2, left_out=None):
    alone = SimpleNamespace(num_processes=1)
    return ErrorCount(
        on_error=on_error, max_errors=max_errors, num_images=20, left_out=left_out or {}, accelerator=alone
    )


def batch(*broken):
    reasons = [BrokenImage(index, f"pictures/{index}.png: the image is truncated.") for index in broken]
    return Batch([], [], None, None, torch.zeros(4), broken=reasons)


def test_whole_images_are_left_as_they_are():
    images, indices, broken = read(0, 7, 2)
    assert [image[0, 0, 0].item() for image in images] == indices == [0, 7, 2] and broken == []


def test_a_broken_image_is_replaced_and_named():
    images, indices, broken = read(0, 3, 11)
    assert indices[0] == 0 and not {3, 11} & set(indices)
    assert [image[0, 0, 0].item() for image in images] == indices
    assert broken == [(3, "pictures/3.png: the image is truncated."), (11, "pictures/11.png: the image is truncated.")]


def test_the_replacement_is_keyed_by_seed_epoch_and_image():
    assert read(3, 11)[1] == read(3, 11)[1]
    assert read(0, 3)[1][1] == read(3, 5)[1][0], "not by the place in the batch"
    assert len({read(3, epoch=epoch)[1][0] for epoch in range(8)}) > 1
    assert len({read(3, seed=seed)[1][0] for seed in range(8)}) > 1


def test_replacements_spread_over_all_whole_images():
    drawn = {read(3, epoch=epoch)[1][0] for epoch in range(300)}
    assert drawn == set(range(20)) - set(BROKEN)


def test_a_set_without_whole_images_ends_in_one_error():
    with pytest.raises(
        UserError, match=r"pictures/4\.png: .* No image that could stand in for it was found in 64 draws"
    ):
        read(4, broken=range(20))


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_neither_stream_nor_count(workers):
    alone, met = batches(0), batches(workers)
    for one, other in zip(alone, met, strict=True):
        assert torch.equal(one.views[0], other.views[0]) and torch.equal(one.labels, other.labels)
        assert one.broken == other.broken
    assert sorted(image.number for one in alone for image in one.broken) == [3, 3, 11, 11]


def test_the_replacement_brings_its_own_label():
    for one in batches(0):
        assert torch.equal(one.labels, one.indices + 100)
        assert not set(BROKEN) & set(one.indices.tolist())


def test_the_stream_goes_on_from_any_step_and_over_processes():
    whole, later = batches(0), batches(0, first_step=3)
    assert all(torch.equal(a.indices, b.indices) for a, b in zip(whole[3:], later, strict=True))
    parts = zip(batches(0, rank=0, num_processes=2), batches(0, rank=1, num_processes=2), strict=True)
    assert all(
        torch.equal(one.indices, torch.cat([a.indices, b.indices])) for one, (a, b) in zip(whole, parts, strict=True)
    )


def test_stopping_ends_at_the_first_broken_image_before_its_batch_is_used():
    seen = []
    with pytest.raises(UserError, match=r"^pictures/3\.png: .* data\.on_error=skip"):
        for one in error_count("stop").watch([batch(), batch(3), batch()]):
            seen.append(one)
    assert len(seen) == 1


def test_skipping_counts_samples_and_images_and_tells_each_image_once(caplog: pytest.LogCaptureFixture):
    count = error_count(left_out={"test": ["test/1.png"]})
    with caplog.at_level(logging.WARNING):
        assert len(list(count.watch([batch(3), batch(), batch(3, 11)]))) == 3
    assert count.facts()["data_errors"] == {
        "replaced_samples": 3,
        "broken_images": 2,
        "listed": ["pictures/3.png: the image is truncated.", "pictures/11.png: the image is truncated."],
        "left_out": {"test": ["test/1.png"]},
    }
    assert len(caplog.records) == 2 and "training image 3 is replaced" in caplog.text


def test_more_broken_images_than_the_bound_stop():
    count = error_count(max_errors=0.1)
    list(count.watch([batch(3, 11, 3, 11)]))
    with pytest.raises(UserError, match=r"data\.max_errors = 0\.1: 3 of the 20 training images .* pictures/5\.png"):
        list(count.watch([batch(5)]))


def test_a_count_goes_on_from_its_state():
    whole, first, second = error_count(), error_count(), error_count()
    list(whole.watch([batch(3), batch(3, 11), batch(3, 4)]))
    list(first.watch([batch(3)]))
    second.load_state(first.state())
    list(second.watch([batch(3, 11), batch(3, 4)]))
    assert second.state() == whole.state() and second.facts() == whole.facts()
