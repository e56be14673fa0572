"""Owns a run's look at a split: every image once over all processes, with progress and a stop by signal between batches."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from common.data.augment.supervised import EvaluationView
from common.data.config import DataConfig
from common.data.loading.corrupt import BrokenImage, ErrorCount
from common.data.loading.loader import Batch, evaluation_loader
from common.data.sources.split import Split
from common.errors import UserError
from common.evaluation.features import gather_blocks, network_outputs
from common.rng import generator
from common.training.progress import Progress
from common.training.run import Run


class Stopped(Exception):
    """A signal asked for a stop while images were looked at."""


def num_batches(split: Split, run: Run, batch_size: int) -> int:
    """Return how many batches the process with the most images of a split looks at."""
    return math.ceil(math.ceil(len(split) / int(run.num_processes)) / local_batch(run, batch_size))


def local_batch(run: Run, batch_size: int) -> int:
    """Return how many images one process looks at together, of `batch_size` over all processes."""
    return math.ceil(batch_size / int(run.num_processes))


def look_at(
    split: Split,
    network: nn.Module,
    run: Run,
    data: DataConfig,
    *,
    crop: float,
    batch_size: int,
    stretch: bool = False,
    progress: Progress | None = None,
    replacement_seed: int | None = None,
    errors: ErrorCount | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what a network makes of every image of a split, in its order (fp32, the same on every process), and the labels.

    `crop` is the share of the resized image's side that the central crop keeps; `stretch` gives up the aspect. With `progress` a
    signal to stop is heeded between batches by raising `Stopped`, on every process. With a `replacement_seed` others stand in
    for broken images, with their own labels, and `errors` counts them. Labels are -1 where the split has none.
    """
    if len(split) < run.num_processes:
        raise UserError(
            f"data.source: a split of {len(split)} images is too small for {run.num_processes} processes. Start fewer processes."
        )
    view = EvaluationView(data.image_size, crop, stretch=stretch)
    loader = evaluation_loader(
        split,
        view,
        local_batch(run, batch_size),
        workers=data.workers,
        rank=run.rank,
        num_processes=run.num_processes,
        replacement_seed=replacement_seed,
    )
    broken: list[BrokenImage] = []
    batches = _noting(loader, broken)
    if progress is not None:
        batches = _watched(batches, split, run, progress, num_batches(split, run, batch_size))
    with run.accelerator.autocast():
        outputs, indices = network_outputs(network, batches, mean=data.mean, std=data.std, device=run.device)
    if errors is not None:
        errors.add(broken)
    known = split.labels if split.labels is not None else np.full(len(split), -1)
    labels = torch.as_tensor(known, device=run.device)[indices]
    gathered = [gather_blocks(block, len(split), run.accelerator) for block in (outputs, labels)]
    return gathered[0], gathered[1]


def draw_images(split: Split, limit: int | None, *, seed: int, stream: str) -> Split:
    """Return all images of a split, or `limit` of them, drawn by (seed, stream) and in the split's order."""
    if limit is None or len(split) <= limit:
        return split
    order = generator(seed, stream=stream).permutation(len(split))
    return split.select(np.sort(order[:limit]))


def _noting(batches: Iterable[Batch], broken: list[BrokenImage]) -> Iterator[Batch]:
    """Yield the batches, and add to `broken` what others stand in for."""
    for batch in batches:
        broken += batch.broken
        yield batch


def _watched(batches: Iterator[Batch], split: Split, run: Run, progress: Progress, count: int) -> Iterator[Batch]:
    """Yield the batches; after each of `count`, also where this process has fewer, all agree whether to stop."""
    for _ in range(count):
        batch = next(batches, None)
        if batch is not None:
            yield batch
        progress.advance(progress.step + 1)
        progress.describe(f"looking at {len(split)} images")
        if run.wants_stop():
            raise Stopped
