"""The GELU and MLP kernels equal GELU and the MLP. Tests that need a custom kernel are skipped if it is not available."""

import pytest
import torch
from conftest import with_threads
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.functional import gelu

from common.models.kernels.gelu import KernelGELU, KernelMlp, _bias_gelu, as_kernel_gelu, as_kernel_mlp
from common.models.replacement import replace_modules


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernel_gelu_equals_gelu(dtype: torch.dtype) -> None:
    values = torch.randn(5, 7).to(dtype).requires_grad_()
    copied = values.detach().clone().requires_grad_()
    result, expected = KernelGELU()(values), nn.GELU()(copied)
    result.float().square().sum().backward()
    expected.float().square().sum().backward()
    assert torch.equal(result, expected) and torch.equal(values.grad, copied.grad)


def test_only_exact_gelus_are_replaced() -> None:
    model = nn.Sequential(nn.GELU(), nn.Sequential(nn.GELU(), nn.Linear(2, 2)), nn.GELU("tanh"), nn.ReLU())
    names = list(model.state_dict())
    replace_modules(model, as_kernel_gelu)
    assert [type(module) for module in model] == [KernelGELU, nn.Sequential, nn.GELU, nn.ReLU]
    assert isinstance(model[1][0], KernelGELU) and list(model.state_dict()) == names


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("shape", [(1, 16), (3, 5, 48), (257, 32), (2, 300, 16)])
def test_results_and_gradients_with_a_bias_equal_the_formula(shape: tuple[int, ...]) -> None:
    values, bias, grad_output = (
        (draw(*shape) * 3).bfloat16().requires_grad_(),
        draw(shape[-1], seed=1),
        draw(*shape).bfloat16(),
    )
    bias.requires_grad_()
    exact, exact_bias = (tensor.detach().double().requires_grad_() for tensor in (values, bias))
    result, expected = _bias_gelu(values, bias), gelu(exact + exact_bias)
    result.backward(grad_output)
    expected.backward(grad_output.double())
    torch.testing.assert_close(result.double(), expected, rtol=2**-8, atol=1e-6)  # bf16 has 8 bits
    torch.testing.assert_close(values.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(bias.grad.double(), exact_bias.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("kernels")
def test_non_finite_values_are_propagated() -> None:
    values = torch.tensor([float("nan"), float("inf"), -1e30, 1e30] * 4).bfloat16().requires_grad_()
    result = _bias_gelu(values, torch.zeros(16))
    result.sum().backward()
    assert result[0].isnan() and values.grad[0].isnan()
    assert result[1] == float("inf") and result[2] == 0 and result[3] == values[3]


@pytest.mark.usefixtures("kernels")
def test_number_of_threads_does_not_change_the_result() -> None:
    def compute() -> tuple[Tensor, Tensor, Tensor]:
        values, bias = draw(1000, 32).bfloat16().requires_grad_(), draw(32, seed=1).requires_grad_()
        result = _bias_gelu(values, bias)
        result.square().sum().backward()
        return result, values.grad, bias.grad

    one, two = (with_threads(count, compute) for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


@pytest.mark.usefixtures("kernels")
def test_kernel_mlp_equals_the_mlp() -> None:
    torch.manual_seed(0)
    network, tokens = nn.ModuleDict({"mlp": Mlp(32, 64)}), draw(2, 9, 32)
    nn.init.normal_(network["mlp"].fc1.bias)
    names, parameters, expected = list(network.state_dict()), list(network.parameters()), network["mlp"](tokens)
    replace_modules(network, as_kernel_mlp)
    assert isinstance(network["mlp"], KernelMlp) and list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters))
    torch.testing.assert_close(network["mlp"](tokens), expected)  # fp32: PyTorch's implementation
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network["mlp"](tokens).float(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("mlp", [Mlp(32, 24), Mlp(32, 64, bias=False), Mlp(32, 64, act_layer=nn.ReLU)])
def test_unsupported_mlp_is_not_replaced(mlp: Mlp) -> None:
    assert as_kernel_mlp(mlp) is None
