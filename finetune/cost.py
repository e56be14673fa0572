"""Compute cost of a supervised run, derived from its recipe."""

from functools import lru_cache

from common.models.class_token import use_class_token_only
from common.models.complexity import Complexity, measure
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.meta import on_meta_device
from common.models.networks import ModelConfig, build_network
from common.training.cost import Cost, count_steps
from finetune.config import FinetuneConfig


def network_complexity(config: FinetuneConfig, *, num_classes: int) -> Complexity:
    """Return the network's complexity, including the classifier except in re-identification; nothing is computed or loaded."""
    return _complexity(config, num_classes)[0]


def training_cost(config: FinetuneConfig, *, num_images: int, num_classes: int) -> Cost:
    """Return the cost of a run with `num_images` images per epoch.

    Backward costs twice the forward pass, less what frozen parts save: the gradient of frozen weights, and that of the inputs of
    layers below which nothing is trained (`common.models.complexity`). SAM runs both passes twice. Counted are the backbone and
    every classifier: of the image, of each token (VOLO), of the identities after the BN-neck. Not counted: evaluations, the EMA of
    the weights, losses, and the second forward pass of `train.grad_checkpointing`, which saves memory and does not change the step.
    """
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    complexity, num_features = _complexity(config, num_classes)
    macs = complexity.macs + complexity.backward_macs
    if config.objective == "reid":  # the gradient of the features is counted even if the backbone is frozen
        macs += 3 * num_features * num_classes
    return Cost(steps=steps, images=steps * batch, macs_per_image=macs * (2 if config.optim.name == "sam" else 1))


def _complexity(config: FinetuneConfig, num_classes: int) -> tuple[Complexity, int]:
    """Return the complexity of a recipe's network, without a classifier in re-identification, and the dimension of its features."""
    data = config.data
    outputs = 0 if config.objective == "reid" else num_classes
    only = config.train.class_token_only
    return _measure(config.model, config.freeze, config.lora, data.image_size, data.channels, outputs, only)


@lru_cache(maxsize=256)
def _measure(
    model: ModelConfig,
    freeze: FreezeConfig,
    lora: LoraConfig,
    image_size: int | tuple[int, int],
    channels: int,
    num_classes: int,
    class_token_only: bool,
) -> tuple[Complexity, int]:
    """Return the complexity of a network and the dimension of its features; a study has few networks and many runs."""
    with on_meta_device():
        network = build_network(model, image_size=image_size, num_classes=num_classes, in_chans=channels)
        adapt_network(network, freeze, lora)
        if class_token_only:
            use_class_token_only(network)
    return measure(network, image_size), network.num_features
