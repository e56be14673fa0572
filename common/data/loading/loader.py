"""Data loaders for training and evaluation. The batches do not depend on the number of workers.

Shapes: V views of one resolution, B samples of this process, P parameters of a view, C channels, H and W pixels.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.data.augment.erasing import Erasures
from common.data.augment.multi_crop import Views
from common.data.images import ImageArray
from common.data.loading.batch_loader import BatchLoader
from common.data.loading.corrupt import CorruptImage, read_images
from common.data.loading.sampler import EvaluationSampler
from common.data.loading.worker import start_worker
from common.data.loading.worker_failures import report_writer
from common.data.sources.split import Split
from common.data.token_labels.reader import TokenLabelBatch, TokenLabelSource
from common.rng import SampleKey


class ImageSource(Protocol):
    """Interface of a split of decoded images, as a loader uses it (`sources.split.Split`)."""

    @property
    def labels(self) -> np.ndarray | None:
        """Return (N,) int64 class indices, or None."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def image(self, index: int) -> ImageArray:
        """Return an (H, W, C) image, uint8 or uint16."""
        ...


BatchTransform = Callable[[Sequence[ImageArray], Sequence[SampleKey]], Views]
"""Transforms the images of a batch into views."""


@dataclass
class Batch:
    """This process's samples of one step."""

    views: list[Tensor]
    """(V, B, C, H, W) uint8, float32 in 0..255 for images of 16 bits; one contiguous block per resolution."""
    parameters: list[Tensor]
    """(V, B, P) float32 for the color augmentation, one entry per block; empty if the views need none."""
    erasures: Erasures | None
    """Rectangles to fill with noise after normalization (`erasing.erase`)."""
    labels: Tensor | None
    """(B,) int64 class indices."""
    indices: Tensor
    """(B,) int64 indices of the images in the split; for a corrupt image, the index of its replacement."""
    token_labels: TokenLabelBatch | None = None
    """Token labels of the images, with the geometry of the views; None unless the loader reads token labels."""
    corrupt: list[CorruptImage] = field(default_factory=list)
    """Corrupt images that were replaced in this batch."""

    def __len__(self) -> int:
        """Return the number of samples B."""
        return len(self.indices)

    def _map_tensors(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        erasures = None if self.erasures is None else Erasures(self.erasures.boxes, function(self.erasures.noise))
        token_labels = self.token_labels
        return Batch(
            [function(block) for block in self.views],
            [function(parameters) for parameters in self.parameters],
            erasures,
            None if self.labels is None else function(self.labels),
            function(self.indices),
            token_labels=None if token_labels is None else TokenLabelBatch(*(function(part) for part in token_labels)),
            corrupt=self.corrupt,
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on the device; the boxes of the erasures stay on the CPU, because Python reads them."""
        return self._map_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; called by `DataLoader`."""
        return self._map_tensors(Tensor.pin_memory)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (x / 255 - mean) / std in float32 for (..., C, H, W) uint8 or float images with values in 0..255."""
    scale = torch.tensor([1 / (255 * deviation) for deviation in std]).view(-1, 1, 1)
    offset = torch.tensor([-center / deviation for center, deviation in zip(mean, std, strict=True)]).view(-1, 1, 1)
    scale, offset = (values.to(images.device, non_blocking=True) for values in (scale, offset))
    return torch.addcmul(offset, images.float(), scale)


class _BatchDataset(Dataset[Batch]):
    """Dataset of complete batches, indexed by lists of keys, so that a worker transforms and assembles a batch in one call."""

    def __init__(
        self,
        split: ImageSource,
        transform: BatchTransform,
        replacement_seed: int | None,
        token_labels: TokenLabelSource | None,
    ) -> None:
        self.split, self.transform = split, transform
        self.replacement_seed, self.token_labels = replacement_seed, token_labels
        self.labels = None if split.labels is None else torch.as_tensor(split.labels, dtype=torch.int64)

    def __getitem__(self, key: SampleKey) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[SampleKey]) -> Batch:
        images, chosen, corrupt = self._read(keys)
        blocks, parameters, erasures, geometry = self.transform(images, keys)
        indices = torch.tensor(chosen)
        labels = None if self.labels is None else self.labels[indices]
        token_labels = None
        if self.token_labels is not None:
            assert geometry is not None, "token labels need a transform that returns the geometry"
            token_labels = TokenLabelBatch(*self.token_labels.read(chosen), geometry)
        return Batch(blocks, parameters, erasures, labels, indices, token_labels=token_labels, corrupt=corrupt)

    def _read(self, keys: list[SampleKey]) -> tuple[list[ImageArray], list[int], list[CorruptImage]]:
        """Return the images, their indices, and the corrupt images that were replaced, if replacement is enabled."""
        if self.replacement_seed is None:
            return [self.split.image(key.index) for key in keys], [key.index for key in keys], []
        return read_images(self.split.image, len(self.split), keys, replacement_seed=self.replacement_seed)


def _no_collate(batch: Any) -> Any:
    """Return the batch unchanged: the dataset already returns batches."""
    return batch


def build_loader(
    split: ImageSource,
    transform: BatchTransform,
    batches: Iterable[list[SampleKey]],
    *,
    workers: int,
    pin_memory: bool = False,
    replacement_seed: int | None = None,
    token_labels: TokenLabelSource | None = None,
    copies_shards: bool = False,
) -> BatchLoader[Batch]:
    """Return a loader of transformed `Batch`es of the images in `batches`, for example an `EpochBatches`.

    The workers stay alive between epochs; their number (0: this process) does not change the batches. `pin_memory` copies them to
    page-locked memory, from which a GPU copies without making this process wait. A corrupt image raises
    UserError; with a `replacement_seed` it is replaced by another image, with that image's label (`read_images`). With
    `token_labels`, the workers also read those, and `transform` must return the geometry.
    With `copies_shards`, a server's shards are copied to the node as the loader reads them, if there is a folder for copies
    (data.stage_to): for training and complete splits, not for a sample, which would copy many images for each one that it reads.
    """
    split = split.copied_as_read() if copies_shards and isinstance(split, Split) else split
    return BatchLoader(
        _BatchDataset(split, transform, replacement_seed, token_labels),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_no_collate,
        worker_init_fn=partial(start_worker, reports=report_writer()) if workers else None,
        persistent_workers=workers > 0,
        # A fork shares the decoded images; other start methods (Python 3.14's default on Linux) would send each worker a copy.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        pin_memory=pin_memory,
        # Unused by the workers, but without it the loader would draw its seed from the global random state.
        generator=torch.Generator().manual_seed(0),
    )


def build_evaluation_loader(
    split: ImageSource,
    transform: BatchTransform,
    batch_size: int,
    *,
    workers: int,
    rank: int = 0,
    num_processes: int = 1,
    pin_memory: bool = False,
    replacement_seed: int | None = None,
) -> BatchLoader[Batch]:
    """Return a loader of the split in order, each image once over all processes, in batches of `batch_size` per process.

    `pin_memory` and `replacement_seed` are those of `build_loader`; the shards of complete splits are copied as there.
    """
    batches = EvaluationSampler(len(split), batch_size, rank=rank, num_processes=num_processes)
    return build_loader(
        split,
        transform,
        batches,
        workers=workers,
        pin_memory=pin_memory,
        replacement_seed=replacement_seed,
        copies_shards=isinstance(split, Split) and not split.is_sample(),
    )
