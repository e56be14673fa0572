"""GELU by its kernels is GELU, and an MLP around it that MLP. What needs a kernel of ours is left out where there is none."""

import pytest
import torch
from conftest import with_threads
from timm.layers import Mlp
from torch import Tensor, nn
from torch.nn.functional import gelu

from common.models.kernels.gelu import KernelGELU, KernelMlp, _bias_gelu, as_kernel_gelu, as_kernel_mlp
from common.models.replacement import replace_modules


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_by_its_kernels_is_gelu(dtype: torch.dtype) -> None:
    mine = torch.randn(5, 7).to(dtype).requires_grad_()
    theirs = mine.detach().clone().requires_grad_()
    one, other = KernelGELU()(mine), nn.GELU()(theirs)
    one.float().square().sum().backward()
    other.float().square().sum().backward()
    assert torch.equal(one, other) and torch.equal(mine.grad, theirs.grad)


def test_gelu_kernels_replace_exact_gelus_alone() -> None:
    model = nn.Sequential(nn.GELU(), nn.Sequential(nn.GELU(), nn.Linear(2, 2)), nn.GELU("tanh"), nn.ReLU())
    names = list(model.state_dict())
    replace_modules(model, as_kernel_gelu)
    assert [type(module) for module in model] == [KernelGELU, nn.Sequential, nn.GELU, nn.ReLU]
    assert isinstance(model[1][0], KernelGELU) and list(model.state_dict()) == names


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("shape", [(1, 16), (3, 5, 48), (257, 32), (2, 300, 16)])
def test_results_and_gradients_with_a_bias_are_those_of_the_formula(shape: tuple[int, ...]) -> None:
    values, bias, of_result = (
        (draw(*shape) * 3).bfloat16().requires_grad_(),
        draw(shape[-1], seed=1),
        draw(*shape).bfloat16(),
    )
    bias.requires_grad_()
    exact, exact_bias = (tensor.detach().double().requires_grad_() for tensor in (values, bias))
    result, expected = _bias_gelu(values, bias), gelu(exact + exact_bias)
    result.backward(of_result)
    expected.backward(of_result.double())
    torch.testing.assert_close(result.double(), expected, rtol=2**-8, atol=1e-6)  # a bf16 has 8 bits
    torch.testing.assert_close(values.grad.double(), exact.grad, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(bias.grad.double(), exact_bias.grad, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("kernels")
def test_what_is_not_finite_stays_so() -> None:
    values = torch.tensor([float("nan"), float("inf"), -1e30, 1e30] * 4).bfloat16().requires_grad_()
    result = _bias_gelu(values, torch.zeros(16))
    result.sum().backward()
    assert result[0].isnan() and values.grad[0].isnan()
    assert result[1] == float("inf") and result[2] == 0 and result[3] == values[3]


@pytest.mark.usefixtures("kernels")
def test_the_number_of_threads_changes_nothing() -> None:
    def compute() -> tuple[Tensor, Tensor, Tensor]:
        values, bias = draw(1000, 32).bfloat16().requires_grad_(), draw(32, seed=1).requires_grad_()
        result = _bias_gelu(values, bias)
        result.square().sum().backward()
        return result, values.grad, bias.grad

    one, two = (with_threads(count, compute) for count in (1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one, two))


@pytest.mark.usefixtures("kernels")
def test_an_mlp_by_the_kernel_is_that_mlp() -> None:
    torch.manual_seed(0)
    network, tokens = nn.ModuleDict({"mlp": Mlp(32, 64)}), draw(2, 9, 32)
    nn.init.normal_(network["mlp"].fc1.bias)
    names, parameters, expected = list(network.state_dict()), list(network.parameters()), network["mlp"](tokens)
    replace_modules(network, as_kernel_mlp)
    assert isinstance(network["mlp"], KernelMlp) and list(network.state_dict()) == names
    assert all(a is b for a, b in zip(network.parameters(), parameters))
    torch.testing.assert_close(network["mlp"](tokens), expected)  # fp32: PyTorch's own
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(network["mlp"](tokens).float(), expected, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("mlp", [Mlp(32, 24), Mlp(32, 64, bias=False), Mlp(32, 64, act_layer=nn.ReLU)])
def test_an_mlp_of_another_kind_stays(mlp: Mlp) -> None:
    assert as_kernel_mlp(mlp) is None
