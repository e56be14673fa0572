"""GELU as a custom op on a CPU, opaque to the compiler.

PyTorch's kernel is twice as fast as the generated one. In bf16, a custom kernel adds the bias of the preceding layer in the same
pass, and its backward pass sums the gradient of that bias: the preceding product does not read or write the bias.
"""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from common.models.kernels.library import LANES, load_kernels
from common.models.kernels.linear import linear


class KernelGELU(nn.Module):
    """`nn.GELU()` with PyTorch's kernels, forward and backward, also inside a compiled network."""

    def forward(self, values: Tensor) -> Tensor:
        """Return x * Phi(x) for values of any shape, in their dtype."""
        result: Tensor = _gelu(values)
        return result


def as_kernel_gelu(module: nn.Module) -> KernelGELU | None:
    """Return a `KernelGELU` for an exact GELU; None for any other module."""
    return KernelGELU() if _is_exact_gelu(module) else None


def _is_exact_gelu(module: object) -> bool:
    return type(module) is nn.GELU and module.approximate == "none"


class KernelMlp(nn.Module):
    """Equivalent of timm's `Mlp` with an exact GELU that shares its layers and uses the kernel under autocast to bf16."""

    def __init__(self, mlp: Mlp) -> None:
        super().__init__()
        self.fc1, self.drop1, self.norm, self.fc2, self.drop2 = mlp.fc1, mlp.drop1, mlp.norm, mlp.fc2, mlp.drop2

    def forward(self, tokens: Tensor) -> Tensor:
        """Return tokens (..., out_features) for tokens (..., in_features)."""
        hidden = linear(tokens, self.fc1.weight)
        if hidden.dtype == torch.bfloat16 and hidden.device.type == "cpu":
            hidden = _bias_gelu(hidden.contiguous(), self.fc1.bias.float())
        else:
            hidden = F.gelu(hidden + self.fc1.bias)
        result: Tensor = self.drop2(linear(self.norm(self.drop1(hidden)), self.fc2.weight, self.fc2.bias))
        return result


def as_kernel_mlp(module: nn.Module) -> KernelMlp | None:
    """Return a `KernelMlp` with the module's parameters if the kernel supports it; None for any other module.

    The kernel supports linear layers around an exact GELU, the first with a bias, and a hidden width that is a multiple of LANES.
    """
    if type(module) is not Mlp or not _is_exact_gelu(module.act) or type(module.fc1) is not nn.Linear:
        return None
    if type(module.fc2) is not nn.Linear:  # LoRA's layers would be read as their frozen weights
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


def _setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Save the tensors for the backward pass."""
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradients: Tensor) -> Tensor:
    """Return the gradient of the values."""
    [values] = ctx.saved_tensors
    result: Tensor = _gelu_backward(gradients.to(values.dtype).contiguous(), values)
    return result


_gelu.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op("two_stage_vit::bias_gelu", mutates_args=(), device_types="cpu")
def _bias_gelu(values: Tensor, bias: Tensor) -> Tensor:
    """Return GELU(values + bias), for values (..., width) in bf16 and a bias (width) in fp32."""
    result, width = torch.empty_like(values), len(bias)
    addresses = (tensor.data_ptr() for tensor in (values, bias, result))
    load_kernels().gelu_forward(*addresses, values.numel() // width, width)
    return result


@torch.library.custom_op("two_stage_vit::bias_gelu_backward", mutates_args=(), device_types="cpu")
def _bias_gelu_backward(grad_result: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of values and bias."""
    grad_values, grad_bias, width = torch.empty_like(values), torch.empty_like(bias), len(bias)
    addresses = (tensor.data_ptr() for tensor in (grad_result, values, bias, grad_values, grad_bias))
    load_kernels().gelu_backward(*addresses, values.numel() // width, width)
    return grad_values, grad_bias


@_bias_gelu.register_fake
def _(values: Tensor, bias: Tensor) -> Tensor:
    return torch.empty_like(values)


@_bias_gelu_backward.register_fake
def _(grad_result: Tensor, values: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(values), torch.empty_like(bias)


def _bias_backward(ctx: Any, grad_result: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of values and bias."""
    values, bias = ctx.saved_tensors
    grad_values, grad_bias = _bias_gelu_backward(grad_result.to(values.dtype).contiguous(), values, bias)
    return grad_values, grad_bias


_bias_gelu.register_autograd(_bias_backward, setup_context=_setup_context)
