"""Compute cost of a supervised run, derived from its recipe."""

import torch

from common.models.complexity import Complexity, measure
from common.models.networks import build_network
from common.training.cost import Cost, count_steps
from finetune.config import FinetuneConfig


def network_complexity(config: FinetuneConfig, *, num_classes: int) -> Complexity:
    """Return the network's complexity, including the classifier except in re-identification; nothing is computed or loaded."""
    num_classes = 0 if config.objective == "reid" else num_classes
    with torch.device("meta"):
        network = build_network(config.model, image_size=config.data.image_size, num_classes=num_classes)
    return measure(network, config.data.image_size)


def training_cost(config: FinetuneConfig, *, num_images: int, num_classes: int) -> Cost:
    """Return the cost of a run with `num_images` images per epoch. Backward costs twice the forward pass; SAM runs both twice."""
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    passes = 6 if config.optim.name == "sam" else 3
    forward = network_complexity(config, num_classes=num_classes).macs
    return Cost(steps=steps, images=steps * batch, macs_per_image=passes * forward)
