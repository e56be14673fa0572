"""The token label writer: a teacher's inference over the training images, shard by shard, and the top-k classes stored.

Each complete image is squashed to the teacher's square input, so a grid position always covers the same fraction of the image,
whatever its aspect ratio. Shapes: B images, S pixels, h x w grid positions, k classes stored.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.data.augment.bicubic import resize
from common.data.augment.multi_crop import Views
from common.data.images import ImageArray
from common.data.loading.batch_loader import BatchLoader
from common.data.loading.loader import Batch, build_loader, normalize
from common.data.splits.roles import Splits
from common.data.token_labels.files import TokenLabelsDescription, shard_is_complete, shard_path, write_shard
from common.errors import UserError
from common.evaluation.token_labels.teacher import token_logits
from common.interruption import WaitInterrupted
from common.rng import SampleKey
from common.training.progress import Progress
from common.training.run import Run

logger = logging.getLogger(__name__)


class ShardBatch(NamedTuple):
    """A batch of consecutive images of a shard, for one process."""

    shard: int
    rows: range
    is_last: bool
    """Whether it is the last batch of its shard."""


class TokenLabelWriter:
    """Runs a teacher over the images of all missing shards, with the shards distributed over the processes."""

    def __init__(
        self,
        run: Run,
        splits: Splits,
        teacher: nn.Module,
        description: TokenLabelsDescription,
        *,
        batch_size: int,
        workers: int,
    ) -> None:
        """Take the global batch size and the number of data loading workers per process."""
        self.run, self.splits, self.teacher, self.description = run, splits, teacher, description
        self.batch_size, self.workers = batch_size, workers
        self.images = 0

    def write_missing(self) -> bool:
        """Write every missing shard; return whether a signal stopped it early. All processes take the same number of steps."""
        run, description = self.run, self.description
        shards = range(description.num_shards)
        missing = run.process_group.read(
            lambda: [shard for shard in shards if not shard_is_complete(shard_path(run.folder, shard), description)],
            describe=lambda found: [f"{len(found)} missing shards", f"missing shards {found}"],
        )
        run.accept()
        plans = [list(self._batches(missing[rank :: run.num_processes])) for rank in range(run.num_processes)]
        local_plan, steps = plans[run.rank], max(map(len, plans))
        if len(missing) < description.num_shards:
            logger.info("%d of %d shards already exist", description.num_shards - len(missing), description.num_shards)
        progress = Progress(run, steps, self.batch_size)
        batches = iter(self._loader(local_plan))
        results: list[tuple[Tensor, ...]] = []
        for step in range(steps):
            if step < len(local_plan):
                try:
                    batch = next(batches)
                except WaitInterrupted:
                    if run.num_processes > 1:  # the others wait for this process
                        raise
                    return True
                results.append(self._predict(batch))
                if local_plan[step].is_last:
                    self._write(local_plan[step].shard, results)
                    results = []
            self.images += sum(len(plan[step].rows) for plan in plans if step < len(plan))
            progress.advance(step + 1)
            progress.describe("writing token labels")
            if run.is_stop_requested():
                return True
        run.accelerator.wait_for_everyone()
        return False

    def _batches(self, shards: Sequence[int]) -> Iterator[ShardBatch]:
        """Yield the batches of these shards, in order."""
        local_batch_size = max(1, self.batch_size // int(self.run.num_processes))
        for shard in shards:
            first = shard * self.description.shard_images
            end = min(first + self.description.shard_images, self.description.num_images)
            for start in range(first, end, local_batch_size):
                rows = range(start, min(start + local_batch_size, end))
                yield ShardBatch(shard, rows, rows.stop == end)

    def _loader(self, plan: Sequence[ShardBatch]) -> BatchLoader[Batch]:
        """Return a loader of the complete images of each batch."""
        batches = [[SampleKey(0, row, row, 0) for row in batch.rows] for batch in plan]
        transform = WholeImageTransform(self.description.image_size)
        train = self.splits.train
        return build_loader(train, transform, batches, workers=self.workers, copies_shards=not train.is_sample())

    @torch.no_grad()
    def _predict(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the top-k classes and their probabilities (B, h, w, k), and whether the mean is correct (B,), on the CPU."""
        images = normalize(batch.views[0][0].to(self.run.device), self.description.mean, self.description.std)
        with self.run.accelerator.autocast():
            logits = token_logits(self.teacher, images)
        if not bool(torch.isfinite(logits).all()):
            raise UserError(
                f"train.precision = {self.description.precision}: the teacher's logits are not finite. Use fp32, or another init."
            )
        probabilities = logits.float().softmax(-1)
        best = probabilities.topk(self.description.kept, dim=-1)
        assert batch.labels is not None
        correct = probabilities.mean((1, 2)).argmax(1).cpu() == batch.labels
        return best.indices.cpu(), best.values.cpu(), correct

    def _write(self, shard: int, results: Sequence[tuple[Tensor, ...]]) -> None:
        """Write a shard from the results of its batches."""
        classes, probabilities, correct = (torch.cat(parts).numpy() for parts in zip(*results, strict=True))
        first = shard * self.description.shard_images
        path = shard_path(self.run.folder, shard)
        try:
            write_shard(
                path,
                self.description,
                positions=self.splits.subset.indices[first : first + len(classes)],
                classes=classes,
                probabilities=probabilities,
                num_correct=int(correct.sum()),
            )
        except OSError as error:
            raise UserError(f"out = {self.run.folder}: {path.name} cannot be written ({error}).") from error


class WholeImageTransform:
    """Squash complete images to squares (bicubic, antialiased), as timm's crop_mode squash does."""

    def __init__(self, image_size: int) -> None:
        """Take the side of the view in pixels."""
        self.size = (image_size, image_size)

    def __call__(self, images: Sequence[ImageArray], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, 3, S, S) uint8 block; nothing is random, so the keys are unused."""
        squares = np.stack([resize(image, self.size) for image in images])
        return Views([torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()[None]], [], None)
