"""The attention kernel equals attention. Skipped if the kernel cannot be built or the processor does not support it."""

import pytest
import torch
from conftest import with_threads
from timm.layers.attention import Attention
from torch import Tensor, nn

from common.models.kernels.attention import KernelAttention, _attention, as_kernel_attention
from common.models.replacement import replace_modules

pytestmark = pytest.mark.usefixtures("kernels")


def reference(qkv: Tensor, heads: int, scale: float) -> Tensor:
    """Return softmax(q k^T * scale) v, from the formula."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return ((q @ k.transpose(-2, -1) * scale).softmax(-1) @ v).transpose(1, 2).flatten(2)


def draw(images: int, tokens: int, heads: int, width: int) -> Tensor:
    return torch.randn((images, tokens, 3 * heads * width), generator=torch.Generator().manual_seed(0)).bfloat16()


@pytest.mark.parametrize(
    ("tokens", "heads", "width"),
    [(1, 1, 32), (16, 2, 32), (17, 3, 64), (65, 3, 64), (128, 1, 64), (129, 2, 96), (300, 1, 32)],
)
def test_results_and_gradients_equal_the_formula(tokens: int, heads: int, width: int) -> None:
    qkv = draw(2, tokens, heads, width).requires_grad_()
    exact = qkv.detach().double().requires_grad_()
    grad_output = torch.randn((2, tokens, heads * width), generator=torch.Generator().manual_seed(1)).bfloat16()
    result, _ = _attention(qkv, heads, 0.2)
    expected = reference(exact, heads, 0.2)
    result.backward(grad_output)
    expected.backward(grad_output.double())
    # bf16 has 8 bits: half a unit in the last place of the largest value, and the same again for rounding the probabilities.
    assert (result - expected).abs().max() <= 2**-8 * expected.abs().max()
    assert (qkv.grad - exact.grad).abs().max() <= 2**-7 * exact.grad.abs().max()


def test_normalizers_are_the_logsumexp_of_the_scores() -> None:
    qkv = draw(2, 20, 2, 32)
    q, k, _ = qkv.double().unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    _, lse = _attention(qkv, 2, 0.5)
    torch.testing.assert_close(lse.double(), (q @ k.transpose(-2, -1) * 0.5).logsumexp(-1), atol=2e-5, rtol=1e-5)


def test_large_scores_give_finite_results() -> None:
    qkv = (draw(1, 33, 1, 32) * 100).requires_grad_()
    result, _ = _attention(qkv, 1, 1.0)
    result.sum().backward()
    assert result.isfinite().all() and qkv.grad.isfinite().all()
    assert (result - reference(qkv.detach().double(), 1, 1.0)).abs().max() <= 2**-8 * result.abs().max()


def test_non_finite_value_affects_only_its_image() -> None:
    qkv = draw(2, 20, 1, 32)
    qkv[0, 3, 0] = float("nan")
    qkv.requires_grad_()
    result, _ = _attention(qkv, 1, 1.0)
    result.sum().backward()
    assert result[0, 3].isnan().all() and result[1].isfinite().all()
    assert qkv.grad[0].isnan().any() and qkv.grad[1].isfinite().all()


def test_number_of_threads_does_not_change_the_result() -> None:
    def compute() -> tuple[Tensor, Tensor]:
        qkv = draw(3, 65, 3, 32).requires_grad_()
        result, _ = _attention(qkv, 3, 0.2)
        result.square().sum().backward()
        return result, qkv.grad

    one, two = (with_threads(count, compute) for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


def build(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"attn": Attention(64, num_heads=2, qkv_bias=True, **options)})


def test_replacement_keeps_names_and_parameters() -> None:
    network, tokens = build(), torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    names, parameters, expected = list(network.state_dict()), list(network.parameters()), network["attn"](tokens)
    replace_modules(network, as_kernel_attention)
    assert isinstance(network["attn"], KernelAttention) and list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters))
    torch.testing.assert_close(network["attn"](tokens), expected)  # fp32: PyTorch's implementation
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network["attn"](tokens).float(), expected, atol=0.02, rtol=0.02)


def test_attention_masks_are_supported() -> None:
    network, tokens = build(), torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(9, 9).fill_diagonal_(float("-inf"))
    expected = network["attn"](tokens, mask), network["attn"](tokens, is_causal=True)
    replace_modules(network, as_kernel_attention)
    torch.testing.assert_close((network["attn"](tokens, mask), network["attn"](tokens, is_causal=True)), expected)


@pytest.mark.parametrize(
    "options",
    [{"qk_norm": True, "norm_layer": nn.LayerNorm}, {"attn_drop": 0.1}, {"gated": True}, {"attn_head_dim": 16}],
)
def test_unsupported_attention_is_not_replaced(options: dict[str, object]) -> None:
    assert as_kernel_attention(build(**options)["attn"]) is None
