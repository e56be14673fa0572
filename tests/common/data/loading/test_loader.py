"""Tests of the loader: one stream, whatever the workers and processes, and what a batch holds."""

import numpy as np
import pytest
import torch

from common.data.augment.erasing import Erasures
from common.data.augment.multi_crop import ViewsConfig, build_multi_crop
from common.data.augment.supervised import AugmentConfig, EvaluationView, build_supervised_view
from common.data.loading.loader import Batch, evaluation_loader, normalise, view_loader
from common.data.loading.sampler import EpochBatches, EpochSampler


class Pictures:
    """Twenty small images of several sizes."""

    def __init__(self, labelled=True):
        generator = torch.Generator().manual_seed(0)
        self._images = [
            torch.randint(0, 256, (3, 8 + index % 3, 10), dtype=torch.uint8, generator=generator) for index in range(20)
        ]
        self.labels = np.arange(20) % 4 if labelled else None

    def __len__(self):
        return len(self._images)

    def image(self, index):
        return self._images[index]


def multi_crop():
    return build_multi_crop(ViewsConfig(global_size=8, local_size=6, local_count=2), 5, photometry_in_worker=True)


def supervised():
    return build_supervised_view(AugmentConfig(erasing=0.7), 8, 5, mean=(0.5, 0.5, 0.5))


def tensors(batch):
    erasures = [] if batch.erasures is None else list(batch.erasures)
    return [*batch.views, *batch.parameters, *erasures, batch.labels, batch.indices]


def stream(view, workers, epoch=0, first_step=0, num_epochs=2, **sampling):
    batches = EpochBatches(EpochSampler(20, 4, seed=5, repeats=2, **sampling))
    loader = view_loader(Pictures(), view, batches, workers=workers)
    batches.set(epoch, first_step, num_epochs=num_epochs)
    return [tensors(batch) for batch in loader]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("make_view", [multi_crop, supervised])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(make_view, workers):
    expected = stream(make_view(), workers=0)
    met = stream(make_view(), workers=workers)
    assert len(expected) == 10
    assert all(same(a, b) for a, b in zip(expected, met, strict=True))
    assert not same(expected[0], expected[5])


def test_persistent_workers_follow_the_epoch_that_is_set():
    batches = EpochBatches(EpochSampler(20, 4, seed=5))
    loader = view_loader(Pictures(), multi_crop(), batches, workers=2)
    plain = view_loader(Pictures(), multi_crop(), batches, workers=0)
    for epoch, first_step in ((0, 0), (1, 2), (0, 0)):
        batches.set(epoch, first_step)
        met = [tensors(batch) for batch in loader]
        assert len(met) == 5 - first_step
        assert all(same(a, tensors(b)) for a, b in zip(met, plain, strict=True))


@pytest.mark.parametrize("make_view", [multi_crop, supervised])
def test_a_stream_goes_on_from_any_step(make_view):
    expected = stream(make_view(), workers=0)
    later = stream(make_view(), workers=0, first_step=3)
    assert all(same(a, b) for a, b in zip(expected[3:], later, strict=True))


def test_processes_share_out_the_stream_of_one():
    whole = stream(multi_crop(), workers=0, num_epochs=1)
    parts = [stream(multi_crop(), workers=0, num_epochs=1, rank=rank, num_processes=2) for rank in range(2)]
    for step, expected in enumerate(whole):
        for place, of_whole in enumerate(expected):
            axis = 0 if of_whole.ndim == 1 else 1
            assert torch.equal(of_whole, torch.cat([part[step][place] for part in parts], dim=axis))


def test_loading_leaves_torchs_global_state_alone():
    state = torch.get_rng_state()
    stream(supervised(), workers=0)
    assert torch.equal(state, torch.get_rng_state())


def test_a_batch_holds_labels_and_indices_of_its_images():
    batches = EpochBatches(EpochSampler(20, 5, seed=5))
    for batch in view_loader(Pictures(), EvaluationView(8, 1.0), batches, workers=0):
        assert isinstance(batch, Batch) and len(batch) == 5
        assert batch.labels.dtype == torch.int64 and torch.equal(batch.labels, batch.indices % 4)
        assert batch.views[0].shape == (1, 5, 3, 8, 8) and batch.parameters == []


def test_unlabelled_splits_give_no_labels():
    batches = EpochBatches(EpochSampler(20, 5, seed=5))
    batch = next(iter(view_loader(Pictures(labelled=False), multi_crop(), batches, workers=0)))
    assert batch.labels is None and batch.to("cpu").labels is None


def test_a_batch_moves_with_all_it_holds():
    batch = Batch(
        [torch.zeros(1, 2, 3, 4, 4, dtype=torch.uint8)],
        [torch.zeros(1, 2, 16)],
        Erasures(torch.zeros(1, 5, dtype=torch.int64), torch.zeros(12)),
        torch.tensor([0, 1]),
        torch.tensor([4, 5]),
    )
    moved = batch.to("meta")
    assert all(
        tensor.is_meta
        for tensor in (*moved.views, *moved.parameters, moved.erasures.noise, moved.labels, moved.indices)
    )
    assert not moved.erasures.boxes.is_meta and torch.equal(moved.erasures.boxes, batch.erasures.boxes)


@pytest.mark.parametrize("num_processes", [1, 3])
@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_goes_once_through_the_split(num_processes, workers):
    indices, images = [], []
    for rank in range(num_processes):
        loader = evaluation_loader(
            Pictures(), EvaluationView(8, 1.0), 6, workers=workers, rank=rank, num_processes=num_processes
        )
        for batch in loader:
            indices += batch.indices.tolist()
            images.append(batch.views[0][0])
    assert indices == list(range(20))
    split = Pictures()
    expected = EvaluationView(8, 1.0)([split.image(index) for index in range(20)], []).blocks[0][0]
    assert torch.equal(torch.cat(images), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalise(dtype):
    images = torch.randint(0, 256, (2, 4, 3, 5, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    normalised = normalise(images, mean, std)
    assert normalised.dtype == torch.float32
    assert torch.allclose(normalised.double(), expected, atol=1e-5)


class Places:
    """Dense labels whose numbers are the image's index."""

    def read(self, indices):
        numbers = torch.tensor(indices)[:, None, None, None]
        return numbers.expand(-1, 2, 2, 1).int(), torch.ones(len(indices), 2, 2, 1).half()


@pytest.mark.parametrize("workers", [0, 2])
def test_dense_labels_come_with_their_images(workers):
    view = build_supervised_view(AugmentConfig(), 8, 5, mean=(0.5, 0.5, 0.5), with_geometry=True)
    batches = EpochBatches(EpochSampler(20, 4, seed=5, repeats=2))
    for batch in view_loader(Pictures(), view, batches, workers=workers, dense_labels=Places()):
        moved = batch.to("cpu").dense
        assert torch.equal(moved.classes[:, 1, 1, 0], batch.indices.int())
        assert moved.probabilities.shape == (4, 2, 2, 1) and moved.geometry.shape == (4, 2, 3)
        assert not torch.equal(moved.geometry[0], moved.geometry[1]), "each sample has its own crop"
