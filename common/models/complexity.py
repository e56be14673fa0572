"""Owns what a network costs: parameters, multiply-adds and activations, counted as Early Convolutions counts them.

Multiply-adds and activations are those of convolutions, linear layers and the two products of every attention. Norms,
activation functions, additions and the softmax are not counted. A multiply-add is one, not two.
"""

from dataclasses import dataclass
from typing import Any

import torch
from timm.layers.attention import Attention
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

    def count_layer(self, layer: nn.Conv2d | nn.Linear, _: Any, output: Tensor) -> None:
        """Add a convolution or a linear layer: each output costs the size of one output channel's weights."""
        self.multiply_adds += output.numel() * layer.weight[0].numel()
        self.activations += output.numel()

    def count_attention(self, attention: Attention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add Q K^T (heads * tokens^2 outputs) and its product with V (tokens * width outputs); the rest are layers."""
        _, tokens, _ = inputs[0].shape
        width = attention.num_heads * attention.head_dim
        self.multiply_adds += 2 * tokens * tokens * width
        self.activations += attention.num_heads * tokens * tokens + tokens * width


def measure(model: nn.Module, image_size: int | tuple[int, int]) -> Complexity:
    """Count the cost of a network for one image of three channels; a network on the meta device costs no computing.

    The network runs once in evaluation mode and is left in the mode it was in.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    tally, hooks = _Tally(), []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            hooks.append(module.register_forward_hook(tally.count_layer))
        elif isinstance(module, Attention):
            hooks.append(module.register_forward_hook(tally.count_attention))
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
