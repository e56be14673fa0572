"""Build a classifier from a recipe and export it."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from common.data.splits.roles import Splits
from common.models.classifier import classifier_layers
from common.models.export import export_network
from common.models.freezing import adapt_network
from common.models.networks import build_network
from common.models.weights import load_init
from finetune.config import FinetuneConfig


def build_classifier(
    config: FinetuneConfig, *, num_classes: int, class_names: Sequence[str] | None = None
) -> nn.Module:
    """Build the network with its classifier, load `init` and freeze what the recipe names. Seed torch's generator first.

    `head_init_scale` is the factor of a random classifier; one that `init` has for these classes stays as it was trained.
    """
    data = config.data
    network: nn.Module = build_network(
        config.model, image_size=data.image_size, num_classes=num_classes, in_chans=data.channels
    )
    has_trained_head = False
    if config.init is not None:
        has_trained_head = load_init(network, config.init, class_names=class_names).head == "loaded"
    adapt_network(network, config.freeze, config.lora)
    if has_trained_head:
        return network
    with torch.no_grad():
        for classifier in classifier_layers(network):
            classifier.weight.mul_(config.head_init_scale)
            classifier.bias.mul_(config.head_init_scale)
    return network


def export_classifier(
    network: nn.Module, config: FinetuneConfig, splits: Splits, metrics: dict[str, float], folder: Path
) -> None:
    """Export the classifier as a folder that timm loads."""
    mean, std = config.data.statistics()
    export_network(
        network,
        folder,
        model_name=config.model.name,
        class_names=list(splits.class_names),
        mean=mean,
        std=std,
        image_size=config.data.image_size,
        images=config.data.describe_images(),
        metrics=metrics,
        crop_pct=config.augment.crop_pct,
        squash=config.augment.crop_mode == "squash",
    )
