"""Owns linear layers in bf16 on a CPU, whose weights' gradients take PyTorch's products 1.6 times as long as the kernel."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from common.models.kernels.library import LANES, load_kernels


def linear(tokens: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return `F.linear` of tokens (..., width), a weight (height, width) and a bias (height).

    Under autocast to bf16 on a CPU the weight's gradient is the kernel's.
    """
    by_kernel = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    if not by_kernel or tokens.device.type != "cpu" or any(side % LANES for side in weight.shape):
        return F.linear(tokens, weight, bias)
    result: Tensor = _Linear.apply(tokens.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16())
    return result


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's result."""
        ctx.save_for_backward(tokens, weight)
        return F.linear(tokens, weight, bias)

    @staticmethod
    def backward(ctx: Any, of_result: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the gradients of what is trained."""
        tokens, weight = ctx.saved_tensors
        rows, inputs = (matrix.flatten(0, -2).contiguous() for matrix in (of_result, tokens))
        of_tokens, of_weight, of_bias = ctx.needs_input_grad
        return (
            of_result @ weight if of_tokens else None,
            _weight_gradient(rows, inputs) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )


@torch.library.custom_op("two_stage_vit::weight_gradient", mutates_args=(), device_types="cpu")
def _weight_gradient(of_result: Tensor, inputs: Tensor) -> Tensor:
    """Return of_result^T @ inputs (height, width), for (tokens, height) and (tokens, width) in bf16."""
    (tokens, height), width = of_result.shape, inputs.shape[1]
    of_weight = inputs.new_empty((height, width))
    addresses = (tensor.data_ptr() for tensor in (of_result, inputs, of_weight))
    load_kernels().weight_gradient(*addresses, tokens, height, width)
    return of_weight


@_weight_gradient.register_fake
def _(of_result: Tensor, inputs: Tensor) -> Tensor:
    return inputs.new_empty((of_result.shape[1], inputs.shape[1]))
