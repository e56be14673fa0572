"""Complexity of a network: parameters, MACs and activations, counted as in Early Convolutions.

MACs (multiply-accumulates) and activations are those of convolutions, linear layers and the matrix products of every attention.
Norms, activation functions, pooling, additions and the softmax are not counted. One MAC is two FLOPs.

The backward pass of a layer has one product for the gradient of its weights, if they are trained, and one for the gradient of its
input, if anything before it is trained; each costs as much as the forward pass. By convention the gradient of the image is counted
if the first layer is trained: the backward pass of a network without frozen parameters costs twice its forward pass.
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

from common.models.class_token import ClassTokenAttention
from common.models.lora import LoraLinear
from common.sizes import height_and_width


@dataclass(frozen=True, kw_only=True)
class Complexity:
    """Complexity of the forward and the backward pass of one image."""

    parameters: int
    trained_parameters: int
    """Number of parameters that are not frozen."""
    macs: int
    backward_macs: int
    """MACs of the backward pass; twice `macs` if nothing is frozen."""
    activations: int
    """Number of output elements of convolutions, linear layers and attention products."""


@dataclass
class _Tally:
    """Totals accumulated by forward hooks."""

    macs: int = 0
    backward_macs: int = 0
    activations: int = 0

    def count_layer(self, layer: nn.Conv1d | nn.Conv2d | nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add a convolution or a linear layer: each output element costs as many MACs as one output channel has weights."""
        is_trained = layer.weight.requires_grad
        has_input_gradient = inputs[0].requires_grad or (is_trained and not self.macs)
        self._add(output.numel() * (layer.weight.numel() // len(layer.weight)), is_trained + has_input_gradient)
        self.activations += output.numel()
        if isinstance(layer, LoraLinear):
            positions, rank = output.numel() // layer.out_features, len(layer.lora_A)
            self._add(positions * layer.in_features * rank, 1 + has_input_gradient)
            self._add(positions * rank * layer.out_features, 2)
            self.activations += positions * (rank + layer.out_features)

    def count_attention(
        self,
        attention: Attention | AttentionRope | EvaAttention | GridAttention,
        inputs: tuple[Tensor, ...],
        _: Any,
    ) -> None:
        """Add Q K^T (heads * tokens^2 outputs) and its product with V (tokens * width outputs); the rest are linear layers."""
        tokens, width = inputs[0][0, ..., 0].numel(), attention.proj.in_features
        if isinstance(attention, EvaAttention) and attention.q_bias is not None and not attention.qkv_bias_separate:
            outputs = inputs[0].new_empty(*inputs[0].shape[:-1], attention.qkv.out_features)
            self.count_layer(attention.qkv, inputs, outputs)  # its weight is read without calling it
        self._add(2 * tokens * tokens * width, _product_gradients(attention, inputs[0]))
        self.activations += attention.num_heads * tokens * tokens + tokens * width

    def count_class_token(self, attention: ClassTokenAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add keys and values of all tokens, the query of the first, and the two products for that query."""
        tokens, width = inputs[0].shape[1], attention.proj.in_features
        if type(attention.qkv) is nn.Linear:  # its weight is read without calling it
            own = inputs[0].new_empty(1, 2 * tokens + 1, width)
            self.count_layer(attention.qkv, inputs, own)
        self._add(2 * tokens * width, _product_gradients(attention, inputs[0]))
        self.activations += attention.num_heads * tokens + width

    def count_class_attention(self, attention: ClassAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the same two products for a single query, that of the class token."""
        tokens, width = inputs[0].shape[1], attention.proj.in_features
        self._add(2 * tokens * width, _product_gradients(attention, inputs[0]))
        self.activations += attention.num_heads * tokens + width

    def count_outlook(self, attention: OutlookAttention, inputs: tuple[Tensor, ...], _: Any) -> None:
        """Add the product of each window's weights, k^2 x k^2 per head, with its k^2 values; a linear layer outputs the weights."""
        _, height, width, channels = inputs[0].shape
        windows = math.ceil(height / attention.stride) * math.ceil(width / attention.stride)
        positions = attention.kernel_size**2
        self._add(windows * positions**2 * channels, _product_gradients(attention, inputs[0]))
        self.activations += windows * positions * channels

    def counters(self) -> tuple[tuple[type | UnionType, Callable[..., None]], ...]:
        """Return the counted module types with their hooks."""
        return (
            (nn.Conv1d | nn.Conv2d | nn.Linear, self.count_layer),
            (Attention | AttentionRope | EvaAttention | GridAttention, self.count_attention),
            (ClassTokenAttention, self.count_class_token),
            (ClassAttention, self.count_class_attention),
            (OutlookAttention, self.count_outlook),
        )

    def _add(self, macs: int, num_gradients: int) -> None:
        """Add a product of the forward pass, with the number of products of the same size in the backward pass."""
        self.macs += macs
        self.backward_macs += num_gradients * macs


def _product_gradients(attention: nn.Module, tokens: Tensor) -> int:
    """Return 2, for the gradients of both factors of an attention's product, or 0 if neither depends on a trained parameter."""
    own = (parameter for name, parameter in attention.named_parameters() if not name.startswith("proj."))
    return 2 if tokens.requires_grad or any(parameter.requires_grad for parameter in own) else 0


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
        with torch.enable_grad():  # which layers have gradients is seen from what requires one
            device = next(model.parameters()).device
            model.eval()(torch.zeros(1, input_channels(model), height, width, device=device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return Complexity(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        trained_parameters=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        macs=tally.macs,
        backward_macs=tally.backward_macs,
        activations=tally.activations,
    )
