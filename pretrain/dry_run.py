"""Output of `--dry-run` for pre-training: network size, steps, images, MACs."""

from common.data.open_splits import open_splits
from common.sizes import describe_size
from common.training.optimizers import peak_lr
from pretrain.config import PretrainConfig
from pretrain.cost import dino_complexity, training_cost
from pretrain.warnings import config_warnings


def describe_plan(config: PretrainConfig) -> str:
    """Describe what the run would do and cost. Opens the data, so that invalid data is reported; nothing is trained."""
    splits = open_splits(config.data, labeled=False)
    num_images, batch, crops = len(splits.train), config.train.batch_size, config.crops
    complexity, cost = dino_complexity(config), training_cost(config, num_images=num_images)
    held_out = {name: len(part) for name in ("validation", "test") if (part := getattr(splits, name)) is not None}
    backbone = complexity.global_view
    lines = [
        f"network       {config.model.name}: {backbone.parameters / 1e6:.2f} M parameters, "
        f"{backbone.macs / 1e9:.3f} GMACs at {describe_size(crops.global_size)} px; "
        f"head {complexity.head_parameters / 1e6:.2f} M parameters",
        f"images        {num_images} for training"
        + "".join(f", {count} for {name}" for name, count in held_out.items()),
        f"views         {crops.num_global} x {describe_size(crops.global_size)} px + "
        f"{crops.num_local} x {describe_size(crops.local_size)} px per image",
        f"steps         {cost.steps} of {batch} images, {cost.images} images in {config.train.epochs} epochs",
        f"learning rate {peak_lr(config.optim, batch):.3g} (peak)",
        f"compute       {cost.macs_per_image / 1e9:.2f} GMACs per image, {cost.macs / 1e15:.4f} PMACs in total",
    ]
    if backbone.trained_parameters < backbone.parameters:
        lines.insert(
            1,
            f"trained       {backbone.trained_parameters / 1e6:.3f} M of {backbone.parameters / 1e6:.3f} M parameters, "
            f"backward pass {backbone.backward_macs / 1e9:.3f} GMACs",
        )
    lines += [f"warning       {text}" for text in config_warnings(config, num_images=num_images, steps=cost.steps)]
    return "\n".join(["", *lines])
