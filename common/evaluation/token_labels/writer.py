"""Owns a teacher's pass over the training images, shard by shard: what is looked at by which process, and what is kept.

The image is squeezed into the teacher's square in whole, so that a place of the grid is a fixed part of the image, whatever
its shape. Shapes: B images, S pixels, h x w places, k classes kept.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.data.augment.bicubic import resize
from common.data.augment.multi_crop import Views, as_interleaved
from common.data.loading.loader import Batch, normalise, view_loader
from common.data.splits.roles import Splits
from common.data.token_labels.files import DenseLabelsDescription, shard_is_whole, shard_path, write_shard
from common.errors import UserError
from common.evaluation.token_labels.teacher import dense_scores
from common.rng import SampleKey
from common.training.progress import Progress
from common.training.run import Run

logger = logging.getLogger(__name__)


class Part(NamedTuple):
    """Name some neighbouring images of a shard, which one process looks at together."""

    shard: int
    rows: range
    last: bool
    """Whether they end the shard."""


class Labelling:
    """One pass of a teacher over the images whose shards are missing, shards dealt to the processes."""

    def __init__(
        self,
        run: Run,
        splits: Splits,
        teacher: nn.Module,
        description: DenseLabelsDescription,
        *,
        batch_size: int,
        workers: int,
    ) -> None:
        """Take the images of all processes together that are looked at at once, and the loader's worker processes."""
        self.run, self.splits, self.teacher, self.description = run, splits, teacher, description
        self.batch_size, self.workers = batch_size, workers
        self.images = 0

    def make_missing(self) -> bool:
        """Write every missing shard; return whether a signal stopped it before the last. All processes go in step."""
        run, description = self.run, self.description
        shards = range(description.num_shards)
        missing = run.agreement.read(
            lambda: [shard for shard in shards if not shard_is_whole(shard_path(run.folder, shard), description)]
        )
        run.accept()
        plans = [list(self._parts(missing[rank :: run.num_processes])) for rank in range(run.num_processes)]
        mine, rounds = plans[run.rank], max(map(len, plans))
        if len(missing) < description.num_shards:
            logger.info(
                "%d of %d files are there already", description.num_shards - len(missing), description.num_shards
            )
        progress = Progress(run, rounds, self.batch_size)
        batches = iter(self._loader(mine))
        done: list[tuple[Tensor, ...]] = []
        for number in range(rounds):
            if number < len(mine):
                done.append(self._look(next(batches)))
                if mine[number].last:
                    self._write(mine[number].shard, done)
                    done = []
            self.images += sum(len(plan[number].rows) for plan in plans if number < len(plan))
            progress.advance(number + 1)
            progress.describe("labelling")
            if run.wants_stop():
                return True
        run.accelerator.wait_for_everyone()
        return False

    def _parts(self, shards: Sequence[int]) -> Iterator[Part]:
        """Yield the parts of these shards, in order."""
        together = max(1, self.batch_size // int(self.run.num_processes))
        for shard in shards:
            first = shard * self.description.shard_images
            end = min(first + self.description.shard_images, self.description.num_images)
            for start in range(first, end, together):
                rows = range(start, min(start + together, end))
                yield Part(shard, rows, rows.stop == end)

    def _loader(self, parts: Sequence[Part]) -> "torch.utils.data.DataLoader[Batch]":
        """Return the whole images of each part."""
        batches = [[SampleKey(0, row, row, 0) for row in part.rows] for part in parts]
        view = WholeImageView(self.description.image_size)
        return view_loader(self.splits.train, view, batches, workers=self.workers)

    @torch.no_grad()
    def _look(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the (B, h, w, k) likeliest classes, their probabilities, and whose mean favours its label (B,), on the CPU."""
        images = normalise(batch.views[0][0].to(self.run.device), self.description.mean, self.description.std)
        with self.run.accelerator.autocast():
            scores = dense_scores(self.teacher, images)
        if not bool(torch.isfinite(scores).all()):
            raise UserError(
                f"train.precision = {self.description.precision}: the teacher's scores are not finite. Use fp32, or another init."
            )
        probabilities = scores.float().softmax(-1)
        best = probabilities.topk(self.description.kept, dim=-1)
        assert batch.labels is not None
        right = probabilities.mean((1, 2)).argmax(1).cpu() == batch.labels
        return best.indices.cpu(), best.values.cpu(), right

    def _write(self, shard: int, done: Sequence[tuple[Tensor, ...]]) -> None:
        """Write a shard."""
        classes, probabilities, right = (torch.cat(parts).numpy() for parts in zip(*done, strict=True))
        first = shard * self.description.shard_images
        path = shard_path(self.run.folder, shard)
        try:
            write_shard(
                path,
                self.description,
                positions=self.splits.subset.indices[first : first + len(classes)],
                classes=classes,
                probabilities=probabilities,
                num_right=int(right.sum()),
            )
        except OSError as error:
            raise UserError(f"out = {self.run.folder}: {path.name} cannot be written ({error}).") from error


class WholeImageView:
    """Turn images into squares that show all of them, their sides resized apart (bicubic, antialiased)."""

    def __init__(self, image_size: int) -> None:
        """Take the side of the view in pixels."""
        self.size = (image_size, image_size)

    def __call__(self, images: Sequence[Tensor], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, 3, S, S) uint8 block; nothing is drawn, so the keys have no part in it."""
        squares = np.stack([resize(as_interleaved(image), self.size) for image in images])
        return Views([torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()[None]], [], None)
