"""RegNetY equals timm's at any image size, except that the stem does not halve small images."""

import copy

import pytest
import timm
import torch

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.models.sync_batchnorm import synchronize_batch_norm
from common.training.optimizers import parameter_groups


@pytest.mark.parametrize(("name", "timm_name"), [("regnety_4gf", "regnety_040"), ("regnety_16gf", "regnety_160")])
def test_published_sizes_have_the_shapes_of_timms_networks(name: str, timm_name: str) -> None:
    with torch.device("meta"):
        own, published = timm.create_model(name), timm.create_model(timm_name)
    shapes = {key: tensor.shape for key, tensor in published.state_dict().items()}
    assert {key: tensor.shape for key, tensor in own.state_dict().items()} == shapes


def test_output_equals_timms_regnet() -> None:
    torch.manual_seed(0)
    own = build_network(ModelConfig(name="regnety_mini"), image_size=64, num_classes=7).eval()
    reference = timm.create_model("regnety_040", num_classes=7, **own.design).eval()
    reference.load_state_dict(own.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(own(images), reference(images), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "side"), [(12, 1), (16, 1), (32, 2), (63, 4), (64, 2), ((32, 128), (2, 8))])
def test_stem_does_not_halve_small_images(size: int | tuple[int, int], side: int | tuple[int, int]) -> None:
    model = build_network(ModelConfig(name="regnety_mini"), image_size=size, num_classes=3).eval()
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = (side, side) if isinstance(side, int) else side
    assert model.forward_features(torch.randn(1, 3, height, width)).shape == (1, 128, rows, columns)


def test_without_classes_the_pooled_features_are_returned() -> None:
    model = build_network(ModelConfig(name="regnety_mini"), image_size=32, num_classes=0, multi_crop=True).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), model.forward_features(images).mean((2, 3)))
    assert model(torch.randn(2, 3, 16, 16)).shape == (2, model.num_features) == (2, 128)


def test_every_parameter_gets_a_gradient_and_a_layer_decay() -> None:
    model = build_network(ModelConfig(name="regnety_mini"), image_size=16, num_classes=3)
    model(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) < 500_000
    groups = parameter_groups(model, layer_decay=0.5, decay_embeddings=False)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert len(scale) == len(list(model.parameters()))
    assert scale[id(model.head.fc.weight)] == 1.0
    assert scale[id(model.s4.b3.conv1.conv.weight)] == 0.5 and scale[id(model.stem.conv.weight)] == 0.5**8


def test_batch_without_variance_is_rejected() -> None:
    model = build_network(ModelConfig(name="regnety_mini"), image_size=16, num_classes=3)
    with pytest.raises(UserError, match=r"train\.batch_size: batch norm cannot train on 1 image"):
        model(torch.randn(1, 3, 16, 16))
    assert model(torch.randn(1, 3, 17, 16)).shape == model.eval()(torch.randn(1, 3, 16, 16)).shape == (1, 3)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_synchronized_norms_keep_their_activations(device_type: str) -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="regnety_mini", drop_path=0.0), image_size=16, num_classes=3)
    images = torch.randn(4, 3, 16, 16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    names = list(model.state_dict())
    synchronized = synchronize_batch_norm(copy.deepcopy(model), device_type=device_type)
    assert list(synchronized.state_dict()) == names
    if device_type == "cpu":
        torch.testing.assert_close(synchronized(images), model(images), rtol=0, atol=0)
    assert sum(isinstance(module, torch.nn.ReLU) for module in synchronized.modules()) == sum(
        isinstance(module, torch.nn.ReLU) for module in model.modules()
    )
    torch.testing.assert_close(synchronized.eval()(images), model.eval()(images))
