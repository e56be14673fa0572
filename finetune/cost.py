"""Compute cost of a supervised run, derived from its recipe."""

from functools import lru_cache

import torch

from common.models.complexity import Complexity, measure
from common.models.networks import ModelConfig, build_network
from common.training.cost import Cost, count_steps
from finetune.config import FinetuneConfig


def network_complexity(config: FinetuneConfig, *, num_classes: int) -> Complexity:
    """Return the network's complexity, including the classifier except in re-identification; nothing is computed or loaded."""
    data = config.data
    num_classes = 0 if config.objective == "reid" else num_classes
    return _measure(config.model, data.image_size, data.channels, num_classes)[0]


def training_cost(config: FinetuneConfig, *, num_images: int, num_classes: int) -> Cost:
    """Return the cost of a run with `num_images` images per epoch.

    Backward costs twice the forward pass; SAM runs both twice. Counted are the backbone and every classifier: of the image, of each
    token (VOLO), of the identities after the BN-neck. Not counted: evaluations, the EMA of the weights, losses, and the second
    forward pass of `train.grad_checkpointing`, which saves memory and does not change the step.
    """
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    passes = 6 if config.optim.name == "sam" else 3
    is_reid = config.objective == "reid"
    data = config.data
    complexity, num_features = _measure(config.model, data.image_size, data.channels, 0 if is_reid else num_classes)
    forward = complexity.macs + (num_features * num_classes if is_reid else 0)
    return Cost(steps=steps, images=steps * batch, macs_per_image=passes * forward)


@lru_cache(maxsize=256)
def _measure(
    model: ModelConfig, image_size: int | tuple[int, int], channels: int, num_classes: int
) -> tuple[Complexity, int]:
    """Return the complexity of a network and the dimension of its features; a study has few networks and many runs."""
    with torch.device("meta"):
        network = build_network(model, image_size=image_size, num_classes=num_classes, in_chans=channels)
    return measure(network, image_size), network.num_features
