"""Fused self-attention in bf16 on a CPU, forward and backward.

The backward pass of PyTorch's fused kernel takes ten times as long as unfused matrix products, and those write scores,
probabilities and transposed copies of all operands to memory. The algorithm is described in `attention.cpp`.
"""

from typing import Any

import torch
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from common.models.kernels.library import load_kernels
from common.models.kernels.linear import linear


class KernelAttention(nn.Module):
    """Equivalent of timm's `Attention` that shares its layers and uses the kernel under autocast to bf16."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.scale = attention.num_heads, attention.scale
        self.qkv, self.proj, self.proj_drop = attention.qkv, attention.proj, attention.proj_drop

    def forward(self, tokens: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Return the tokens (B, N, C) after self-attention; with a mask, PyTorch's implementation is used."""
        qkv = linear(tokens, self.qkv.weight, self.qkv.bias)
        if attn_mask is None and not is_causal and qkv.dtype == torch.bfloat16 and qkv.device.type == "cpu":
            output, _ = _attention(qkv.contiguous(), self.num_heads, self.scale)
        else:
            q, k, v = qkv.reshape(*qkv.shape[:-1], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
            output = scaled_dot_product_attention(q, k, v, attn_mask, is_causal=is_causal, scale=self.scale)
            output = output.transpose(1, 2).flatten(2)
        result: Tensor = self.proj_drop(linear(output, self.proj.weight, self.proj.bias))
        return result


def as_kernel_attention(module: nn.Module) -> KernelAttention | None:
    """Return a `KernelAttention` with the module's parameters if the kernel supports it; None for any other module.

    The kernel supports attention that is exactly softmax(q k^T) v between plain linear layers, with a head dimension that is a
    multiple of 32. LoRA's layers would be read as their frozen weights.
    """
    if type(module) is not Attention or module.gate is not None or module.attn_drop.p or module.head_dim % 32:
        return None
    if any(type(layer) is not nn.Linear for layer in (module.qkv, module.proj)):
        return None
    has_no_norms = all(isinstance(layer, nn.Identity) for layer in (module.q_norm, module.k_norm, module.norm))
    return KernelAttention(module) if has_no_norms else None


@torch.library.custom_op("two_stage_vit::attention", mutates_args=(), device_types="cpu")
def _attention(qkv: Tensor, heads: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return softmax(q k^T * scale) v (B, N, C) and the logsumexp of the scores (B, heads, N), for qkv (B, N, 3 * C)."""
    batch, tokens, width = qkv.shape
    output, lse = qkv.new_empty((batch, tokens, width // 3)), qkv.new_empty((batch, heads, tokens), dtype=torch.float32)
    load_kernels().attention_forward(
        *(tensor.data_ptr() for tensor in (qkv, output, lse)), batch, tokens, heads, width // 3 // heads, scale
    )
    return output, lse


@torch.library.custom_op("two_stage_vit::attention_backward", mutates_args=(), device_types="cpu")
def _attention_backward(qkv: Tensor, lse: Tensor, grad_output: Tensor, scale: float) -> Tensor:
    """Return the gradient of qkv."""
    (batch, tokens, width), grad_qkv = qkv.shape, torch.empty_like(qkv)
    heads = lse.shape[1]
    load_kernels().attention_backward(
        *(tensor.data_ptr() for tensor in (qkv, lse, grad_output, grad_qkv)),
        batch,
        tokens,
        heads,
        width // 3 // heads,
        scale,
    )
    return grad_qkv


@_attention.register_fake
def _(qkv: Tensor, heads: int, scale: float) -> tuple[Tensor, Tensor]:
    batch, tokens, width = qkv.shape
    return qkv.new_empty((batch, tokens, width // 3)), qkv.new_empty((batch, heads, tokens), dtype=torch.float32)


@_attention_backward.register_fake
def _(qkv: Tensor, lse: Tensor, grad_output: Tensor, scale: float) -> Tensor:
    return torch.empty_like(qkv)


def _setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
    """Save the tensors for the backward pass."""
    ctx.save_for_backward(inputs[0], output[1])
    ctx.scale = inputs[2]


def _backward(ctx: Any, grad_output: Tensor, grad_lse: Tensor) -> tuple[Tensor, None, None]:
    """Return the gradient of qkv; the logsumexp is not used outside this module."""
    qkv, lse = ctx.saved_tensors
    result: Tensor = _attention_backward(qkv, lse, grad_output.to(qkv.dtype).contiguous(), ctx.scale)
    return result, None, None


_attention.register_autograd(_backward, setup_context=_setup_context)
