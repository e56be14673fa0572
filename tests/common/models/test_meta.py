"""Networks without numbers have the shapes and the counts of those built as usual; tensors of other devices are computed."""

import pytest
import torch

from common.models.complexity import measure
from common.models.meta import on_meta_device
from common.models.networks import ModelConfig, build_network

NETWORKS = [("vit_mini", 16), ("volo_mini", 32), ("regnety_mini", 32), ("vit_small_patch14_reg4_dinov2", 28)]


@pytest.mark.parametrize("name, size", NETWORKS)
def test_shapes_and_counts_are_those_of_networks_with_numbers(name: str, size: int) -> None:
    with on_meta_device():
        without = build_network(ModelConfig(name=name), image_size=size, num_classes=3)
    usual = build_network(ModelConfig(name=name), image_size=size, num_classes=3)
    shapes = {key: (value.shape, value.dtype) for key, value in usual.state_dict().items()}
    assert {key: (value.shape, value.dtype) for key, value in without.state_dict().items()} == shapes
    assert all(parameter.is_meta and parameter.requires_grad for parameter in without.parameters())
    assert measure(without, size) == measure(usual, size)


def test_tensors_of_other_devices_are_computed() -> None:
    with on_meta_device():
        values = torch.zeros(3, device="cpu").add_(2).mul_(3)
        assert torch.ones(3).add_(1).is_meta
    assert values.tolist() == [6, 6, 6]


def test_numbers_are_set_again_afterwards() -> None:
    with on_meta_device():
        pass
    assert torch.empty(2).fill_(5).tolist() == [5, 5]
