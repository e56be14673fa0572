"""Owns what `--dry-run` tells of a pre-training: the network's size, steps, images, multiply-adds."""

from common.data.open_splits import open_splits
from common.training.optimizers import peak_lr
from pretrain.config import PretrainConfig
from pretrain.cost import measure_parts, training_cost
from pretrain.warnings import known_failures


def describe_plan(config: PretrainConfig) -> str:
    """Return what the run would do and cost. The data is opened, so that its mistakes show; nothing is trained."""
    splits = open_splits(config.data, labelled=False)
    num_images, batch, views = len(splits.train), config.train.batch_size, config.views
    parts, cost = measure_parts(config), training_cost(config, num_images=num_images)
    held_out = {name: len(part) for name in ("validation", "test") if (part := getattr(splits, name)) is not None}
    lines = [
        f"network       {config.model.name}: {parts.large.parameters / 1e6:.2f} M parameters, "
        f"{parts.large.multiply_adds / 1e9:.3f} G multiply-adds at {views.global_size} px; "
        f"head {parts.head_parameters / 1e6:.2f} M parameters",
        f"images        {num_images} to train on"
        + "".join(f", {count} for {name}" for name, count in held_out.items()),
        f"views         {views.global_count} x {views.global_size} px + {views.local_count} x {views.local_size} px for each image",
        f"steps         {cost.steps} of {batch} images, {cost.images} images in {config.train.epochs} epochs",
        f"learning rate {peak_lr(config.optim, batch):.3g} at its peak",
        f"arithmetic    {cost.multiply_adds_per_image / 1e9:.2f} G multiply-adds for each image, "
        f"{cost.multiply_adds / 1e15:.4f} P in all",
    ]
    lines += [f"warning       {text}" for text in known_failures(config, num_images=num_images, steps=cost.steps)]
    return "\n".join(["", *lines])
