"""The stage that writes token labels: a teacher's most probable classes at each grid position of every training image.

Shards are written one at a time, so rerunning the command writes only the missing ones.
"""

import torch
from torch import nn

from common.command import run_stage
from common.data.open_splits import open_splits
from common.data.splits.roles import Splits
from common.data.token_labels.files import MANIFEST, MAX_CLASSES, TokenLabelsDescription, count_correct
from common.data.worker_count import count_workers
from common.errors import UserError
from common.evaluation.config import WriteTokenLabelsConfig
from common.evaluation.token_labels.teacher import build_teacher, token_logits, weights_hash
from common.evaluation.token_labels.writer import TokenLabelWriter
from common.files import write_atomic
from common.training.open_images import open_images
from common.training.run import start_run
from common.training.status import RunOutcome, RunStatus


def main(arguments: list[str]) -> int:
    """Run the command line of the stage; return the exit code."""
    return run_stage(
        WriteTokenLabelsConfig, write, describe_plan, stage="common.evaluation token_labels", arguments=arguments
    )


def describe_plan(config: WriteTokenLabelsConfig) -> str:
    """Describe what the command would do and how much it would write."""
    splits = open_splits(config.data, labeled=True)
    teacher = build_teacher(config.init, config.data, splits.class_names)
    description = describe(config, splits, teacher)
    height, width = description.grid
    return "\n".join(
        [
            "",
            f"teacher       {config.init}, {sum(p.numel() for p in teacher.parameters()) / 1e6:.2f} M parameters",
            f"images        {description.num_images}, of {side(config)} px",
            f"labels        {height} x {width} positions, {config.classes} of {description.num_classes} classes at each",
            f"size          {description.num_bytes / 1e6:.1f} MB in {description.num_shards} files",
        ]
    )


def describe(config: WriteTokenLabelsConfig, splits: Splits, teacher: nn.Module) -> TokenLabelsDescription:
    """Return the description of the labels; the grid comes from the teacher's forward pass over a black image on the CPU.

    Raise UserError for more classes than the data has or the files can store, and for a grid that does not tile the image.
    """
    num_classes, count = len(splits.class_names), len(splits.train)
    if config.classes > num_classes or num_classes > MAX_CLASSES:
        raise UserError(
            f"classes = {config.classes}: the data has {num_classes} classes. Store at most that many, of at most {MAX_CLASSES}."
        )
    with torch.no_grad():
        grid = token_logits(teacher, torch.zeros(1, config.data.channels, side(config), side(config))).shape[1:3]
    if side(config) % grid[0] or grid[0] != grid[1]:
        raise UserError(
            f"data.image_size = {side(config)}: the token grid of {config.init} is {grid[0]} x {grid[1]} at that size, which does"
            " not tile the image. Use a multiple of the teacher's patch size or stride."
        )
    mean, std = config.data.statistics()
    return TokenLabelsDescription(
        fingerprint=splits.subset.fingerprint,
        num_images=count,
        positions_hash=splits.subset.hash,
        num_classes=num_classes,
        teacher=config.init,
        teacher_hash=weights_hash(teacher),
        image_size=side(config),
        mean=mean,
        std=std,
        precision=config.train.precision,
        grid=(grid[0], grid[1]),
        kept=config.classes,
        # Several shards per process even for a small dataset; no shard larger than a few hundred megabytes.
        shard_images=min(max(-(-count // 16), 64), 4096),
    )


def write(config: WriteTokenLabelsConfig, overrides: list[str]) -> int:
    """Write the missing shards; return the exit code."""
    run = start_run(config, stage="token_labels", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labeled=True)
    teacher = build_teacher(config.init, config.data, splits.class_names)
    description = describe(config, splits, teacher)
    writer = TokenLabelWriter(
        run,
        splits,
        teacher.to(run.device),
        description,
        batch_size=config.train.batch_size,
        workers=count_workers(config.data.workers, on_gpu=run.device.type == "cuda"),
    )
    if writer.write_missing():
        return run.finish(run.interrupted(), step=0, images=writer.images, train_images=len(splits.train), metrics={})
    top1 = 100 * count_correct(run.folder, description) / description.num_images
    run.write(run.folder / MANIFEST, lambda: write_atomic(run.folder / MANIFEST, description.text() + "\n"))
    outcome = RunOutcome(
        RunStatus.FINISHED,
        f"{description.num_bytes / 1e6:.1f} MB; top-1 of the mean over an image's positions is {top1:.1f}%",
    )
    parameters = sum(parameter.numel() for parameter in teacher.parameters())
    return run.finish(
        outcome,
        step=0,
        images=writer.images,
        train_images=len(splits.train),
        parameters=parameters,
        metrics={"token_label_top1": top1},
    )


def side(config: WriteTokenLabelsConfig) -> int:
    """Return the side of the teacher's images, pixels."""
    size = config.data.image_size
    assert isinstance(size, int), "WriteTokenLabelsConfig.problems() rejects other values"
    return size
