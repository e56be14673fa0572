"""Owns what an evaluation costs, from its recipe alone: forward passes of the frozen network, and nothing else worth counting."""

import torch

from common.evaluation.config import KnnEvaluationConfig, LinearConfig, TokensConfig
from common.models.complexity import Complexity, measure
from common.models.networks import build_network
from common.training.cost import Cost, count_steps


def network_complexity(config: LinearConfig | KnnEvaluationConfig | TokensConfig) -> Complexity:
    """Return the size of the network without a classifier; nothing is computed, nothing is loaded."""
    with torch.device("meta"):
        network = build_network(config.model, image_size=config.data.image_size, num_classes=0)
    return measure(network, config.data.image_size)


def linear_cost(config: LinearConfig, *, num_images: int) -> Cost:
    """Return the cost of a linear evaluation that trains on `num_images` images; looking at the held-out ones is left out."""
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    forward = network_complexity(config).multiply_adds
    return Cost(steps=steps, images=steps * batch, multiply_adds_per_image=forward)


def knn_cost(config: KnnEvaluationConfig, *, num_images: int, num_held_out: int) -> Cost:
    """Return the cost of a k-NN evaluation with `num_images` training images and that many validation and test images."""
    bank = min(num_images, config.knn.bank_images or num_images)
    forward = network_complexity(config).multiply_adds
    return Cost(steps=0, images=bank + num_held_out, multiply_adds_per_image=forward)


def tokens_cost(config: TokensConfig, *, num_held_out: int) -> Cost:
    """Return the cost of a look at tokens, where the split that is looked at has `num_held_out` images."""
    forward = network_complexity(config).multiply_adds
    return Cost(steps=0, images=min(config.images, num_held_out), multiply_adds_per_image=forward)
