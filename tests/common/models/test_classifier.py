"""The classifier is found in every family, also where the network has none."""

import pytest
import torch
from torch import nn

from common.models.classifier import classifier_layers, classifier_names
from common.models.networks import ModelConfig, build_network


@pytest.mark.parametrize(
    ("name", "names"),
    [("vit_mini", ("head",)), ("volo_mini", ("head", "aux_head")), ("regnety_mini", ("head.fc",))],
)
def test_the_layers_that_put_out_classes_are_found(name: str, names: tuple[str, ...]) -> None:
    with torch.device("meta"):
        model = build_network(ModelConfig(name=name), image_size=16, num_classes=5)
        without = build_network(ModelConfig(name=name), image_size=16, num_classes=0)
    assert classifier_names(model) == classifier_names(without) == names
    assert [layer.out_features for layer in classifier_layers(model)] == [5] * len(names)
    assert classifier_layers(without) == []


def test_a_network_unknown_to_timm_has_a_head() -> None:
    assert classifier_names(nn.Linear(2, 3)) == ("head",)
