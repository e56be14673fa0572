"""Each design of table 5 equals its formula, with any stem, and trains."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, gelu, layer_norm, linear, relu

from common.models.feed_forward import FEED_FORWARDS, Conv1dMlp
from common.models.networks import ModelConfig, build_network

DEIT_CONV = 23_412_136
VOLO = 26_632_040
NORM, BN = 12 * 2 * 384, 12 * 2 * (1536 + 384)


def _block(design: str) -> Any:
    """Return the second block, with all parameters different from their initial values."""
    torch.manual_seed(0)
    network = build_network(ModelConfig(name="vit_mini", ffn=design, drop_path=0.0), image_size=16, num_classes=2)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.blocks[1]


def _feed_forward(block: Any, tokens: Tensor) -> Tensor:
    """Return the output of the block's feed-forward branch."""
    block.attn = nn.Identity()
    block.attn.forward = lambda values, **_: torch.zeros_like(values)
    return block(tokens) - tokens


def _norm(block: Any, tokens: Tensor) -> Tensor:
    return layer_norm(tokens, (64,), block.norm2.weight, block.norm2.bias, 1e-6)


@pytest.mark.parametrize("design", ["mlp", "no_norm", "mlp_relu"])
def test_design_with_linear_layers_equals_its_formula(design: str) -> None:
    block, tokens = _block(design), torch.randn(3, 5, 64)
    first, second = block.mlp.fc1, block.mlp.fc2
    before = tokens if design == "no_norm" else _norm(block, tokens)
    hidden = linear(before, first.weight, first.bias)
    hidden = relu(hidden) if design == "mlp_relu" else gelu(hidden)
    torch.testing.assert_close(_feed_forward(block, tokens), linear(hidden, second.weight, second.bias))


@pytest.mark.parametrize("design", ["conv1d_bn", "conv1d"])
def test_design_with_convolutions_equals_algorithm_2(design: str) -> None:
    block, tokens = _block(design), torch.randn(3, 5, 64)
    values = _norm(block, tokens).permute(0, 2, 1)
    for layer in (block.mlp.w1, block.mlp.w2):
        values = conv1d(values, layer[0].weight, layer[0].bias)
        if design == "conv1d_bn":
            mean = values.mean((0, 2), keepdim=True)
            variance = values.var((0, 2), unbiased=False, keepdim=True)
            values = (values - mean) / (variance + 1e-5).sqrt()
            values = values * layer[1].weight[:, None] + layer[1].bias[:, None]
        values = gelu(values)
    torch.testing.assert_close(_feed_forward(block, tokens), values.permute(0, 2, 1))


def test_token_grid_gives_the_same_result_as_flattened_tokens() -> None:
    design, grid = Conv1dMlp(8, 16, norm=True), torch.randn(2, 3, 4, 8)
    torch.testing.assert_close(design(grid), design(grid.flatten(1, 2)).unflatten(1, (3, 4)))


@pytest.mark.parametrize("name", ["vit_mini", "volo_mini"])
@pytest.mark.parametrize("design", FEED_FORWARDS)
def test_every_parameter_of_every_design_gets_a_gradient(name: str, design: str) -> None:
    model = build_network(ModelConfig(name=name, ffn=design, stem="conv"), image_size=16, num_classes=3)
    model(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_local_views_with_fewer_tokens_pass_the_batch_norm() -> None:
    model = build_network(ModelConfig(name="vit_mini", ffn="conv1d_bn"), image_size=16, num_classes=0, multi_crop=True)
    assert model(torch.randn(2, 3, 16, 16)).shape == model(torch.randn(2, 3, 8, 8)).shape == (2, 64)
    assert model.blocks[0].mlp.w1[1].num_batches_tracked == 2


@pytest.mark.parametrize(
    ("design", "deit", "volo"),
    [
        ("mlp", DEIT_CONV, VOLO),
        ("no_norm", DEIT_CONV - NORM, VOLO - 2 * (4 * 192 + 14 * 384)),
        ("mlp_relu", DEIT_CONV, VOLO),
        ("conv1d_bn", DEIT_CONV + BN, VOLO + 2 * (4 * (576 + 192) + 14 * (1152 + 384))),
        ("conv1d", DEIT_CONV, VOLO),
    ],
)
def test_number_of_parameters_of_each_design(design: str, deit: int, volo: int) -> None:
    for name, expected in (("deit_small", deit), ("volo_d1", volo)):
        with torch.device("meta"):
            model = build_network(ModelConfig(name=name, stem="conv", ffn=design), image_size=224, num_classes=1000)
        assert sum(parameter.numel() for parameter in model.parameters()) == expected


def test_convolutions_have_pytorchs_default_initialization() -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="vit_micro", ffn="conv1d"), image_size=32, num_classes=3)
    weight = model.blocks[0].mlp.w1[0].weight
    assert 0.95 < weight.abs().max().item() * 128**0.5 <= 1


def test_volos_class_attention_keeps_its_mlp() -> None:
    model = build_network(ModelConfig(name="volo_mini", ffn="conv1d_bn"), image_size=16, num_classes=3)
    designs = [isinstance(block.mlp, Conv1dMlp) for stage in (0, 2) for block in model.network[stage]]
    assert all(designs) and len(designs) == 4
    assert not any(isinstance(block.mlp, Conv1dMlp) for block in model.post_network)
