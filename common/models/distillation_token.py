"""Weights of distilled DeiT, read without the distillation token, which no network of a recipe has.

"Training data-efficient image transformers & distillation through attention" (2020), section 4: a second token beside the class
token, with a position embedding and a classifier of its own, by which the network learns its teacher's labels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

_TOKEN, _HEAD = "dist_token", "head_dist."
"""Names in timm and in DeiT's own program."""


def without_distillation_token(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return weights in timm's names without distillation token, its position and its classifier, and the names of what is dropped.

    The position embedding (1, 2 + patches, D) loses the second position, that of the token.
    """
    if _TOKEN not in weights:
        return dict(weights), []
    dropped = [name for name in weights if name == _TOKEN or name.startswith(_HEAD)]
    kept = {name: tensor for name, tensor in weights.items() if name not in dropped}
    position = kept.get("pos_embed")
    if position is not None and position.dim() == 3:
        kept["pos_embed"] = torch.cat([position[:, :1], position[:, 2:]], dim=1)
    return kept, dropped


def without_distillation(name: str) -> str:
    """Return timm's name of the same network without the distillation token; any other name as it is."""
    return name.replace("_distilled_", "_")
