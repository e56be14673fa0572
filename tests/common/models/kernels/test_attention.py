"""Attention by the kernel is attention. Left out where it cannot be built, or the processor has not what it takes."""

import pytest
import torch
from conftest import with_threads
from timm.layers.attention import Attention
from torch import Tensor, nn

from common.models.kernels.attention import KernelAttention, _attention, as_kernel_attention
from common.models.replacement import replace_modules

pytestmark = pytest.mark.usefixtures("kernels")


def plain(qkv: Tensor, heads: int, scale: float) -> Tensor:
    """softmax(q k^T * scale) v, from the formula."""
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return ((q @ k.transpose(-2, -1) * scale).softmax(-1) @ v).transpose(1, 2).flatten(2)


def draw(images: int, tokens: int, heads: int, width: int) -> Tensor:
    return torch.randn((images, tokens, 3 * heads * width), generator=torch.Generator().manual_seed(0)).bfloat16()


@pytest.mark.parametrize(
    ("tokens", "heads", "width"),
    [(1, 1, 32), (16, 2, 32), (17, 3, 64), (65, 3, 64), (128, 1, 64), (129, 2, 96), (300, 1, 32)],
)
def test_results_and_gradients_are_those_of_the_formula(tokens: int, heads: int, width: int) -> None:
    qkv = draw(2, tokens, heads, width).requires_grad_()
    exact = qkv.detach().double().requires_grad_()
    of_result = torch.randn((2, tokens, heads * width), generator=torch.Generator().manual_seed(1)).bfloat16()
    result, _ = _attention(qkv, heads, 0.2)
    expected = plain(exact, heads, 0.2)
    result.backward(of_result)
    expected.backward(of_result.double())
    # A bf16 has 8 bits: half a unit in the last place of the largest value, and as much once more for the probabilities' rounding.
    assert (result - expected).abs().max() <= 2**-8 * expected.abs().max()
    assert (qkv.grad - exact.grad).abs().max() <= 2**-7 * exact.grad.abs().max()


def test_normalisers_are_the_logarithms_of_the_sums() -> None:
    qkv = draw(2, 20, 2, 32)
    q, k, _ = qkv.double().unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
    _, lse = _attention(qkv, 2, 0.5)
    torch.testing.assert_close(lse.double(), (q @ k.transpose(-2, -1) * 0.5).logsumexp(-1), atol=2e-5, rtol=1e-5)


def test_scores_of_any_size_stay_finite() -> None:
    qkv = (draw(1, 33, 1, 32) * 100).requires_grad_()
    result, _ = _attention(qkv, 1, 1.0)
    result.sum().backward()
    assert result.isfinite().all() and qkv.grad.isfinite().all()
    assert (result - plain(qkv.detach().double(), 1, 1.0)).abs().max() <= 2**-8 * result.abs().max()


def test_a_value_that_is_not_finite_shows_in_its_image_alone() -> None:
    qkv = draw(2, 20, 1, 32)
    qkv[0, 3, 0] = float("nan")
    qkv.requires_grad_()
    result, _ = _attention(qkv, 1, 1.0)
    result.sum().backward()
    assert result[0, 3].isnan().all() and result[1].isfinite().all()
    assert qkv.grad[0].isnan().any() and qkv.grad[1].isfinite().all()


def test_the_number_of_threads_changes_nothing() -> None:
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


def test_it_takes_the_place_of_attention_and_keeps_names_and_parameters() -> None:
    network, tokens = build(), torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    names, parameters, expected = list(network.state_dict()), list(network.parameters()), network["attn"](tokens)
    replace_modules(network, as_kernel_attention)
    assert isinstance(network["attn"], KernelAttention) and list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters))
    torch.testing.assert_close(network["attn"](tokens), expected)  # fp32: PyTorch's own
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network["attn"](tokens).float(), expected, atol=0.02, rtol=0.02)


def test_masks_are_kept() -> None:
    network, tokens = build(), torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(9, 9).fill_diagonal_(float("-inf"))
    expected = network["attn"](tokens, mask), network["attn"](tokens, is_causal=True)
    replace_modules(network, as_kernel_attention)
    torch.testing.assert_close((network["attn"](tokens, mask), network["attn"](tokens, is_causal=True)), expected)


@pytest.mark.parametrize(
    "options",
    [{"qk_norm": True, "norm_layer": nn.LayerNorm}, {"attn_drop": 0.1}, {"gated": True}, {"attn_head_dim": 16}],
)
def test_attention_of_another_kind_stays(options: dict[str, object]) -> None:
    assert as_kernel_attention(build(**options)["attn"]) is None
