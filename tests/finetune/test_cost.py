"""Compute cost of supervised training against counts by hand."""

from typing import Any

import pytest

from common.config import build
from common.models.complexity import measure
from common.models.networks import build_network
from finetune.config import FinetuneConfig
from finetune.cost import training_cost


def macs_per_image(**sections: Any) -> float:
    """Return the MACs per image of a recipe with 10 classes or identities."""
    recipe = {"out": "runs/x", "data": {"image_size": 16}, "train": {"batch_size": 20}, **sections}
    return training_cost(build(FinetuneConfig, recipe, source="recipe"), num_images=90, num_classes=10).macs_per_image


VIT: dict[str, Any] = {"name": "vit_mini", "patch_size": 4}
VOLO: dict[str, Any] = {"name": "volo_mini", "patch_size": 4}


@pytest.mark.parametrize(("optim", "passes"), [({}, 3), ({"name": "sam"}, 6)])
def test_backward_costs_twice_the_forward_pass_and_sam_runs_both_twice(optim: dict[str, Any], passes: int) -> None:
    config = build(FinetuneConfig, {"out": "x", "model": VIT}, source="recipe")
    forward = measure(build_network(config.model, image_size=16, num_classes=10), 16).macs
    assert macs_per_image(model=VIT, optim=optim) == passes * forward


def test_the_classifier_of_identities_is_counted() -> None:
    config = build(FinetuneConfig, {"out": "x", "model": VIT}, source="recipe")
    backbone = measure(build_network(config.model, image_size=16, num_classes=0), 16).macs
    augment = {"mixup": 0.0, "cutmix": 0.0, "aug_repeats": 1}
    cost = macs_per_image(model=VIT, objective="reid", augment=augment)
    assert cost == 3 * (backbone + 64 * 10)


def test_the_classifier_of_the_tokens_is_counted() -> None:
    config = build(FinetuneConfig, {"out": "x", "model": VOLO}, source="recipe")
    network = build_network(config.model, image_size=16, num_classes=10)
    backbone = measure(build_network(config.model, image_size=16, num_classes=0), 16).macs
    rows, columns = network.token_grid  # type: ignore[operator, misc]
    heads = (1 + int(rows) * int(columns)) * network.num_features * 10  # type: ignore[operator, call-overload]
    augment = {"mixup": 0.0, "cutmix": 0.0}
    assert macs_per_image(model=VOLO, objective="token_labels", augment=augment) == 3 * (backbone + heads)


def test_frozen_parts_save_their_gradients_in_both_passes_of_sam() -> None:
    config = build(FinetuneConfig, {"out": "x", "model": VIT}, source="recipe")
    forward = measure(build_network(config.model, image_size=16, num_classes=10), 16).macs
    freeze = {"embeddings": True, "blocks": 4}
    assert macs_per_image(model=VIT, freeze=freeze) == forward + 64 * 10
    assert macs_per_image(model=VIT, freeze=freeze, optim={"name": "sam"}) == 2 * (forward + 64 * 10)
    assert forward < macs_per_image(model=VIT, lora={"rank": 2}) < 3 * forward
