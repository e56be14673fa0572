"""Freezing: which parameters are trained, batch norm in frozen parts, and LoRA in the remaining blocks."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.models.freezing import FreezeConfig, adapt_network, adaptation_problems, freeze_statistics
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig, Network, build_network
from common.models.sync_batchnorm import synchronize_batch_norm
from common.training.optimizers import OptimConfig, build_optimizer, parameter_groups


def build(name: str = "vit_mini", *, num_classes: int = 5, **model: Any) -> Network:
    torch.manual_seed(0)
    return build_network(ModelConfig(name=name, drop_path=0.0, **model), image_size=16, num_classes=num_classes)


def trained(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def adapted(name: str = "vit_mini", lora: LoraConfig | None = None, **freeze: Any) -> Network:
    network = build(name, stem=None if name == "regnety_mini" else "conv")
    adapt_network(network, FreezeConfig(**freeze), lora or LoraConfig())
    return network


def test_without_the_keys_everything_is_trained() -> None:
    network = adapted()
    assert trained(network) == {name for name, _ in network.named_parameters()}


def test_embeddings_are_stem_position_embedding_and_class_token() -> None:
    network = adapted(embeddings=True)
    frozen = {name for name, _ in network.named_parameters()} - trained(network)
    assert frozen == {"cls_token", "pos_embed"} | {
        f"patch_embed.{name}" for name, _ in network.patch_embed.named_parameters()
    }


def test_the_first_blocks_are_frozen_and_the_final_norm_with_the_last_one() -> None:
    for blocks, ends in ((2, {"blocks.0", "blocks.1"}), (4, {f"blocks.{n}" for n in range(4)} | {"norm"})):
        network = adapted(blocks=blocks)
        frozen = {name for name, _ in network.named_parameters()} - trained(network)
        assert {re.match(r"blocks\.\d+|[a-z_]+", name)[0] for name in frozen} == ends  # type: ignore[index]


def test_of_all_but_norms_the_norms_and_the_classifier_are_trained() -> None:
    for name in ("vit_mini", "regnety_mini"):
        network = adapted(name, all_but_norms=True)
        kinds = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
        norms = {
            f"{prefix}.{name}"
            for prefix, module in network.named_modules()
            if isinstance(module, kinds)
            for name, _ in module.named_parameters()
        }
        head = {name for name, _ in network.named_parameters() if name.startswith("head.")}
        assert len(head) == 2 and trained(network) == norms | head


@pytest.mark.parametrize("name", ["volo_mini", "regnety_mini"])
def test_blocks_of_other_networks_are_counted_as_for_layer_decay(name: str) -> None:
    network, full = adapted(name, blocks=1), rates(adapted(name))
    second_lowest = sorted(set(full.values()))[1]
    frozen = {name for name, _ in network.named_parameters()} - trained(network)
    assert frozen == {name for name, rate in full.items() if rate == second_lowest}


def test_frozen_parameters_have_no_gradient_and_no_optimizer_state() -> None:
    network = adapted(embeddings=True, blocks=3)
    optimizer = build_optimizer(OptimConfig(layer_decay=0.5), network)
    network(torch.randn(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(parameter)] for parameter in optimizer.state} == trained(network)
    assert {name for name, parameter in network.named_parameters() if parameter.grad is not None} == trained(network)


def rates(network: nn.Module) -> dict[str, float]:
    """Return the factor on the learning rate of each trained parameter."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    groups = parameter_groups(network, layer_decay=0.5, decay_embeddings=True)
    return {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}  # type: ignore[attr-defined, misc]


def test_frozen_parts_do_not_change_the_rates_of_layer_decay() -> None:
    part = adapted(embeddings=True, blocks=2)
    assert rates(part) == {name: rate for name, rate in rates(adapted()).items() if name in trained(part)}


@pytest.mark.parametrize("name", ["vit_mini", "regnety_mini"])
def test_frozen_batch_norm_keeps_its_statistics_in_the_network_and_its_copies(name: str) -> None:
    network = synchronize_batch_norm(adapted(name, embeddings=True), device_type="cpu")
    teacher = copy.deepcopy(network).requires_grad_(False)
    freeze_statistics(network, teacher)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    images = torch.randn(4, 3, 16, 16)
    for each in (network, teacher, copy.deepcopy(network)):
        each.eval()
        each.train()  # as after an evaluation
        each(images)
        stem = each.patch_embed if name == "vit_mini" else each.stem
        for key, value in stem.state_dict().items():
            prefix = "patch_embed" if name == "vit_mini" else "stem"
            assert torch.equal(value, before[f"{prefix}.{key}"])
    if name == "regnety_mini":
        assert not torch.equal(network.s1.b1.conv1.bn.running_mean, before["s1.b1.conv1.bn.running_mean"])


def test_trained_batch_norm_still_uses_its_batch() -> None:
    network = adapted(all_but_norms=True)
    freeze_statistics(network)
    before = network.patch_embed.conv[1].running_mean.clone()
    network(torch.randn(4, 3, 16, 16))
    assert not torch.equal(network.patch_embed.conv[1].running_mean, before)


def test_lora_freezes_the_network_and_updates_the_blocks_that_are_not_frozen() -> None:
    network = adapted(lora=LoraConfig(rank=2), blocks=3)
    assert trained(network) == {"head.weight", "head.bias"} | {
        f"blocks.3.attn.{layer}.lora_{kind}" for layer in ("qkv", "proj") for kind in "AB"
    }


@pytest.mark.parametrize(
    ("name", "lora", "freeze", "message"),
    [
        ("vit_mini", {}, {"blocks": 5}, "freeze.blocks = 5: this network has 4 blocks. Set at most 4."),
        ("regnety_mini", {}, {"blocks": 9}, "freeze.blocks = 9: this network has 7 blocks. Set at most 7."),
        ("vit_mini", {"rank": 2, "targets": ("query",)}, {}, "lora.targets: query is not the name of a linear layer in the"),
        ("vit_mini", {"rank": 2, "targets": ("query",)}, {}, "there are fc1, fc2, proj, qkv. Set those."),
        ("vit_mini", {"rank": 2}, {"blocks": 4}, "there are none. Remove lora."),
        ("regnety_mini", {"rank": 2}, {}, "lora.targets: qkv is not the name of a linear layer in the"),
    ],
)  # fmt: skip
def test_what_the_network_does_not_have_is_reported(
    name: str, lora: dict[str, Any], freeze: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        adapted(name, LoraConfig(**lora), **freeze)


@pytest.mark.parametrize(("key", "value"), [("blocks", 1), ("embeddings", True)])
def test_a_network_without_blocks_is_reported(key: str, value: Any) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(UserError, match=rf"freeze.{key}: this network has no blocks. Remove the key."):
        adapt_network(network, FreezeConfig(**{key: value}), LoraConfig())


@pytest.mark.parametrize("key", ["embeddings", "all_but_norms"])
def test_keys_without_effect_beside_lora_are_reported(key: str) -> None:
    problems = dict(adaptation_problems(FreezeConfig(**{key: True}), LoraConfig(rank=2)))
    assert problems.keys() == {f"freeze.{key}"} and "has no effect with lora.rank" in problems[f"freeze.{key}"]
    assert not dict(adaptation_problems(FreezeConfig(**{key: True}), LoraConfig()))
