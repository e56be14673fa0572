"""Owns the making of dense labels: a teacher looks at every training image, and its likeliest classes are kept by place.

The image is squeezed into the teacher's square in whole, so that a place of the grid is a fixed part of the image, whatever
its shape. Shards are written one by one: the same command again makes those that are missing.
Shapes: B images, S pixels, h x w places, k classes kept.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.command import run_stage
from common.data.dense_labels import (
    MANIFEST,
    MAX_CLASSES,
    DenseLabelsDescription,
    count_right,
    shard_is_whole,
    shard_path,
    write_shard,
)
from common.data.loader import Batch, normalise, view_loader
from common.data.sampler import SampleKey
from common.data.sources import DataConfig, open_splits
from common.data.splits import Splits
from common.data.views import Views, as_interleaved
from common.errors import UserError
from common.evaluation.teachers import build_teacher, dense_scores, weights_hash
from common.training.progress import Progress
from common.training.run import Run, TrainConfig, write_whole
from common.training.verdicts import Ending, Verdict

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabellingConfig:
    """How the teacher goes over the images."""

    batch_size: int = 256
    """Images that all processes together look at at once."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the teacher; probabilities are taken in fp32 and stored in 16 bits."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.batch_size < 1:
            yield "batch_size", f"{self.batch_size} must be at least 1."


@dataclass(frozen=True, kw_only=True)
class DenseLabelsConfig:
    """Make dense labels of training images for token labelling (Jiang et al. 2021)."""

    out: str
    """Run folder, and what `token_labels.labels` of a fine-tuning names. The same recipe goes on where it stopped."""
    init: str
    """The teacher: a run folder of fine-tuning, timm:<name>, hf-hub:<id>, local-dir:<folder>."""
    classes: int = 5
    """Likeliest classes that are kept at each place."""
    data: DataConfig = field(default_factory=DataConfig)
    """Its training images are labelled; `image_size`, `mean` and `std` are the teacher's."""
    train: LabellingConfig = field(default_factory=LabellingConfig)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.classes < 1:
            yield "classes", f"{self.classes} must be at least 1."


def main(arguments: list[str]) -> int:
    """Run the command line that makes dense labels."""
    return run_stage(
        DenseLabelsConfig, make, describe_plan, stage="common.evaluation token_labels", arguments=arguments
    )


def describe_plan(config: DenseLabelsConfig) -> str:
    """Return what the command would do and how much it would write."""
    splits = open_splits(config.data, labelled=True)
    teacher = build_teacher(config.init, config.data, splits.class_names)
    description = describe(config, splits, teacher)
    height, width = description.grid
    return "\n".join(
        [
            "",
            f"teacher       {config.init}, {sum(p.numel() for p in teacher.parameters()) / 1e6:.2f} M parameters",
            f"images        {description.num_images}, of {config.data.image_size} px",
            f"labels        {height} x {width} places, {config.classes} of {description.num_classes} classes at each",
            f"size          {description.num_bytes / 1e6:.1f} MB in {description.num_shards} files",
        ]
    )


def describe(config: DenseLabelsConfig, splits: Splits, teacher: nn.Module) -> DenseLabelsDescription:
    """Return what the labels will be; the grid is found by showing the teacher, still on the CPU, a black image."""
    num_classes, count = len(splits.class_names), len(splits.train)
    if config.classes > num_classes or num_classes > MAX_CLASSES:
        raise UserError(
            f"classes = {config.classes}: the data has {num_classes} classes. Keep at most that many, of at most {MAX_CLASSES}."
        )
    with torch.no_grad():
        grid = dense_scores(teacher, torch.zeros(1, 3, config.data.image_size, config.data.image_size)).shape[1:3]
    if config.data.image_size % grid[0] or grid[0] != grid[1]:
        raise UserError(
            f"data.image_size = {config.data.image_size}: {config.init} sees {grid[0]} x {grid[1]} places there, which do not tile"
            " the image. Give a multiple of the teacher's patch or stride."
        )
    return DenseLabelsDescription(
        fingerprint=splits.subset.fingerprint,
        num_images=count,
        positions_hash=splits.subset.hash,
        num_classes=num_classes,
        teacher=config.init,
        teacher_hash=weights_hash(teacher),
        image_size=config.data.image_size,
        mean=config.data.mean,
        std=config.data.std,
        precision=config.train.precision,
        grid=(grid[0], grid[1]),
        kept=config.classes,
        # Some shards for every process, also of a small set; no shard of more than some hundred megabytes.
        shard_images=min(max(-(-count // 16), 64), 4096),
    )


def make(config: DenseLabelsConfig, overrides: list[str]) -> int:
    """Make the shards that are missing; return the exit code."""
    settings = TrainConfig(batch_size=config.train.batch_size, precision=config.train.precision)
    run = Run(config, settings, stage="token_labels", out=config.out, overrides=overrides)
    if result := run.finished_result():
        logger.info("%s has ended already: %s. Nothing to do.", run.folder, result["verdict"])
        return 0
    splits = open_splits(config.data, labelled=True)
    teacher = build_teacher(config.init, config.data, splits.class_names)
    description = describe(config, splits, teacher)
    labelling = Labelling(config, run, splits, teacher.to(run.device), description)
    stopped = labelling.make_missing()
    if stopped:
        return run.finish(
            run.interrupted(), step=0, images=labelling.images, train_images=len(splits.train), metrics={}
        )
    top1 = 100 * count_right(run.folder, description) / description.num_images
    if run.is_main:
        write_whole(run.folder / MANIFEST, description.text() + "\n")
    ending = Ending(
        Verdict.FINISHED, f"{description.num_bytes / 1e6:.1f} MB; their mean over an image is right for {top1:.1f}%"
    )
    parameters = sum(parameter.numel() for parameter in teacher.parameters())
    return run.finish(
        ending,
        step=0,
        images=labelling.images,
        train_images=len(splits.train),
        parameters=parameters,
        metrics={"dense_label_top1": top1},
    )


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
        config: DenseLabelsConfig,
        run: Run,
        splits: Splits,
        teacher: nn.Module,
        description: DenseLabelsDescription,
    ) -> None:
        self.config, self.run, self.splits, self.teacher, self.description = config, run, splits, teacher, description
        self.images = 0

    def make_missing(self) -> bool:
        """Write every missing shard; return whether a signal stopped it before the last. All processes go in step."""
        run, description = self.run, self.description
        shards = range(description.num_shards)
        missing = [shard for shard in shards if not shard_is_whole(shard_path(run.folder, shard), description)]
        run.accelerator.wait_for_everyone()
        plans = [list(self._parts(missing[rank :: run.num_processes])) for rank in range(run.num_processes)]
        mine, rounds = plans[run.rank], max(map(len, plans))
        if len(missing) < description.num_shards:
            logger.info(
                "%d of %d files are there already", description.num_shards - len(missing), description.num_shards
            )
        progress = Progress(run, rounds, self.config.train.batch_size)
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
        together = max(1, self.config.train.batch_size // int(self.run.num_processes))
        for shard in shards:
            first = shard * self.description.shard_images
            end = min(first + self.description.shard_images, self.description.num_images)
            for start in range(first, end, together):
                rows = range(start, min(start + together, end))
                yield Part(shard, rows, rows.stop == end)

    def _loader(self, parts: Sequence[Part]) -> "torch.utils.data.DataLoader[Batch]":
        """Return the whole images of each part."""
        batches = [[SampleKey(0, row, row, 0) for row in part.rows] for part in parts]
        view = WholeImageView(self.config.data.image_size)
        return view_loader(self.splits.train, view, batches, workers=self.config.data.workers)

    @torch.no_grad()
    def _look(self, batch: Batch) -> tuple[Tensor, ...]:
        """Return the (B, h, w, k) likeliest classes, their probabilities, and whose mean favours its label (B,), on the CPU."""
        data = self.config.data
        images = normalise(batch.views[0][0].to(self.run.device), data.mean, data.std)
        with self.run.accelerator.autocast():
            scores = dense_scores(self.teacher, images)
        if not bool(torch.isfinite(scores).all()):
            raise UserError(
                f"train.precision = {self.config.train.precision}: the teacher's scores are not finite. Use fp32, or another init."
            )
        probabilities = scores.float().softmax(-1)
        best = probabilities.topk(self.config.classes, dim=-1)
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
        squares = [
            F.interpolate(as_interleaved(image), size=self.size, mode="bicubic", antialias=True) for image in images
        ]
        return Views([torch.cat(squares).contiguous()[None]], [], None)
