"""Compute cost of an evaluation, from its recipe alone: forward passes of the frozen backbone; everything else is negligible."""

from functools import lru_cache

from common.evaluation.config import ComplexityConfig, KnnEvaluationConfig, LinearConfig, ProbeConfig, TokensConfig
from common.models.complexity import Complexity, measure
from common.models.meta import on_meta_device
from common.models.networks import ModelConfig, build_network
from common.training.cost import Cost, count_steps


def network_complexity(config: LinearConfig | KnnEvaluationConfig | ProbeConfig | TokensConfig) -> Complexity:
    """Return the complexity of the network without a classifier; nothing is computed or loaded."""
    return _measure(config.model, config.data.image_size, config.data.channels)


@lru_cache(maxsize=256)
def _measure(model: ModelConfig, image_size: int | tuple[int, int], channels: int) -> Complexity:
    """Return the complexity of a network; a study has few networks and many runs."""
    with on_meta_device():
        network = build_network(model, image_size=image_size, num_classes=0, in_chans=channels)
    return measure(network, image_size)


def linear_cost(config: LinearConfig, *, num_images: int) -> Cost:
    """Return the cost of a linear evaluation that trains on `num_images` images, without its passes over held-out images."""
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    forward = network_complexity(config).macs
    return Cost(steps=steps, images=steps * batch, macs_per_image=forward)


def knn_cost(config: KnnEvaluationConfig, *, num_images: int, num_held_out: int) -> Cost:
    """Return the cost of a k-NN evaluation with `num_images` training and `num_held_out` validation and test images."""
    bank = min(num_images, config.knn.bank_images or num_images)
    forward = network_complexity(config).macs
    return Cost(steps=0, images=bank + num_held_out, macs_per_image=forward)


def probe_cost(config: ProbeConfig, *, num_images: int, num_held_out: int) -> Cost:
    """Return the cost of features for `num_images` training and `num_held_out` validation and test images; pixels cost nothing."""
    forward = network_complexity(config).macs if config.features == "network" else 0.0
    return Cost(steps=0, images=num_images + num_held_out, macs_per_image=forward)


def tokens_cost(config: TokensConfig, *, num_held_out: int) -> Cost:
    """Return the cost of a token similarity evaluation on a split of `num_held_out` images."""
    forward = network_complexity(config).macs
    return Cost(steps=0, images=min(config.images, num_held_out), macs_per_image=forward)


def complexity_cost(config: ComplexityConfig) -> Cost:
    """Return the cost of measuring a network's complexity: zero, because no image passes through the network."""
    return Cost(steps=0, images=0, macs_per_image=0.0)
