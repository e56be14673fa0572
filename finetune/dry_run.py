"""Output of `--dry-run` for supervised training: network size, steps, images, MACs."""

from collections.abc import Sized
from dataclasses import replace

from common.data.open_splits import open_splits
from common.data.reid.identities import IdentitySplits
from common.training.optimizers import peak_lr
from common.training.plan_text import image_counts, plan_text, trained_part
from finetune.config import FinetuneConfig
from finetune.cost import network_complexity, training_cost
from finetune.objectives import build_objective
from finetune.warnings import config_warnings


def describe_plan(config: FinetuneConfig) -> str:
    """Describe what the run would do and cost. Opens data and weights, so that invalid ones are reported; nothing is trained."""
    splits = open_splits(config.data, labeled=True)
    objective = build_objective(config, splits)
    objective.build_network()
    num_images, num_classes = len(splits.train), len(splits.class_names)
    complexity = network_complexity(config, num_classes=num_classes)
    steps = config.train.epochs * objective.build_sampler(rank=0, num_processes=1).steps_per_epoch
    cost = training_cost(config, num_images=num_images, num_classes=num_classes)
    cost = replace(cost, steps=steps, images=steps * config.train.batch_size)
    held_out: dict[str, Sized | None] = {"validation": splits.validation, "test": splits.test}
    if isinstance(splits, IdentitySplits):
        held_out = {f"{name} queries": sets.query for name, sets in splits.query_gallery.items()}
    return plan_text(
        network=f"{config.model.name}: {complexity.parameters / 1e6:.2f} M parameters, "
        f"{complexity.macs / 1e9:.3f} GMACs at {config.data.image_size} px, {num_classes} classes",
        **trained_part(
            trained=complexity.trained_parameters,
            parameters=complexity.parameters,
            backward_macs=complexity.backward_macs,
        ),
        init=config.init or "random weights (one-stage training)",
        images=image_counts(splits.train, held_out),
        steps=f"{cost.steps} of {config.train.batch_size} images, {cost.images} images in {config.train.epochs} epochs",
        learning_rate=f"{peak_lr(config.optim, config.train.batch_size):.3g} (peak)",
        compute=f"{cost.macs_per_image / 1e9:.3f} GMACs per image, {cost.macs / 1e15:.4f} PMACs in total"
        + (" (SAM: two passes)" if config.optim.name == "sam" else ""),
        warnings=config_warnings(config, steps=steps),
    )
