"""Owns what `--dry-run` tells of a pre-training: the network's size, steps, images, multiply-adds."""

from common.data.sources import open_splits
from common.models.complexity import measure
from common.models.networks import build_network
from common.training.optimizers import peak_lr
from pretrain.build import build_dino
from pretrain.config import PretrainConfig
from pretrain.warnings import known_failures


def describe_plan(config: PretrainConfig) -> str:
    """Return what the run would do and cost. The data is opened, so that its mistakes show; nothing is trained."""
    splits = open_splits(config.data, labelled=False)
    dino = build_dino(config)
    num_images, batch = len(splits.train), config.train.batch_size
    steps = config.train.epochs * max(1, num_images // batch)
    views = config.views
    network = build_network(config.model, image_size=views.global_size, num_classes=0, dynamic=True)
    large = measure(network, views.global_size)
    # Backward costs twice the forward pass; the teacher sees the global views forward only.
    per_image = (3 + 1) * views.global_count * large.multiply_adds
    if views.local_count:
        small = measure(network, views.local_size)
        per_image += 3 * views.local_count * small.multiply_adds
    head = sum(parameter.numel() for parameter in dino.student_head.parameters())
    per_image += head * (3 * (views.global_count + views.local_count) + views.global_count)
    held_out = {name: len(part) for name in ("validation", "test") if (part := getattr(splits, name)) is not None}
    lines = [
        f"network       {config.model.name}: {large.parameters / 1e6:.2f} M parameters, "
        f"{large.multiply_adds / 1e9:.3f} G multiply-adds at {views.global_size} px; head {head / 1e6:.2f} M parameters",
        f"images        {num_images} to train on"
        + "".join(f", {count} for {name}" for name, count in held_out.items()),
        f"views         {views.global_count} x {views.global_size} px + {views.local_count} x {views.local_size} px for each image",
        f"steps         {steps} of {batch} images, {steps * batch} images in {config.train.epochs} epochs",
        f"learning rate {peak_lr(config.optim, batch):.3g} at its peak",
        f"arithmetic    {per_image / 1e9:.2f} G multiply-adds for each image, {per_image * steps * batch / 1e15:.4f} P in all",
    ]
    lines += [f"warning       {text}" for text in known_failures(config, num_images=num_images, steps=steps)]
    return "\n".join(["", *lines])
