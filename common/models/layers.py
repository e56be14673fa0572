"""Layers of a network as timm's `group_matcher` numbers them, for layer-wise learning rate decay and for freezing."""

import re
from typing import Any

from torch import nn

REGISTERS = "reg_token"
"""Name of the registers in timm's networks."""
_OF_STEM = re.compile(rf"{REGISTERS}$|norm_pre\.")
"""Parameters before the first block that the patterns of timm before 1.0.28 count to the last layers."""


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """Return the layer number of each parameter: the stem and the embeddings are layer 0, the classifier is the last layer.

    In between are the blocks; the final norm belongs to the last one. If `network` has no `group_matcher` itself, it is that of its
    first submodule that has one, and all other parameters (DINO's head) are one more layer.
    """
    from timm.models import group_parameters

    prefix, inner = _with_matcher(network)
    layers = {
        f"{prefix}{name}": 0 if _OF_STEM.match(name) else number
        for name, number in group_parameters(inner, inner.group_matcher(coarse=False), reverse=True).items()
    }
    others = [name for name, _ in network.named_parameters() if name not in layers]
    return layers | dict.fromkeys(others, max(layers.values()) + 1)


def _with_matcher(network: nn.Module) -> tuple[str, Any]:
    """Return the first module that numbers its layers, with the prefix of its parameters in `network`."""
    name, found = next((name, module) for name, module in network.named_modules() if hasattr(module, "group_matcher"))
    return f"{name}." if name else "", found
