"""Owns what a pre-training costs, from its recipe alone."""

from dataclasses import dataclass

import torch

from common.models.complexity import Complexity, measure
from common.models.networks import build_network
from common.training.cost import Cost, count_steps
from pretrain.config import PretrainConfig
from pretrain.head import DINOHead


@dataclass(frozen=True)
class Parts:
    """The sizes of a pre-training's parts."""

    large: Complexity
    """The network on a global view."""
    small: Complexity | None
    """The network on a local view, where there are any."""
    head_parameters: int


def measure_parts(config: PretrainConfig) -> Parts:
    """Return the sizes of the network and the head; they are built without memory, and nothing is computed."""
    views, dino = config.views, config.dino
    with torch.device("meta"):
        large = build_network(config.model, image_size=views.global_size, num_classes=0)
        head = DINOHead(
            large.num_features, dino.outputs, hidden_dim=dino.hidden_dim, bottleneck_dim=dino.bottleneck_dim
        )
        small = build_network(config.model, image_size=views.local_size, num_classes=0) if views.local_count else None
    return Parts(
        measure(large, views.global_size),
        None if small is None else measure(small, views.local_size),
        sum(parameter.numel() for parameter in head.parameters()),
    )


def training_cost(config: PretrainConfig, *, num_images: int) -> Cost:
    """Return the cost of a run over `num_images` images an epoch.

    Backward costs twice the forward pass; the teacher sees the global views forward only.
    """
    views, parts = config.views, measure_parts(config)
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    per_image = (3 + 1) * views.global_count * parts.large.multiply_adds
    if parts.small is not None:
        per_image += 3 * views.local_count * parts.small.multiply_adds
    per_image += parts.head_parameters * (3 * (views.global_count + views.local_count) + views.global_count)
    return Cost(steps=steps, images=steps * batch, multiply_adds_per_image=per_image)
