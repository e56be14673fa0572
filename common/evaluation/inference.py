"""Inference over a split: every image once over all processes, with progress and a stop by signal between batches."""

import math
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from common.data.augment.supervised import EvaluationTransform
from common.data.config import DataConfig
from common.data.loading.corrupt import CorruptImage, CorruptImageCounter
from common.data.loading.loader import Batch, build_evaluation_loader
from common.data.sources.split import Split
from common.data.worker_count import count_workers
from common.errors import UserError
from common.evaluation.features import gather_shards, network_outputs
from common.interruption import WaitInterrupted
from common.rng import generator
from common.training.progress import Progress
from common.training.run import Run


class StopRequested(Exception):
    """A signal asked the run to stop during inference."""


def num_batches(split: Split, run: Run, batch_size: int) -> int:
    """Return the number of batches of the process with the most images of a split."""
    return math.ceil(math.ceil(len(split) / int(run.num_processes)) / local_batch(run, batch_size))


def local_batch(run: Run, batch_size: int) -> int:
    """Return the batch size of one process for a global `batch_size`."""
    return math.ceil(batch_size / int(run.num_processes))


def predict(
    split: Split,
    network: nn.Module,
    run: Run,
    data: DataConfig,
    *,
    crop_pct: float,
    batch_size: int,
    squash: bool = False,
    progress: Progress | None = None,
    replacement_seed: int | None = None,
    errors: CorruptImageCounter | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (outputs, labels) of every image of a split, in its order; outputs are fp32 and the same on every process.

    `crop_pct` is timm's crop_pct, the side of the center crop as a fraction of the resized image's side; `squash` is its crop_mode
    squash, which changes the aspect ratio. With `progress`, a signal to stop raises `StopRequested` between batches, on every
    process. With a `replacement_seed`, other images with their own labels replace corrupt ones, and `errors` counts them. Labels
    are -1 if the split has none. Raise UserError for a split with fewer images than processes.
    """
    if len(split) < run.num_processes:
        raise UserError(
            f"data.source: a split of {len(split)} images is too small for {run.num_processes} processes. Use fewer processes."
        )
    transform = EvaluationTransform(data.image_size, crop_pct, squash=squash)
    on_gpu = run.device.type == "cuda"
    loader = build_evaluation_loader(
        split,
        transform,
        local_batch(run, batch_size),
        workers=count_workers(data.workers, on_gpu=on_gpu),
        rank=run.rank,
        num_processes=run.num_processes,
        pin_memory=on_gpu,
        replacement_seed=replacement_seed,
    )
    corrupt: list[CorruptImage] = []
    batches = _collect_corrupt(loader, corrupt)
    if progress is not None:
        batches = _with_progress(batches, split, run, progress, num_batches(split, run, batch_size))
    with run.accelerator.autocast():
        mean, std = data.statistics()
        outputs, indices = network_outputs(network, batches, mean=mean, std=std, device=run.device)
    if errors is not None:
        errors.add(corrupt)
    split_labels = split.labels if split.labels is not None else np.full(len(split), -1)
    labels = torch.as_tensor(split_labels, device=run.device)[indices]
    gathered = [gather_shards(shard, len(split), run.accelerator) for shard in (outputs, labels)]
    return gathered[0], gathered[1]


def predict_roles(
    by_role: Mapping[str, Split],
    network: nn.Module,
    run: Run,
    data: DataConfig,
    *,
    crop_pct: float,
    batch_size: int,
    training: str,
    seed: int,
    errors: CorruptImageCounter,
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return (outputs, labels) of every image of several splits, by name, with one progress for all; see `predict`.

    With `data.on_corrupt: skip`, other images replace corrupt ones of the split `training`, by `seed`. Corrupt held-out images were
    excluded when the splits were opened, since no other image can replace those.
    """
    progress = Progress(run, sum(num_batches(split, run, batch_size) for split in by_role.values()), batch_size)
    replaced = {training} if data.on_corrupt == "skip" else set[str]()
    return {
        name: predict(
            split,
            network,
            run,
            data,
            crop_pct=crop_pct,
            batch_size=batch_size,
            progress=progress,
            replacement_seed=seed if name in replaced else None,
            errors=errors if name in replaced else None,
        )
        for name, split in by_role.items()
    }


def sample_images(split: Split, limit: int | None, *, seed: int, stream: str) -> Split:
    """Return all images of a split, or a sample of `limit` of them drawn by (seed, stream), in the split's order."""
    if limit is None or len(split) <= limit:
        return split
    order = generator(seed, stream=stream).permutation(len(split))
    return split.select(np.sort(order[:limit]))


def _collect_corrupt(batches: Iterable[Batch], corrupt: list[CorruptImage]) -> Iterator[Batch]:
    """Yield the batches, and append their corrupt images, which others replace, to `corrupt`."""
    for batch in batches:
        corrupt += batch.corrupt
        yield batch


def _with_progress(batches: Iterator[Batch], split: Split, run: Run, progress: Progress, count: int) -> Iterator[Batch]:
    """Yield the batches. After each of `count` steps, even if this process has fewer batches, all decide together on a stop."""
    for _ in range(count):
        try:
            batch = next(batches, None)
        except WaitInterrupted:
            if run.num_processes > 1:  # the others wait for this process
                raise
            raise StopRequested from None
        if batch is not None:
            yield batch
        progress.advance(progress.step + 1)
        progress.describe(f"evaluating {len(split)} images")
        if run.is_stop_requested():
            raise StopRequested
