"""Output of `--dry-run` for pre-training: network size, steps, images, MACs."""

from common.data.open_splits import open_splits
from common.sizes import describe_size
from common.training.optimizers import peak_lr
from common.training.plan_text import image_counts, plan_text, trained_part
from pretrain.build import build_dino
from pretrain.config import PretrainConfig
from pretrain.cost import dino_complexity, training_cost
from pretrain.warnings import config_warnings


def describe_plan(config: PretrainConfig) -> str:
    """Describe what the run would do and cost. Opens data and weights, so that invalid ones are reported; nothing is trained."""
    splits = open_splits(config.data, labeled=False)
    build_dino(config)
    num_images, batch, crops = len(splits.train), config.train.batch_size, config.crops
    complexity, cost = dino_complexity(config), training_cost(config, num_images=num_images)
    backbone = complexity.global_view
    return plan_text(
        network=f"{config.model.name}: {backbone.parameters / 1e6:.2f} M parameters, "
        f"{backbone.macs / 1e9:.3f} GMACs at {describe_size(crops.global_size)} px; "
        f"head {complexity.head_parameters / 1e6:.2f} M parameters",
        **trained_part(
            trained=backbone.trained_parameters,
            parameters=backbone.parameters,
            backward_macs=backbone.backward_macs,
        ),
        images=image_counts(splits.train, {"validation": splits.validation, "test": splits.test}),
        views=f"{crops.num_global} x {describe_size(crops.global_size)} px"
        + (f" + {crops.num_local} x {describe_size(crops.local_size)} px" if crops.num_local else "")
        + " per image",
        steps=f"{cost.steps} of {batch} images, {cost.images} images in {config.train.epochs} epochs",
        learning_rate=f"{peak_lr(config.optim, batch):.3g} (peak)",
        compute=f"{cost.macs_per_image / 1e9:.2f} GMACs per image, {cost.macs / 1e15:.4f} PMACs in total",
        warnings=config_warnings(config, num_images=num_images, steps=cost.steps),
    )
