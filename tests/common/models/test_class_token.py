"""The last block for the class token alone: output, gradients and draws of the complete block, and fewer MACs, in closed form."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import last_weights, read_losses
from torch import Tensor, nn

from common.errors import UserError
from common.models.class_token import use_class_token_only
from common.models.complexity import measure
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig, build_network


def build(name: str, size: int, *, lora: LoraConfig | None = None, **arguments: Any) -> nn.Module:
    """Return a network in double precision, with weights and LayerScale that are far from their initial values."""
    torch.manual_seed(0)
    multi_crop = arguments.pop("multi_crop", False)
    network = build_network(
        ModelConfig(name=name, **arguments), image_size=size, num_classes=0 if multi_crop else 7, multi_crop=multi_crop
    )
    if lora is not None:
        adapt_network(network, FreezeConfig(), lora)
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) * 0.2
    return network.double()


def step(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return the output and all gradients of a step in training mode."""
    torch.manual_seed(1)
    output = network.train()(images)
    output.pow(2).sum().backward()
    gradients = {name: each.grad for name, each in network.named_parameters() if each.grad is not None}
    return {"output": output, **gradients}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("name", "size", "arguments"),
    [
        ("vit_mini", 16, {"stem": "conv", "drop_path": 0.5}),
        ("vit_mini", 16, {"multi_crop": True}),
        ("vit_p_mini", 16, {"ffn": "mlp_relu"}),
        ("vit_mini", 16, {"ffn": "no_norm"}),
        ("vit_mini", 16, {"ffn": "conv1d"}),
        ("vit_mini", 16, {"lora": LoraConfig(rank=2)}),
        ("vit_small_patch14_reg4_dinov2", 28, {}),
    ],
    ids=str,
)
def test_output_and_gradients_are_those_of_the_complete_block(
    name: str, size: int, arguments: dict[str, Any], fused: bool
) -> None:
    complete = build(name, size, **arguments)
    for module in complete.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = fused  # type: ignore[assignment]
    alone = copy.deepcopy(complete)
    use_class_token_only(alone)
    assert list(alone.state_dict()) == list(complete.state_dict())
    images = torch.randn(3, 3, size // 2 if arguments.get("multi_crop") else size, size, dtype=torch.float64)
    expected, found = step(complete, images), step(alone, images)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-9, atol=1e-9 * float(tensor.detach().abs().max()))


@pytest.mark.parametrize("lora", [None, LoraConfig(rank=2)])
def test_what_it_saves_in_closed_form(lora: LoraConfig | None) -> None:
    tokens, width = 17, 64
    with torch.device("meta"):
        network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=10)
    adapt_network(network, FreezeConfig(), lora or LoraConfig())
    complete = measure(network, 16)
    use_class_token_only(network)
    alone = measure(network, 16)
    linear = 9 * (tokens - 1) * width**2 if lora else 10 * (tokens - 1) * width**2
    saved = linear + 2 * tokens * (tokens - 1) * width
    if lora is None:
        assert complete.macs - alone.macs == saved
        assert alone.backward_macs == 2 * alone.macs
    else:  # queries of all tokens are computed, and some products of low rank are not
        assert saved <= complete.macs - alone.macs < 1.1 * saved
    assert alone.parameters == complete.parameters


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"name": "vit_mini", "ffn": "conv1d_bn"}, "the feed-forward block Conv1dMlp mixes tokens"),
        (
            {"name": "vit_tiny_patch16_224", "kwargs": ("proj_drop_rate=0.1",), "stem": None},
            "its last block has dropout",
        ),
        ({"name": "volo_mini"}, "is not a vision transformer of timm's kind"),
        ({"name": "regnety_mini"}, "is not a vision transformer of timm's kind"),
        ({"name": "vit_small_patch16_dinov3"}, "is not a vision transformer of timm's kind"),
        ({"name": "vit_base_patch16_siglip_224"}, "does not pool its class token"),
    ],
)
def test_networks_that_need_other_tokens_are_refused(model: dict[str, Any], words: str) -> None:
    with torch.device("meta"):
        network = build_network(ModelConfig(**model), image_size=32, num_classes=0)
    with pytest.raises(UserError, match=f"train.class_token_only = true: .*{words}.*Set it to false"):
        use_class_token_only(network)


def test_re_identification_computes_its_backbone_so(stage: Callable[..., int], tmp_path: Path) -> None:
    words = ("objective=reid", "data.source=digits_identities", "data.images_per_class=4", "train.epochs=1")
    for value in ("true", "false"):
        assert stage("finetune", tmp_path / value, *words, f"train.class_token_only={value}") == 0
    assert read_losses(tmp_path / "true") == pytest.approx(read_losses(tmp_path / "false"), rel=1e-3)


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_run_is_the_same_up_to_rounding(stage: Callable[..., int], tmp_path: Path, name: str) -> None:
    words = ("model.drop_path=0.2", "model.stem=conv")
    for value in ("true", "false"):
        assert stage(name, tmp_path / value, *words, f"train.class_token_only={value}") == 0
    assert read_losses(tmp_path / "true") == pytest.approx(read_losses(tmp_path / "false"), rel=1e-3)
    weights = {value: last_weights(tmp_path / value) for value in ("true", "false")}
    assert weights["true"].keys() == weights["false"].keys()
