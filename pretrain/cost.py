"""Compute cost of a pre-training run, derived from its recipe."""

from dataclasses import dataclass

import torch

from common.models.complexity import Complexity, measure
from common.models.networks import build_network
from common.training.cost import Cost, count_steps
from pretrain.config import PretrainConfig
from pretrain.head import DINOHead


@dataclass(frozen=True)
class DINOComplexity:
    """Complexity of DINO's backbone and head."""

    global_view: Complexity
    """Backbone on a global view."""
    local_view: Complexity | None
    """Backbone on a local view; none without local views."""
    head_parameters: int
    """Parameters of one projection head."""


def dino_complexity(config: PretrainConfig) -> DINOComplexity:
    """Return the complexity of backbone and head, built on the meta device: nothing is allocated or computed."""
    crops, dino = config.crops, config.dino
    with torch.device("meta"):
        global_backbone = build_network(config.model, image_size=crops.global_size, num_classes=0)
        head = DINOHead(
            global_backbone.num_features, dino.out_dim, hidden_dim=dino.hidden_dim, bottleneck_dim=dino.bottleneck_dim
        )
        local_backbone = (
            build_network(config.model, image_size=crops.local_size, num_classes=0) if crops.num_local else None
        )
    return DINOComplexity(
        measure(global_backbone, crops.global_size),
        None if local_backbone is None else measure(local_backbone, crops.local_size),
        sum(parameter.numel() for parameter in head.parameters()),
    )


def training_cost(config: PretrainConfig, *, num_images: int) -> Cost:
    """Return the cost of a run with `num_images` images per epoch.

    A backward pass costs twice the forward pass; the teacher only runs the forward pass of the global views.
    """
    crops, complexity = config.crops, dino_complexity(config)
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    per_image = (3 + 1) * crops.num_global * complexity.global_view.macs
    if complexity.local_view is not None:
        per_image += 3 * crops.num_local * complexity.local_view.macs
    per_image += complexity.head_parameters * (3 * (crops.num_global + crops.num_local) + crops.num_global)
    return Cost(steps=steps, images=steps * batch, macs_per_image=per_image)
