"""Owns the way from a split to batches on the device: one loader for both stages, one stream whatever the workers.

Shapes: V views of one resolution, B samples of this process, P numbers of a view, S pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.data.augment.erasing import Erasures
from common.data.augment.multi_crop import Views
from common.data.loading.corrupt import BrokenImage, read_images
from common.data.loading.sampler import EvaluationSampler
from common.data.loading.worker import start_worker
from common.data.token_labels.files import DenseLabels, DenseLabelSource
from common.rng import SampleKey


class ImageSource(Protocol):
    """Stand for any source of decoded images: what `sources.Split` is, as far as a loader looks at it."""

    @property
    def labels(self) -> np.ndarray | None:
        """Return (N,) int64 class indices, or none."""
        ...

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def image(self, index: int) -> Tensor:
        """Return a (3, H, W) uint8 RGB image."""
        ...


View = Callable[[Sequence[Tensor], Sequence[SampleKey]], Views]
"""Turns the images of a batch into their views."""


@dataclass
class Batch:
    """Hold one step's samples of this process."""

    views: list[Tensor]
    """(V, B, 3, S, S) uint8, one contiguous block a resolution."""
    parameters: list[Tensor]
    """(V, B, P) float32, one entry a block; empty where the views need no photometry."""
    erasures: Erasures | None
    """Rectangles to fill with noise after normalisation (`erasing.erase`)."""
    labels: Tensor | None
    """(B,) int64 class indices."""
    indices: Tensor
    """(B,) int64 indices of the images in the split; those of the replacements where images are broken."""
    dense: DenseLabels | None = None
    """What a teacher sees at each place of the images, and where the views lie in them; none where nobody asked."""
    broken: list[BrokenImage] = field(default_factory=list)
    """Broken images that others stand in for here."""

    def __len__(self) -> int:
        """Return the number of samples B."""
        return len(self.indices)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        erasures = None if self.erasures is None else Erasures(self.erasures.boxes, change(self.erasures.noise))
        return Batch(
            [change(block) for block in self.views],
            [change(records) for records in self.parameters],
            erasures,
            None if self.labels is None else change(self.labels),
            change(self.indices),
            dense=None if self.dense is None else DenseLabels(*(change(part) for part in self.dense)),
            broken=self.broken,
        )

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on the device; the erasures' boxes stay where they are, as they are read by Python."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; `DataLoader` calls it."""
        return self._each(Tensor.pin_memory)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (x / 255 - mean) / std in float32 for (..., 3, H, W) images of 0..255, uint8 or float."""
    scale = torch.tensor([1 / (255 * deviation) for deviation in std]).view(3, 1, 1)
    offset = torch.tensor([-centre / deviation for centre, deviation in zip(mean, std, strict=True)]).view(3, 1, 1)
    scale, offset = (values.to(images.device, non_blocking=True) for values in (scale, offset))
    return torch.addcmul(offset, images.float(), scale)


class _Samples(Dataset[Batch]):
    """Make whole batches from lists of keys, so that a worker draws and assembles a batch in one go."""

    def __init__(
        self, split: ImageSource, view: View, replacement_seed: int | None, dense_labels: DenseLabelSource | None
    ) -> None:
        self.split, self.view = split, view
        self.replacement_seed, self.dense_labels = replacement_seed, dense_labels
        self.labels = None if split.labels is None else torch.as_tensor(split.labels, dtype=torch.int64)

    def __getitem__(self, key: SampleKey) -> Batch:
        return self.__getitems__([key])

    def __getitems__(self, keys: list[SampleKey]) -> Batch:
        images, chosen, broken = self._read(keys)
        blocks, parameters, erasures, geometry = self.view(images, keys)
        indices = torch.tensor(chosen)
        labels = None if self.labels is None else self.labels[indices]
        dense = None
        if self.dense_labels is not None:
            assert geometry is not None, "dense labels need a view that tells its geometry"
            dense = DenseLabels(*self.dense_labels.read(chosen), geometry)
        return Batch(blocks, parameters, erasures, labels, indices, dense=dense, broken=broken)

    def _read(self, keys: list[SampleKey]) -> tuple[list[Tensor], list[int], list[BrokenImage]]:
        """Return the images, their indices, and the broken ones that were replaced, if they may be."""
        if self.replacement_seed is None:
            return [self.split.image(key.index) for key in keys], [key.index for key in keys], []
        return read_images(self.split.image, len(self.split), keys, replacement_seed=self.replacement_seed)


def _unchanged(batch: Any) -> Any:
    """Collate nothing: the samples come as a batch."""
    return batch


def view_loader(
    split: ImageSource,
    view: View,
    batches: Iterable[list[SampleKey]],
    *,
    workers: int,
    pin_memory: bool = False,
    replacement_seed: int | None = None,
    dense_labels: DenseLabelSource | None = None,
) -> DataLoader[Batch]:
    """Return a loader of `Batch`es: the images that `batches` names (by an `EpochBatches`, say), as `view` shows them.

    The workers stay alive between epochs; their number (0: this process) changes nothing in the stream. A broken image
    raises UserError, or, with a `replacement_seed`, is replaced by another one with its own label (`read_images`).
    With `dense_labels` the workers read those too, and `view` must tell its geometry.
    """
    return DataLoader(
        _Samples(split, view, replacement_seed, dense_labels),
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        # Workers draw nothing from it, and without it the loader would draw its seed from the global state.
        generator=torch.Generator().manual_seed(0),
    )


def evaluation_loader(
    split: ImageSource,
    view: View,
    batch_size: int,
    *,
    workers: int,
    rank: int = 0,
    num_processes: int = 1,
    replacement_seed: int | None = None,
) -> DataLoader[Batch]:
    """Return a loader of the split in order, each image once over all processes, `batch_size` at a time on each.

    With a `replacement_seed` others stand in for broken images, as in `view_loader`.
    """
    batches = EvaluationSampler(len(split), batch_size, rank=rank, num_processes=num_processes)
    return view_loader(split, view, batches, workers=workers, replacement_seed=replacement_seed)
