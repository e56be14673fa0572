"""GELU by its kernels is GELU."""

import pytest
import torch
from torch import nn

from common.models.kernels.gelu import KernelGELU, keep_gelu_kernels


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
    keep_gelu_kernels(model)
    assert [type(module) for module in model] == [KernelGELU, nn.Sequential, nn.GELU, nn.ReLU]
    assert isinstance(model[1][0], KernelGELU) and list(model.state_dict()) == names
