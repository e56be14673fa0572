"""The classifier is found in every family, also in networks built without one."""

import pytest
import torch
from torch import nn

from common.models.classifier import classifier_layers, classifier_names
from common.models.networks import ModelConfig, build_network


@pytest.mark.parametrize(
    ("name", "names"),
    [("vit_mini", ("head",)), ("volo_mini", ("head", "aux_head")), ("regnety_mini", ("head.fc",))],
)
def test_classifier_layers_are_found_in_every_family(name: str, names: tuple[str, ...]) -> None:
    with torch.device("meta"):
        model = build_network(ModelConfig(name=name), image_size=16, num_classes=5)
        headless = build_network(ModelConfig(name=name), image_size=16, num_classes=0)
    assert classifier_names(model) == classifier_names(headless) == names
    assert [layer.out_features for layer in classifier_layers(model)] == [5] * len(names)
    assert classifier_layers(headless) == []


def test_classifier_of_a_network_unknown_to_timm_is_named_head() -> None:
    assert classifier_names(nn.Linear(2, 3)) == ("head",)
