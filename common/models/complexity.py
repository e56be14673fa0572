"""Owns what a network costs: parameters, multiply-adds and activations, counted as Early Convolutions counts them.

Multiply-adds and activations are those of convolutions, linear layers and the matrix products of every attention.
Norms, activation functions, pooling, additions and the softmax are not counted. A multiply-add is one, not two.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Any

import torch
from timm.layers.attention import Attention
from timm.models.volo import Attention as GridAttention
from timm.models.volo import ClassAttention, OutlookAttention
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Hold the cost of one image's forward pass."""

    parameters: int
    multiply_adds: int
    activations: int
    """Numbers put out by convolutions, linear layers and attention products."""


@dataclass
class _Tally:
    """Sum what the hooks see."""

    multiply_adds: int = 0
    activations: int = 0

    def count_layer(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear, _: Any, output: Tensor) -> None:
        """Add a convolution or a linear layer: each output costs the size of one output channel's weights."""
        self.multiply_adds += output.numel() * layer.weight[0].numel()
        self.activations += output.numel()

    def count_attention(self, attention: Attention | GridAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add Q K^T (heads * tokens^2 outputs) and its product with V (tokens * width outputs); the rest are layers."""
        tokens, width = inputs[0][0, ..., 0].numel(), attention.proj.in_features
        self.multiply_adds += 2 * tokens * tokens * width
        self.activations += attention.num_heads * tokens * tokens + tokens * width

    def count_class_attention(self, attention: ClassAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the same two products for one query, the class token's."""
        tokens, width = inputs[0].shape[1], attention.proj.in_features
        self.multiply_adds += 2 * tokens * width
        self.activations += attention.num_heads * tokens + width

    def count_outlook(self, attention: OutlookAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the product of each window's weights, k^2 x k^2 a head, with its k^2 values; the weights come from a layer."""
        _, height, width, channels = inputs[0].shape
        windows = math.ceil(height / attention.stride) * math.ceil(width / attention.stride)
        places = attention.kernel_size**2
        self.multiply_adds += windows * places**2 * channels
        self.activations += windows * places * channels

    def counters(self) -> tuple[tuple[type | UnionType, Callable[..., None]], ...]:
        """Return what is counted, and by which hook."""
        return (
            (nn.Conv1d | nn.Conv2d | nn.Linear, self.count_layer),
            (Attention | GridAttention, self.count_attention),
            (ClassAttention, self.count_class_attention),
            (OutlookAttention, self.count_outlook),
        )


def measure(model: nn.Module, image_size: int | tuple[int, int]) -> Complexity:
    """Count the cost of a network for one image of three channels; a network on the meta device costs no computing.

    The network runs once in evaluation mode and is left in the mode it was in.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    tally, hooks = _Tally(), []
    for module in model.modules():
        for kind, counter in tally.counters():
            if isinstance(module, kind):
                hooks.append(module.register_forward_hook(counter))
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, 3, height, width, device=next(model.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return Complexity(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multiply_adds=tally.multiply_adds,
        activations=tally.activations,
    )
