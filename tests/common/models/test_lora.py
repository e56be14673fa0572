"""LoRA: the update, its initial value, its merging, and the same outputs and gradients as PEFT's."""

import copy

import pytest
import timm
import torch
from torch import nn

from common.models.export import export_network
from common.models.freezing import FreezeConfig, adapt_network
from common.models.kernels.attention import KernelAttention, as_kernel_attention
from common.models.kernels.gelu import as_kernel_mlp
from common.models.lora import LoraConfig, LoraLinear, merge_tensors, merged
from common.models.networks import ModelConfig, Network, build_network
from common.models.replacement import replace_modules

CONFIG = LoraConfig(rank=3, alpha=6.0, targets=("qkv", "proj", "fc1", "fc2"))


def build(config: LoraConfig = CONFIG, *, trained: bool = True, num_classes: int = 5, **model: object) -> Network:
    """Return a network with LoRA, with updates as after training."""
    torch.manual_seed(0)
    network = build_network(
        ModelConfig(name="vit_mini", drop_path=0.0, **model), image_size=16, num_classes=num_classes
    )
    adapt_network(network, FreezeConfig(), config)
    for module in network.modules():
        if trained and isinstance(module, LoraLinear):
            nn.init.normal_(module.lora_B, std=0.1)
    return network.eval()


def test_the_output_is_that_of_the_layer_plus_the_scaled_update() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(4, 6)
    layer = LoraLinear(copy.deepcopy(plain), rank=2, alpha=8.0)
    nn.init.normal_(layer.lora_B)
    x = torch.randn(5, 4)
    expected = plain(x) + (8.0 / 2) * x @ layer.lora_A.T @ layer.lora_B.T
    torch.testing.assert_close(layer(x), expected)
    assert {name for name, p in layer.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_the_network_begins_as_it_was() -> None:
    torch.manual_seed(0)
    plain = build_network(ModelConfig(name="vit_mini", drop_path=0.0), image_size=16, num_classes=5).eval()
    network, images = build(trained=False), torch.randn(2, 3, 16, 16)
    assert torch.equal(network(images), plain(images))
    assert plain.state_dict().keys() <= network.state_dict().keys()


@pytest.mark.parametrize("stem", ["patchify", "conv"])
def test_merged_weights_give_the_same_logits_without_changing_the_network(stem: str) -> None:
    network, images = build(stem=stem), torch.randn(2, 3, 16, 16)
    before = copy.deepcopy(network.state_dict())
    plain = merged(network)
    assert not any(isinstance(module, LoraLinear) for module in plain.modules())
    torch.testing.assert_close(plain(images), network(images), rtol=0, atol=1e-5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    tensors = merge_tensors(network.state_dict())
    assert tensors.keys() == plain.state_dict().keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in plain.state_dict().items())


def test_without_updates_there_is_nothing_to_merge() -> None:
    network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=5)
    assert merged(network) is network
    tensors = network.state_dict()
    assert merge_tensors(tensors) == tensors


def export(network: Network, folder: object) -> None:
    export_network(
        network,
        folder,  # type: ignore[arg-type]
        model_name="vit_mini",
        class_names=list("abcde"),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        image_size=16,
        metrics={},
    )


def test_timm_reads_the_merged_export(tmp_path: object) -> None:
    network, images = build(), torch.randn(2, 3, 16, 16)
    export(network, tmp_path)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    torch.testing.assert_close(loaded(images), network(images), rtol=0, atol=1e-5)


def test_transformers_reads_the_merged_export(tmp_path: object) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is no dependency of this project")
    network, images = build(), torch.randn(2, 3, 16, 16)
    export(network, tmp_path)
    loaded = transformers.AutoModelForImageClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(pixel_values=images).logits, network(images), rtol=0, atol=1e-5)


def test_kernels_leave_layers_with_an_update_alone() -> None:
    """They read the weights of the layers, without the update."""
    plain = build_network(ModelConfig(name="vit_small"), image_size=32, num_classes=0)
    assert isinstance(as_kernel_attention(plain.blocks[0].attn), KernelAttention)
    assert as_kernel_mlp(plain.blocks[0].mlp) is not None
    for targets, kernel in (
        (("qkv",), as_kernel_attention),
        (("proj",), as_kernel_attention),
        (("fc2",), as_kernel_mlp),
    ):
        network = copy.deepcopy(plain)
        adapt_network(network, FreezeConfig(), LoraConfig(rank=2, targets=targets))
        replace_modules(network, kernel)
        assert sum(isinstance(module, LoraLinear) for module in network.modules()) == 12


@pytest.mark.parametrize("stem", ["patchify", "conv"])
def test_outputs_and_gradients_equal_those_of_peft(stem: str) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is no dependency of this project")
    network, images = build(stem=stem), torch.randn(2, 3, 16, 16)
    reference = merged(network)
    for name, module in network.named_modules():
        if isinstance(module, LoraLinear):
            reference.get_submodule(name).weight.data.copy_(module.weight)  # the frozen weights
    targets = [name for name, module in network.named_modules() if isinstance(module, LoraLinear)]
    config = peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets)
    reference = peft.inject_adapter_in_model(config, reference).eval()
    for name in targets:
        ours, theirs = network.get_submodule(name), reference.get_submodule(name)
        theirs.lora_A["default"].weight.data.copy_(ours.lora_A)
        theirs.lora_B["default"].weight.data.copy_(ours.lora_B)
    outputs = [each(images) for each in (network, reference)]
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for name in targets:
        ours, theirs = network.get_submodule(name), reference.get_submodule(name)
        torch.testing.assert_close(ours.lora_A.grad, theirs.lora_A["default"].weight.grad)
        torch.testing.assert_close(ours.lora_B.grad, theirs.lora_B["default"].weight.grad)
