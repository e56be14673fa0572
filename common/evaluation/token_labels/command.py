"""Owns the command that makes dense labels: a teacher looks at every training image, its likeliest classes are kept by place.

Shards are written one by one: the same command again makes those that are missing.
"""

import torch
from torch import nn

from common.command import run_stage
from common.data.open_splits import open_splits
from common.data.splits.roles import Splits
from common.data.token_labels.files import MANIFEST, MAX_CLASSES, DenseLabelsDescription, count_right
from common.errors import UserError
from common.evaluation.config import DenseLabelsConfig
from common.evaluation.token_labels.teacher import build_teacher, dense_scores, weights_hash
from common.evaluation.token_labels.writer import Labelling
from common.files import write_whole
from common.training.config import TrainConfig
from common.training.run import Run
from common.training.status import Ending, Verdict


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
            f"images        {description.num_images}, of {side(config)} px",
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
        grid = dense_scores(teacher, torch.zeros(1, 3, side(config), side(config))).shape[1:3]
    if side(config) % grid[0] or grid[0] != grid[1]:
        raise UserError(
            f"data.image_size = {side(config)}: {config.init} sees {grid[0]} x {grid[1]} places there, which do not tile"
            " the image. Give a multiple of the teacher's patch or stride."
        )
    return DenseLabelsDescription(
        fingerprint=splits.subset.fingerprint,
        num_images=count,
        positions_hash=splits.subset.hash,
        num_classes=num_classes,
        teacher=config.init,
        teacher_hash=weights_hash(teacher),
        image_size=side(config),
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
    if run.has_ended():
        return 0
    splits = open_splits(config.data, labelled=True)
    teacher = build_teacher(config.init, config.data, splits.class_names)
    description = describe(config, splits, teacher)
    labelling = Labelling(
        run,
        splits,
        teacher.to(run.device),
        description,
        batch_size=config.train.batch_size,
        workers=config.data.workers,
    )
    if labelling.make_missing():
        return run.finish(
            run.interrupted(), step=0, images=labelling.images, train_images=len(splits.train), metrics={}
        )
    top1 = 100 * count_right(run.folder, description) / description.num_images
    run.write(run.folder / MANIFEST, lambda: write_whole(run.folder / MANIFEST, description.text() + "\n"))
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


def side(config: DenseLabelsConfig) -> int:
    """Return the side of the teacher's images, pixels."""
    size = config.data.image_size
    assert isinstance(size, int), "the recipe's class refuses others"
    return size
