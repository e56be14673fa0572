"""Counts must equal the closed forms and the published values of both papers."""

from typing import Any

import pytest
import torch
from torch import nn

from common.models import __main__ as table
from common.models.complexity import Complexity, measure
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.networks import ARCHITECTURES, ModelConfig, build_network


def _closed_form(width: int, depth: int, heads: int, patch: int, side: int, classes: int) -> tuple[int, int, int]:
    """Return (parameters, MACs, activations) of a standard vision transformer with MLP ratio 4 in closed form."""
    patches = (side // patch) ** 2
    tokens, pixels = patches + 1, 3 * patch**2
    block = 12 * width**2 + 13 * width
    parameters = (pixels + 1) * width + (tokens + 1) * width + depth * block + 2 * width + (width + 1) * classes
    per_block = 12 * tokens * width**2 + 2 * tokens**2 * width
    macs = patches * pixels * width + depth * per_block + width * classes
    activations = patches * width + depth * (10 * tokens * width + heads * tokens**2) + classes
    return parameters, macs, activations


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_counts_equal_the_closed_form(device: str) -> None:
    with torch.device(device):
        model = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=10)
    cost = measure(model, 16)
    expected = _closed_form(width=64, depth=4, heads=2, patch=4, side=16, classes=10)
    assert (cost.parameters, cost.macs, cost.activations) == expected


def test_convolutions_are_counted() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    cost = measure(layers, (8, 12))
    assert (cost.parameters, cost.activations, cost.macs) == (216 + 16, 8 * 4 * 6, 8 * 4 * 6 * 27)


def test_one_dimensional_convolutions_are_counted() -> None:
    """With kernel size 1 they have the complexity of linear layers."""
    linear, convolutions = (
        measure(build_network(ModelConfig(name="vit_mini", ffn=design), image_size=16, num_classes=3), 16)
        for design in ("mlp", "conv1d")
    )
    assert linear == convolutions


def test_volo_counts_equal_the_closed_form() -> None:
    with torch.device("meta"):
        model = build_network(ModelConfig(name="volo_mini", stem="patchify"), image_size=16, num_classes=10)
    cost = measure(model, 16)
    patches, pooled = 8 * 8, 4 * 4
    outlook = 2 * patches * 32 * 32 + pooled * (32 * 81 + 81 * 32) + 6 * patches * 32 * 32
    transformer = 10 * pooled * 64 * 64 + 2 * pooled**2 * 64
    class_attention = 2 * (pooled + 1) * 64 * 64 + 8 * 64 * 64 + 2 * (pooled + 1) * 64
    rest = patches * 12 * 32 + pooled * 4 * 32 * 64 + (1 + pooled) * 64 * 10
    assert cost.macs == 2 * (outlook + transformer + class_attention) + rest
    outlook = 6 * patches * 32 + pooled * (81 + 9 * 32)
    transformer = 8 * pooled * 64 + 2 * pooled**2 + pooled * 64
    class_attention = 2 * (pooled + 1) * 64 + 6 * 64 + 2 * (pooled + 1) + 64
    rest = patches * 32 + pooled * 64 + (1 + pooled) * 10
    assert cost.activations == 2 * (outlook + transformer + class_attention) + rest


@pytest.mark.parametrize(
    ("name", "published"),
    [("volo_d1", (26.6, 6.9, 24.4)), ("regnety_4gf", (20.6, 4.0, 12.3)), ("regnety_16gf", (83.6, 15.9, 23.0))],
)
def test_complexity_equals_timms_published_values(name: str, published: tuple[float, float, float]) -> None:
    row = table.measure_row(ModelConfig(name=name), 224, []).cost
    counted = (row.parameters / 1e6, row.macs / 1e9, row.activations / 1e6)
    assert tuple(round(value, 1) for value in counted) == published


def test_measuring_leaves_the_network_unchanged() -> None:
    model = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=16, num_classes=3).train()
    model.blocks[1].eval()
    statistics = model.patch_embed.conv[1].running_mean.clone()
    measure(model, 16)
    assert model.training and not model.blocks[1].training and model.blocks[2].training
    assert torch.equal(model.patch_embed.conv[1].running_mean, statistics)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(("stem", "digits", "millions"), [("patchify", 2, 22.05), ("conv", 1, 23.4)])
def test_deit_small_has_the_published_number_of_parameters(stem: str, digits: int, millions: float) -> None:
    with torch.device("meta"):
        model = build_network(ModelConfig(name="deit_small", stem=stem), image_size=224, num_classes=1000)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, digits) == millions


@pytest.mark.long
def test_command_prints_every_network_and_finds_no_disagreement(capsys: pytest.CaptureFixture[str]) -> None:
    code = table.main([])
    output = capsys.readouterr().out
    assert code == 0 and "21 agree to the last digit, 15 differ as declared, 0 disagree" in output
    assert all(f"\n{name} " in output for name in ARCHITECTURES) and "167.796 = 167.8" in output


def test_undeclared_difference_from_a_published_value_is_found() -> None:
    config, size = ModelConfig(name="vit_mini"), 16
    row = table.measure_row(config, size, [{"name": "vit_mini", "activations": "0.0"}])
    assert row.status("activations") == table.AGREES and row.status("parameters") == ""
    wrong = {"name": "vit_mini", "activations": "0.3", "counted": {"activations": "0.1"}}
    assert table.measure_row(config, size, [wrong]).status("activations") == table.DISAGREES
    wrong["counted"] = {"activations": "0.0"}
    assert table.measure_row(config, size, [wrong]).status("activations") == table.DECLARED


def test_published_values_are_compared_at_their_stem_and_patch_size_only() -> None:
    published = [{"name": "vit_mini", "stem": "conv", "activations": "0.1"}]
    assert table.measure_row(ModelConfig(name="vit_mini", stem="conv"), 16, published).published
    assert not table.measure_row(ModelConfig(name="vit_mini"), 16, published).published
    assert not table.measure_row(ModelConfig(name="vit_mini", stem="conv", patch_size=2), 16, published).published


def backward_macs(name: str = "vit_mini", *, lora: LoraConfig | None = None, **freeze: Any) -> tuple[Complexity, int]:
    """Return the complexity of a partly frozen network of 16 tokens and 64 features, and the MACs of the network without LoRA."""
    with torch.device("meta"):
        plain, network = (build_network(ModelConfig(name=name), image_size=16, num_classes=10) for _ in range(2))
        adapt_network(network, FreezeConfig(**freeze), lora or LoraConfig())
    return measure(network, 16), measure(plain, 16).macs


@pytest.mark.parametrize("name", ["vit_mini", "volo_mini", "regnety_mini", "vit_c_mini"])
def test_backward_costs_twice_the_forward_pass_if_nothing_is_frozen(name: str) -> None:
    complexity, forward = backward_macs(name)
    assert complexity.backward_macs == 2 * forward == 2 * complexity.macs
    assert complexity.trained_parameters == complexity.parameters


TOKENS, WIDTH = 17, 64
STEM = 16 * WIDTH * 3 * 4 * 4
LINEAR = TOKENS * WIDTH * WIDTH  # of the output of the attention; queries, keys and values are 3, the MLP is 8
PRODUCTS = 2 * TOKENS * TOKENS * WIDTH
BLOCK = (1 + 3 + 8) * LINEAR + PRODUCTS
HEAD = WIDTH * 10


def test_the_forward_pass_by_hand() -> None:
    assert backward_macs()[1] == STEM + 4 * BLOCK + HEAD


def test_below_the_first_trained_block_there_is_no_backward_pass() -> None:
    complexity, forward = backward_macs(embeddings=True, blocks=3)
    assert complexity.macs == forward
    assert complexity.backward_macs == 2 * BLOCK + 2 * HEAD  # norm1 is trained: the input of qkv has a gradient


def test_frozen_blocks_above_trained_embeddings_have_no_weight_gradient() -> None:
    complexity, _ = backward_macs(blocks=4)
    assert complexity.backward_macs == 2 * STEM + 4 * (12 * LINEAR + 2 * PRODUCTS) + 2 * HEAD


def test_all_frozen_leaves_the_weight_gradient_of_the_classifier() -> None:
    assert backward_macs(embeddings=True, blocks=4)[0].backward_macs == HEAD


def test_of_all_but_norms_the_first_gradient_is_that_of_the_first_norm() -> None:
    complexity, _ = backward_macs(all_but_norms=True)
    assert complexity.backward_macs == 4 * (12 * LINEAR + 2 * PRODUCTS) + 2 * HEAD


def test_lora_costs_its_products_and_saves_the_weight_gradients() -> None:
    complexity, forward = backward_macs(lora=LoraConfig(rank=2, targets=("qkv",)), blocks=2)
    down, up = TOKENS * WIDTH * 2, TOKENS * 2 * 3 * WIDTH
    assert complexity.macs == forward + 2 * (down + up)
    first = down + 2 * up + 2 * PRODUCTS + (1 + 8) * LINEAR  # nothing before it is trained
    second = 2 * down + 2 * up + 2 * PRODUCTS + (3 + 1 + 8) * LINEAR
    assert complexity.backward_macs == first + second + 2 * HEAD
    assert complexity.trained_parameters == 2 * 2 * (WIDTH + 3 * WIDTH) + 65 * 10


def test_the_count_of_gradients_is_that_of_autograd() -> None:
    """Every counted gradient exists, and no other one: compared with the products that a backward pass computes."""
    from torch.utils.flop_counter import FlopCounterMode

    for lora, freeze in (
        (LoraConfig(), {}),
        (LoraConfig(), {"embeddings": True, "blocks": 2}),
        (LoraConfig(), {"blocks": 2}),
        (LoraConfig(), {"all_but_norms": True}),
        (LoraConfig(rank=2, targets=("qkv", "fc2")), {"blocks": 1}),
    ):
        network = build_network(ModelConfig(name="vit_mini", drop_path=0.0), image_size=16, num_classes=10)
        for module in network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = False
        adapt_network(network, FreezeConfig(**freeze), lora)
        loss = network(torch.randn(1, 3, 16, 16)).sum()
        with FlopCounterMode(display=False) as counter:
            loss.backward()
        image_gradient = STEM if network.patch_embed.proj.weight.requires_grad else 0
        assert measure(network, 16).backward_macs - image_gradient == counter.get_total_flops() / 2
