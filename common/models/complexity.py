"""Complexity of a network: parameters, MACs and activations, counted as in Early Convolutions.

MACs (multiply-accumulates) and activations are those of convolutions, linear layers and the matrix products of every attention.
Norms, activation functions, pooling, additions and the softmax are not counted. One MAC is two FLOPs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Any

import torch
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from timm.models.volo import Attention as GridAttention
from timm.models.volo import ClassAttention, OutlookAttention
from torch import Tensor, nn

from common.sizes import height_and_width


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Complexity of the forward pass of one image."""

    parameters: int
    macs: int
    activations: int
    """Number of output elements of convolutions, linear layers and attention products."""


@dataclass
class _Tally:
    """Totals accumulated by forward hooks."""

    macs: int = 0
    activations: int = 0

    def count_layer(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear, _: Any, output: Tensor) -> None:
        """Add a convolution or a linear layer: each output element costs as many MACs as one output channel has weights."""
        self.macs += output.numel() * (layer.weight.numel() // len(layer.weight))
        self.activations += output.numel()

    def count_attention(
        self,
        attention: Attention | AttentionRope | EvaAttention | GridAttention,
        inputs: tuple[Tensor, ...],
        _: Any,
    ) -> None:
        """Add Q K^T (heads * tokens^2 outputs) and its product with V (tokens * width outputs); the rest are linear layers."""
        tokens, width = inputs[0][0, ..., 0].numel(), attention.proj.in_features
        self.macs += 2 * tokens * tokens * width
        self.activations += attention.num_heads * tokens * tokens + tokens * width

    def count_class_attention(self, attention: ClassAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the same two products for a single query, that of the class token."""
        tokens, width = inputs[0].shape[1], attention.proj.in_features
        self.macs += 2 * tokens * width
        self.activations += attention.num_heads * tokens + width

    def count_outlook(self, attention: OutlookAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the product of each window's weights, k^2 x k^2 per head, with its k^2 values; a linear layer outputs the weights."""
        _, height, width, channels = inputs[0].shape
        windows = math.ceil(height / attention.stride) * math.ceil(width / attention.stride)
        positions = attention.kernel_size**2
        self.macs += windows * positions**2 * channels
        self.activations += windows * positions * channels

    def counters(self) -> tuple[tuple[type | UnionType, Callable[..., None]], ...]:
        """Return the counted module types with their hooks."""
        return (
            (nn.Conv1d | nn.Conv2d | nn.Linear, self.count_layer),
            (Attention | AttentionRope | EvaAttention | GridAttention, self.count_attention),
            (ClassAttention, self.count_class_attention),
            (OutlookAttention, self.count_outlook),
        )


def input_channels(model: nn.Module) -> int:
    """Return the number of channels of a network's images, those of its first convolution."""
    return next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))


def measure(model: nn.Module, image_size: int | tuple[int, int]) -> Complexity:
    """Count the complexity of a network for one image; on the meta device nothing is computed.

    The network runs once in evaluation mode; afterwards each module's mode is restored.
    """
    height, width = height_and_width(image_size)
    tally, hooks = _Tally(), []
    for module in model.modules():
        for module_type, count in tally.counters():
            if isinstance(module, module_type):
                hooks.append(module.register_forward_hook(count))
    training = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad():
            device = next(model.parameters()).device
            model.eval()(torch.zeros(1, input_channels(model), height, width, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return Complexity(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        macs=tally.macs,
        activations=tally.activations,
    )
