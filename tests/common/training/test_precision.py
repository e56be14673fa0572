"""Tests that attention kernels and activation checkpointing do not change a step, and that unavailable options are reported."""

from collections.abc import Iterator

import pytest
import torch
from conftest import problems_of
from timm.layers import set_reentrant_ckpt
from torch import nn

from common.errors import UserError
from common.evaluation.features import evaluation_mode
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig
from common.models.networks import ModelConfig, build_network
from common.training.config import TrainConfig
from common.training.precision import (
    configure_execution,
    disable_fused_attention,
    enable_grad_checkpointing,
)

CPU = torch.device("cpu")


def network(name: str = "vit_mini", **options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_network(ModelConfig(name=name, **options), image_size=16, num_classes=10)


def gradients(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradients of a loss whose drop path draws from seed 1."""
    torch.manual_seed(1)
    model.zero_grad()
    model(images).square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("name", ["vit_mini", "volo_mini"])
def test_unfused_attention_matches_fused_attention(name: str) -> None:
    model, images = network(name), torch.randn(6, 3, 16, 16)
    fused = gradients(model, images)
    disable_fused_attention(model)
    assert not any(getattr(module, "fused_attn", False) for module in model.modules())
    for parameter, gradient in gradients(model, images).items():
        assert torch.allclose(gradient, fused[parameter], atol=1e-5, rtol=1e-3), parameter


@pytest.mark.parametrize(("precision", "fused"), [("fp32", True), ("bf16", False)])
def test_attention_is_unfused_only_in_bf16_on_a_cpu(precision: str, fused: bool) -> None:
    model = network()
    configure_execution(model, TrainConfig(precision=precision), CPU)
    assert {block.attn.fused_attn for block in model.blocks} == {fused}
    model = network()
    configure_execution(model, TrainConfig(precision=precision), torch.device("cuda"))
    assert {block.attn.fused_attn for block in model.blocks} == {True}


@pytest.fixture
def reentrant() -> Iterator[None]:
    """Let timm use PyTorch's reentrant checkpointing, as with TIMM_REENTRANT_CKPT=1."""
    set_reentrant_ckpt(True)
    yield
    set_reentrant_ckpt(False)


@pytest.mark.usefixtures("reentrant")
def test_grad_checkpointing_of_blocks_on_frozen_embeddings_keeps_their_gradients() -> None:
    model = network()
    adapt_network(model, FreezeConfig(embeddings=True), LoraConfig())
    configure_execution(model, TrainConfig(grad_checkpointing=True), CPU)
    found = gradients(model, torch.randn(2, 3, 16, 16))
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert "blocks.0.attn.qkv.weight" in trained
    assert {name for name, gradient in found.items() if gradient is not None} == trained


@pytest.mark.parametrize("stem", ["patchify", "conv"])
def test_grad_checkpointing_does_not_change_gradients_and_statistics(stem: str) -> None:
    stored, recomputed, images = (
        network(stem=stem, drop_path=0.5),
        network(stem=stem, drop_path=0.5),
        torch.randn(6, 3, 16, 16),
    )
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    configure_execution(recomputed, TrainConfig(grad_checkpointing=True), CPU)
    recomputed.blocks[0].register_forward_pre_hook(count)
    expected, actual = gradients(stored, images), gradients(recomputed, images)
    assert calls == 2
    assert [name for name in expected if not torch.equal(expected[name], actual[name])] == []
    state = recomputed.state_dict()
    assert [name for name, tensor in stored.state_dict().items() if not torch.equal(tensor, state[name])] == []


@pytest.mark.parametrize("model", [("regnety_mini", {}), ("vit_mini", {"ffn": "conv1d_bn"})])
def test_grad_checkpointing_of_blocks_with_batch_norm_is_rejected(model: tuple[str, dict[str, str]]) -> None:
    message = r"train\.grad_checkpointing = true: .* has batch norms .* Set train\.grad_checkpointing=false"
    with pytest.raises(UserError, match=message):
        enable_grad_checkpointing(network(model[0], **model[1]))


def test_a_compiled_network_is_evaluated_eagerly() -> None:
    model = network()
    model.compile(backend=lambda graph, inputs: pytest.fail("compiled in an evaluation"))
    with evaluation_mode(model), torch.no_grad():
        assert model(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_stems_are_laid_out_for_the_device() -> None:
    for device in (CPU, torch.device("cuda")):
        model = network(stem="conv")
        configure_execution(model, TrainConfig(), device)
        assert model.patch_embed.for_gpu is (device != CPU)


def test_kernels_are_rejected_where_they_are_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    train = TrainConfig(kernels=True, precision="bf16")
    monkeypatch.setattr("common.training.precision.check_compiler", lambda key: None)
    monkeypatch.setattr("common.training.precision.kernels_available", lambda: False)
    for device in (CPU, torch.device("cuda")):
        with pytest.raises(UserError, match=r"train\.kernels = true: .* Set train\.kernels=false"):
            configure_execution(network(), train, device)


def test_kernels_require_bf16() -> None:
    assert problems_of(TrainConfig, kernels=True).keys() == {"kernels"}
    assert not problems_of(TrainConfig, kernels=True, precision="bf16")
