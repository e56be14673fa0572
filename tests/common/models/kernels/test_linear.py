"""Linear layers whose weight gradient is computed by the kernel equal the formula for all shapes; others use PyTorch."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from conftest import with_threads
from torch import Tensor

from common.models.kernels.linear import _weight_gradient, linear

pytestmark = pytest.mark.usefixtures("kernels")


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("tokens", [1, 31, 33, 512, 513, 1100])
@pytest.mark.parametrize("sides", [(16, 16), (48, 32), (32, 208), (192, 192)])
def test_weight_gradient_equals_the_formula(tokens: int, sides: tuple[int, int]) -> None:
    grad_output, inputs = draw(tokens, sides[0]).bfloat16(), draw(tokens, sides[1], seed=1).bfloat16()
    expected = grad_output.double().T @ inputs.double()
    gradient = _weight_gradient(grad_output, inputs)
    assert gradient.shape == sides and gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), expected, rtol=2**-8, atol=1e-4)  # bf16 has 8 bits


@pytest.mark.parametrize("sides", [(16, 16), (48, 80), (96, 32)])
def test_number_of_threads_does_not_change_the_result(sides: tuple[int, int]) -> None:
    grad_output, inputs = draw(700, sides[0]).bfloat16(), draw(700, sides[1], seed=1).bfloat16()
    results = [with_threads(count, lambda: _weight_gradient(grad_output, inputs)) for count in (1, 2, 3, 4, 7)]
    assert all(torch.equal(results[0], result) for result in results)


Layer = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def run(layer: Layer, shape: tuple[int, ...], sides: tuple[int, int], *, bias: bool = True) -> list[Tensor]:
    """Return the result of a layer with fp32 parameters, and its gradients."""
    tokens, weight = draw(*shape).requires_grad_(), draw(*sides, seed=1).requires_grad_()
    leaves = [tokens, weight, *([draw(sides[0], seed=2).requires_grad_()] if bias else [])]
    result = layer(tokens, weight, leaves[2] if bias else None)
    (result.float() * draw(*result.shape, seed=3)).sum().backward()
    return [result, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 9, 32), (40, 32)])
def test_under_autocast_only_the_weight_gradient_differs(shape: tuple[int, ...], bias: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        results, references = (run(layer, shape, (48, 32), bias=bias) for layer in (linear, F.linear))
    for name, result, reference in zip(("result", "tokens", "weight", "bias"), results, references):
        if name == "weight":
            torch.testing.assert_close(result, reference, rtol=2**-7, atol=1e-4)  # each is rounded to bf16
        else:
            assert torch.equal(result, reference), name


@pytest.mark.parametrize("sides", [(24, 32), (32, 40)])
def test_other_widths_use_pytorch(sides: tuple[int, int]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        results, references = (run(layer, (5, sides[1]), sides) for layer in (linear, F.linear))
    assert all(torch.equal(result, reference) for result, reference in zip(results, references, strict=True))


def test_fp32_uses_pytorch() -> None:
    results, references = (run(layer, (5, 32), (48, 32)) for layer in (linear, F.linear))
    assert all(torch.equal(result, reference) for result, reference in zip(results, references, strict=True))


def test_frozen_parameters_get_no_gradient() -> None:
    tokens, weight, bias = draw(5, 32).requires_grad_(), draw(48, 32, seed=1), draw(48, seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        linear(tokens, weight, bias).sum().backward()
    assert tokens.grad is not None and weight.grad is None and bias.grad is None
