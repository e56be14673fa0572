"""Owns GELU as the compiler leaves it alone: PyTorch's own kernel, which on a CPU is twice as fast as what is generated for it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KernelGELU(nn.Module):
    """Compute `nn.GELU()` by PyTorch's kernels, forward and backward, also inside of a compiled network."""

    def forward(self, values: Tensor) -> Tensor:
        """Return x * Phi(x) for values of any shape, in their type."""
        result: Tensor = _gelu(values)
        return result


def keep_gelu_kernels(network: nn.Module) -> None:
    """Put a `KernelGELU` in the place of every exact GELU of the network; its parameters and their names stay."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GELU and child.approximate == "none":
                setattr(module, name, KernelGELU())


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


def _keep_values(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor], output: Tensor) -> None:
    """Keep what the backward pass needs."""
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: torch.autograd.function.BackwardCFunction, gradients: Tensor) -> Tensor:
    """Return the gradient of the values."""
    [values] = ctx.saved_tensors
    result: Tensor = _gelu_backward(gradients.to(values.dtype).contiguous(), values)
    return result


_gelu.register_autograd(_differentiate, setup_context=_keep_values)
