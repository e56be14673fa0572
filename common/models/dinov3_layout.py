"""Weights of DINOv3's program in timm's names.

Queries and values have a bias; that of the keys is masked, in timm it is 0. The periods of the rotary embedding are constants of
the file, from which its base and the number of heads follow.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from common.models.network_settings import NetworkSettings
from common.models.weights_error import LayoutError, required

_PERIODS = "rope_embed.periods"
_RENAMES = (
    ("storage_tokens", "reg_token"),
    (".ls1.gamma", ".gamma_1"),
    (".ls2.gamma", ".gamma_2"),
    (".mlp.w1.", ".mlp.fc1_g."),
    (".mlp.w2.", ".mlp.fc1_x."),
    (".mlp.w3.", ".mlp.fc2."),
)
_UNMASKED_EPS = 1e-6
"""Epsilon of the program's norms by default; the released networks, whose keys' bias is masked, have 1e-5 (`layernormbf16`)."""
_TOLERANCE = 0.01
"""Of the periods: the program may keep them in bfloat16."""


def from_dinov3(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], NetworkSettings]:
    """Return the weights in timm's names, and the settings that the file tells.

    A bias that the program multiplies with its mask is multiplied here. Raise LayoutError for a bias of the keys that is not 0, and
    for rotary embeddings that are not powers of one base.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if name.startswith("rope_embed.") or name.endswith(".bias_mask"):
            continue
        if name.endswith(".attn.qkv.bias"):
            found |= _split_bias(name, tensor, weights.get(f"{name}_mask"))
            continue
        for theirs, ours in _RENAMES:
            name = name.replace(theirs, ours)
        found[name] = tensor
    is_unmasked = any(name.endswith(".attn.qkv.bias") and f"{name}_mask" not in weights for name in weights)
    width, periods = required(weights, "cls_token").shape[-1], weights.get(_PERIODS)
    num_heads = None if periods is None else width // (4 * len(periods))
    return found, NetworkSettings(
        num_heads=num_heads,
        rope_temperature=None if periods is None else _base(periods),
        norm_eps=_UNMASKED_EPS if is_unmasked else None,
    )


def _split_bias(name: str, bias: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Return the biases of queries and values of a joint one, where the mask is not 0."""
    query, key, value = (bias if mask is None else torch.where(mask == 0, 0, bias)).chunk(3)
    if key.any():
        raise LayoutError(
            f"has a bias of the keys in {name} that is not 0 and not masked, which timm's networks of DINOv3 have not; use weights"
            " that were trained with mask_k_bias=true, or without biases"
        )
    block = name.removesuffix("qkv.bias")
    return {f"{block}q_bias": query.clone(), f"{block}v_bias": value.clone()}


def _base(periods: Tensor) -> float | None:
    """Return the base b of periods b^(i/n), i = 0..n-1; None if there are too few. Raise LayoutError for others."""
    values = periods.double()
    if len(values) < 2:
        return None
    exponents = torch.arange(len(values), dtype=torch.float64) / len(values)
    exact = float(values[-1] ** (1 / exponents[-1]))
    for base in (float(f"{exact:.2g}"), exact):
        if (base**exponents / values - 1).abs().max() < _TOLERANCE:
            return base
    raise LayoutError(
        f"has rotary embeddings of periods from {values[0]:g} to {values[-1]:g} in {_PERIODS}, which are not powers of one base, as"
        " timm's network has them; use other weights"
    )
