"""Data loaders: the same batches for any number of workers and processes, and the contents of a batch."""

import multiprocessing

import numpy as np
import pytest
import torch

from common.data.augment.erasing import Erasures
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.supervised import AugmentConfig, EvaluationTransform, build_supervised_transform
from common.data.loading.loader import Batch, build_evaluation_loader, build_loader, normalize
from common.data.loading.sampler import EpochBatches, EpochSampler
from common.rng import SampleKey


class Pictures:
    """Twenty small images of several sizes."""

    def __init__(self, labeled=True):
        rng = np.random.default_rng(0)
        self._images = [rng.integers(0, 256, (8 + index % 3, 10, 3), dtype=np.uint8) for index in range(20)]
        self.labels = np.arange(20) % 4 if labeled else None

    def __len__(self):
        return len(self._images)

    def image(self, index):
        return self._images[index]


def multi_crop():
    return build_multi_crop(CropsConfig(global_size=8, local_size=6, num_local=2), 5, color_in_worker=True)


def supervised():
    return build_supervised_transform(AugmentConfig(random_erasing_prob=0.7), 8, 5, mean=(0.5, 0.5, 0.5))


def tensors(batch):
    erasures = [] if batch.erasures is None else list(batch.erasures)
    return [*batch.views, *batch.parameters, *erasures, batch.labels, batch.indices]


def load(transform, workers, epoch=0, first_step=0, num_epochs=2, **sampling):
    batches = EpochBatches(EpochSampler(20, 4, seed=5, repeats=2, **sampling))
    loader = build_loader(Pictures(), transform, batches, workers=workers)
    batches.set_epoch(epoch, first_step, num_epochs=num_epochs)
    return [tensors(batch) for batch in loader]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("build_transform", [multi_crop, supervised])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(build_transform, workers):
    expected = load(build_transform(), workers=0)
    actual = load(build_transform(), workers=workers)
    assert len(expected) == 10
    assert all(same(a, b) for a, b in zip(expected, actual, strict=True))
    assert not same(expected[0], expected[5])


def test_workers_share_the_images_whatever_the_start_method_of_the_program(monkeypatch):
    """Python 3.14's default would pickle the split for each worker."""
    monkeypatch.setattr(multiprocessing.context, "_default_context", multiprocessing.get_context("forkserver"))
    pictures = Pictures()
    pictures.cannot_be_pickled = lambda: None
    loader = build_loader(pictures, multi_crop(), [[SampleKey(0, i, i, 0)] for i in range(3)], workers=1)
    assert len([batch for batch in loader]) == 3


def test_persistent_workers_use_the_epoch_that_is_set():
    batches = EpochBatches(EpochSampler(20, 4, seed=5))
    loader = build_loader(Pictures(), multi_crop(), batches, workers=2)
    without_workers = build_loader(Pictures(), multi_crop(), batches, workers=0)
    for epoch, first_step in ((0, 0), (1, 2), (0, 0)):
        batches.set_epoch(epoch, first_step)
        actual = [tensors(batch) for batch in loader]
        assert len(actual) == 5 - first_step
        assert all(same(a, tensors(b)) for a, b in zip(actual, without_workers, strict=True))


@pytest.mark.parametrize("build_transform", [multi_crop, supervised])
def test_batches_resume_from_any_step(build_transform):
    expected = load(build_transform(), workers=0)
    resumed = load(build_transform(), workers=0, first_step=3)
    assert all(same(a, b) for a, b in zip(expected[3:], resumed, strict=True))


def test_the_global_batches_are_split_over_the_processes():
    global_batches = load(multi_crop(), workers=0, num_epochs=1)
    local_batches = [load(multi_crop(), workers=0, num_epochs=1, rank=rank, num_processes=2) for rank in range(2)]
    for step, global_batch in enumerate(global_batches):
        for index, expected in enumerate(global_batch):
            axis = 0 if expected.ndim == 1 else 1
            assert torch.equal(expected, torch.cat([local[step][index] for local in local_batches], dim=axis))


def test_loading_does_not_change_torchs_global_random_state():
    state = torch.get_rng_state()
    load(supervised(), workers=0)
    assert torch.equal(state, torch.get_rng_state())


def test_a_batch_has_the_labels_and_indices_of_its_images():
    batches = EpochBatches(EpochSampler(20, 5, seed=5))
    for batch in build_loader(Pictures(), EvaluationTransform(8, 1.0), batches, workers=0):
        assert isinstance(batch, Batch) and len(batch) == 5
        assert batch.labels.dtype == torch.int64 and torch.equal(batch.labels, batch.indices % 4)
        assert batch.views[0].shape == (1, 5, 3, 8, 8) and batch.parameters == []


def test_batches_of_an_unlabeled_split_have_no_labels():
    batches = EpochBatches(EpochSampler(20, 5, seed=5))
    batch = next(iter(build_loader(Pictures(labeled=False), multi_crop(), batches, workers=0)))
    assert batch.labels is None and batch.to("cpu").labels is None


def test_to_moves_all_tensors_of_a_batch():
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
def test_evaluation_uses_each_image_once(num_processes, workers):
    indices, images = [], []
    for rank in range(num_processes):
        loader = build_evaluation_loader(
            Pictures(), EvaluationTransform(8, 1.0), 6, workers=workers, rank=rank, num_processes=num_processes
        )
        for batch in loader:
            indices += batch.indices.tolist()
            images.append(batch.views[0][0])
    assert indices == list(range(20))
    split = Pictures()
    expected = EvaluationTransform(8, 1.0)([split.image(index) for index in range(20)], []).blocks[0][0]
    assert torch.equal(torch.cat(images), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_normalize(dtype):
    images = torch.randint(0, 256, (2, 4, 3, 5, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    normalized = normalize(images, mean, std)
    assert normalized.dtype == torch.float32
    assert torch.allclose(normalized.double(), expected, atol=1e-5)


class FakeTokenLabels:
    """Token labels whose classes are the image's index."""

    def read(self, indices):
        classes = torch.tensor(indices)[:, None, None, None]
        return classes.expand(-1, 2, 2, 1).int(), torch.ones(len(indices), 2, 2, 1).half()


@pytest.mark.parametrize("workers", [0, 2])
def test_token_labels_are_those_of_the_images(workers):
    transform = build_supervised_transform(AugmentConfig(), 8, 5, mean=(0.5, 0.5, 0.5), with_geometry=True)
    batches = EpochBatches(EpochSampler(20, 4, seed=5, repeats=2))
    for batch in build_loader(Pictures(), transform, batches, workers=workers, token_labels=FakeTokenLabels()):
        moved = batch.to("cpu").token_labels
        assert torch.equal(moved.classes[:, 1, 1, 0], batch.indices.int())
        assert moved.probabilities.shape == (4, 2, 2, 1) and moved.geometry.shape == (4, 2, 3)
        assert not torch.equal(moved.geometry[0], moved.geometry[1]), "each sample has its own crop"
