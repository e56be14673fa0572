"""Settings of a network that no tensor tells: heads, rotary embedding, epsilon of the norms, activation function.

What the weights state of them, in a config beside them or in their file, is compared with the network that loads them: another
number of heads or another rotary embedding is an error, the rest a warning.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import timm
from torch import nn

from common.models.meta import on_meta_device
from common.models.timm_networks import is_timm_transformer

_ACTIVATIONS = {
    "GELU": "gelu",
    "GELUTanh": "gelu_pytorch_tanh",
    "QuickGELU": "quick_gelu",
    "ReLU": "relu",
    "SiLU": "silu",
}
"""transformers' names of activation functions by the class of timm and PyTorch."""
_SAME = {"gelu_new": "gelu_pytorch_tanh", "gelu_fast": "gelu_pytorch_tanh", "swish": "silu"}


@dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """Settings that no tensor tells; None where nothing states them."""

    num_heads: int | None = None
    rope_temperature: float | None = None
    """Base of the periods of the rotary embedding."""
    norm_eps: float | None = None
    activation: str | None = None
    """Activation function of the feed-forward blocks, by transformers' name."""

    def or_else(self, others: "NetworkSettings") -> "NetworkSettings":
        """Return these settings, and those of `others` where these state none."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(others, **{name: value for name, value in own.items() if value is not None})


def settings_of_network(model: Any) -> NetworkSettings:
    """Return the settings of a network that was built; a vision transformer states all that it has."""
    blocks = getattr(model, "blocks", None)
    block = blocks[0] if isinstance(blocks, nn.Sequential | nn.ModuleList) and len(blocks) else None
    norm = next((module for module in model.modules() if isinstance(module, nn.LayerNorm)), None)
    feed_forward = getattr(block, "mlp", None)
    classes = [type(each).__name__ for each in feed_forward.modules()] if isinstance(feed_forward, nn.Module) else []
    is_gated = not {"GluMlp", "SwiGLU", "SwiGLUPacked"}.isdisjoint(classes)  # their configs state what they do not use
    temperature = getattr(getattr(model, "rope", None), "temperature", None)
    return NetworkSettings(
        num_heads=getattr(getattr(block, "attn", None), "num_heads", None),
        rope_temperature=None if temperature is None else float(temperature),
        norm_eps=None if norm is None else norm.eps,
        activation=None if is_gated else next((_ACTIVATIONS[name] for name in classes if name in _ACTIVATIONS), None),
    )


def settings_of_config(config: Mapping[str, Any]) -> NetworkSettings:
    """Return the settings that transformers' config of an image tower states."""
    heads, eps, activation = (config.get(name) for name in ("num_attention_heads", "layer_norm_eps", "hidden_act"))
    rope = config.get("rope_parameters")
    theta = rope.get("rope_theta") if isinstance(rope, dict) else config.get("rope_theta")
    return NetworkSettings(
        num_heads=heads if isinstance(heads, int) and heads > 0 else None,
        rope_temperature=float(theta) if isinstance(theta, int | float) else None,
        norm_eps=float(eps) if isinstance(eps, int | float) else None,
        activation=_SAME.get(activation, activation) if isinstance(activation, str) else None,
    )


def settings_of_timm(name: str, arguments: Mapping[str, Any]) -> NetworkSettings:
    """Return the settings of timm's transformer of this name; none of any other network, or with arguments that timm refuses."""
    if not is_timm_transformer(name):
        return NetworkSettings()
    try:
        with on_meta_device():
            return settings_of_network(timm.create_model(name.partition(".")[0], pretrained=False, **arguments))
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError):
        return NetworkSettings()


def incompatible_settings(own: NetworkSettings, stated: NetworkSettings) -> Iterator[str]:
    """Yield each stated setting that makes another function of the same tensors, with the remedy of a network that has another."""
    if None not in (own.num_heads, stated.num_heads) and own.num_heads != stated.num_heads:
        yield f"{stated.num_heads} attention heads instead of {own.num_heads} (model.kwargs=[num_heads={stated.num_heads}])"
    given, ours = stated.rope_temperature, own.rope_temperature
    if given is not None and ours is not None and given != ours:
        yield (f"rotary embeddings of base {given:g} instead of {ours:g} (model.kwargs=[rope_temperature={given:g}])")


def differing_settings(own: NetworkSettings, stated: NetworkSettings) -> Iterator[str]:
    """Yield the stated settings that make a small difference: epsilon of the norms, activation function."""
    if None not in (own.norm_eps, stated.norm_eps) and own.norm_eps != stated.norm_eps:
        yield f"layer norms with epsilon {stated.norm_eps:g} instead of {own.norm_eps:g}"
    if None not in (own.activation, stated.activation) and own.activation != stated.activation:
        yield f"the activation function {stated.activation}"
