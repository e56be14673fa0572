"""Owns GELU as the compiler leaves it alone, on a CPU.

PyTorch's own kernel is twice as fast as what is generated for it. In bf16 a kernel of ours adds the bias of the layer before in
the same pass, and sums that bias's gradient while it forms its own: the product before it has no bias to read and write.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from common.models.kernels.library import LANES, load_kernels
from common.models.kernels.linear import linear


class KernelGELU(nn.Module):
    """Compute `nn.GELU()` by PyTorch's kernels, forward and backward, also inside of a compiled network."""

    def forward(self, values: Tensor) -> Tensor:
        """Return x * Phi(x) for values of any shape, in their type."""
        result: Tensor = _gelu(values)
        return result


def as_kernel_gelu(module: nn.Module) -> KernelGELU | None:
    """Return a `KernelGELU` for an exact GELU; None for all else."""
    return KernelGELU() if _is_exact_gelu(module) else None


def _is_exact_gelu(module: object) -> bool:
    return type(module) is nn.GELU and module.approximate == "none"


class KernelMlp(nn.Module):
    """Compute what timm's `Mlp` with an exact GELU does, with its very layers; under autocast to bf16 by the kernel."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self.fc1, self.drop1, self.norm, self.fc2, self.drop2 = mlp.fc1, mlp.drop1, mlp.norm, mlp.fc2, mlp.drop2

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens (..., in_features) after both layers (..., out_features)."""
        hidden = linear(tokens, self.fc1.weight)
        if hidden.dtype == torch.bfloat16 and hidden.device.type == "cpu":
            hidden = _bias_gelu(hidden.contiguous(), self.fc1.bias.float())
        else:
            hidden = F.gelu(hidden + self.fc1.bias)
        result: Tensor = self.drop2(linear(self.norm(self.drop1(hidden)), self.fc2.weight, self.fc2.bias))
        return result


def as_kernel_mlp(module: nn.Module) -> KernelMlp | None:
    """Return a `KernelMlp` for an MLP that the kernel can compute, with its very parameters; None for all else.

    It can where linear layers stand around an exact GELU, the first has a bias, and the hidden width is a multiple of LANES.
    """
    if type(module) is not Mlp or not _is_exact_gelu(module.act) or type(module.fc1) is not nn.Linear:
        return None
    return KernelMlp(module) if module.fc1.bias is not None and module.fc1.out_features % LANES == 0 else None


@torch.library.custom_op("two_stage_vit::gelu", mutates_args=())
def _gelu(values: Tensor) -> Tensor:
    """Return the exact GELU."""
    return F.gelu(values)


@torch.library.custom_op("two_stage_vit::gelu_backward", mutates_args=())
def _gelu_backward(gradients: Tensor, values: Tensor) -> Tensor:
    """Return the gradient of the values."""
    result: Tensor = torch.ops.aten.gelu_backward(gradients, values)
    return result


@_gelu.register_fake
def _(values: Tensor) -> Tensor:
    return torch.empty_like(values)


@_gelu_backward.register_fake
def _(gradients: Tensor, values: Tensor) -> Tensor:
    return torch.empty_like(values)


def _keep_values(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Keep what the backward pass needs."""
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, gradients: Tensor) -> Tensor:
    """Return the gradient of the values."""
    [values] = ctx.saved_tensors
    result: Tensor = _gelu_backward(gradients.to(values.dtype).contiguous(), values)
    return result


_gelu.register_autograd(_differentiate, setup_context=_keep_values)


@torch.library.custom_op("two_stage_vit::bias_gelu", mutates_args=(), device_types="cpu")
def _bias_gelu(values: Tensor, bias: Tensor) -> Tensor:
    """Return GELU(values + bias), for values (..., width) in bf16 and a bias (width) in fp32."""
    result, width = torch.empty_like(values), len(bias)
    addresses = (tensor.data_ptr() for tensor in (values, bias, result))
    load_kernels().gelu_forward(*addresses, values.numel() // width, width)
    return result


@torch.library.custom_op("two_stage_vit::bias_gelu_backward", mutates_args=(), device_types="cpu")
def _bias_gelu_backward(of_result: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of values and bias."""
    of_values, of_bias, width = torch.empty_like(values), torch.empty_like(bias), len(bias)
    addresses = (tensor.data_ptr() for tensor in (of_result, values, bias, of_values, of_bias))
    load_kernels().gelu_backward(*addresses, values.numel() // width, width)
    return of_values, of_bias


@_bias_gelu.register_fake
def _(values: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(values)


@_bias_gelu_backward.register_fake
def _(of_result: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), torch.empty_like(bias)


def _differentiate_biased(ctx: Any, of_result: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of values and bias."""
    values, bias = ctx.saved_tensors
    of_values, of_bias = _bias_gelu_backward(of_result.to(values.dtype).contiguous(), values, bias)
    return of_values, of_bias


_bias_gelu.register_autograd(_differentiate_biased, setup_context=_keep_values)
