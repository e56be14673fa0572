"""Compute cost of a pre-training run, derived from its recipe."""

from dataclasses import dataclass
from functools import lru_cache

from torch import nn

from common.models.class_token import use_class_token_only
from common.models.complexity import Complexity, measure
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.meta import on_meta_device
from common.models.networks import ModelConfig, build_network
from common.training.cost import Cost, count_steps
from pretrain.config import DinoConfig, PretrainConfig
from pretrain.head import DINOHead

Size = int | tuple[int, int]


@dataclass(frozen=True)
class DINOComplexity:
    """Complexity of DINO's backbone and head."""

    global_view: Complexity
    """Backbone on a global view."""
    local_view: Complexity | None
    """Backbone on a local view; none without local views."""
    head_parameters: int
    """Parameters of one projection head."""
    head_macs: int
    """MACs of one projection head on the features of one view."""


def dino_complexity(config: PretrainConfig) -> DINOComplexity:
    """Return the complexity of backbone and head, built on the meta device: nothing is allocated or computed."""
    crops, channels = config.crops, config.data.channels
    local_size = crops.local_size if crops.num_local else None
    sizes = config.data.image_size, crops.global_size, local_size
    return _measure(
        config.model, config.freeze, config.lora, config.dino, channels, *sizes, config.train.class_token_only
    )


@lru_cache(maxsize=256)
def _measure(
    model: ModelConfig,
    freeze: FreezeConfig,
    lora: LoraConfig,
    dino: DinoConfig,
    channels: int,
    image_size: Size,
    global_size: Size,
    local_size: Size | None,
    class_token_only: bool,
) -> DINOComplexity:
    """Return the complexity of backbone and head; a study has few networks and many runs."""
    with on_meta_device():
        resamples = global_size != image_size
        global_backbone = build_network(
            model, image_size=image_size, num_classes=0, in_chans=channels, multi_crop=resamples
        )
        head = DINOHead(
            global_backbone.num_features, dino.out_dim, hidden_dim=dino.hidden_dim, bottleneck_dim=dino.bottleneck_dim
        )
        local_backbone = None
        if local_size is not None:
            local_backbone = build_network(model, image_size=local_size, num_classes=0, in_chans=channels)
        for backbone in (global_backbone, local_backbone):
            if backbone is not None:
                adapt_network(backbone, freeze, lora)
                if class_token_only:
                    use_class_token_only(backbone)
    linear_layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return DINOComplexity(
        measure(global_backbone, global_size),
        None if local_backbone is None or local_size is None else measure(local_backbone, local_size),
        sum(parameter.numel() for parameter in head.parameters()),
        sum(layer.in_features * layer.out_features for layer in linear_layers),
    )


def training_cost(config: PretrainConfig, *, num_images: int) -> Cost:
    """Return the cost of a run with `num_images` images per epoch.

    A backward pass costs twice the forward pass, less what frozen parts save: the gradient of frozen weights, and that of the
    inputs of layers below which nothing is trained (`common.models.complexity`). The teacher only runs the forward pass of the
    global views. Both have backbone and head. Not counted: evaluations, the EMA of the teacher, losses and centering, and the
    second forward pass of `train.grad_checkpointing`.
    """
    crops, complexity = config.crops, dino_complexity(config)
    batch = config.train.batch_size
    steps = count_steps(num_images=num_images, batch_size=batch, epochs=config.train.epochs)
    per_image = crops.num_global * (2 * complexity.global_view.macs + complexity.global_view.backward_macs)
    if complexity.local_view is not None:
        per_image += crops.num_local * (complexity.local_view.macs + complexity.local_view.backward_macs)
    per_image += complexity.head_macs * (3 * (crops.num_global + crops.num_local) + crops.num_global)
    return Cost(steps=steps, images=steps * batch, macs_per_image=per_image)
