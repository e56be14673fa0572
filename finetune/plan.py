"""Owns what `--dry-run` tells of a supervised run: the network's size, steps, images, multiply-adds."""

from common.data.identities import IdentitySplits
from common.data.sources import open_splits
from common.models.complexity import measure
from common.training.optimizers import peak_lr
from finetune.config import FinetuneConfig
from finetune.objectives import build_objective


def describe_plan(config: FinetuneConfig) -> str:
    """Return what the run would do and cost. The data is opened, so that its mistakes show; nothing is trained."""
    splits = open_splits(config.data, labelled=True)
    num_images, batch = len(splits.train), config.train.batch_size
    objective = build_objective(config, splits)
    steps = config.train.epochs * objective.build_sampler(rank=0, num_processes=1).steps_per_epoch
    size = measure(objective.build_network(), config.data.image_size)
    passes = 6 if config.optim.name == "sam" else 3
    held_out = {name: len(part) for name in ("validation", "test") if (part := getattr(splits, name)) is not None}
    if isinstance(splits, IdentitySplits):
        held_out = {f"{name} queries": len(search.query) for name, search in splits.searches.items()}
    lines = [
        f"network       {config.model.name}: {size.parameters / 1e6:.2f} M parameters, "
        f"{size.multiply_adds / 1e9:.3f} G multiply-adds at {config.data.image_size} px, {len(splits.class_names)} classes",
        f"starts from   {config.init or 'random weights (one-stage training)'}",
        f"images        {num_images} to train on"
        + "".join(f", {count} for {name}" for name, count in held_out.items()),
        f"steps         {steps} of {batch} images, {steps * batch} images in {config.train.epochs} epochs",
        f"learning rate {peak_lr(config.optim, batch):.3g} at its peak",
        f"arithmetic    {passes * size.multiply_adds / 1e9:.3f} G multiply-adds for each image, "
        f"{passes * size.multiply_adds * steps * batch / 1e15:.4f} P in all"
        + (" (SAM: two passes)" if passes == 6 else ""),
    ]
    return "\n".join(["", *lines])
