"""Owns exponential moving averages of weights: DINO's teacher and the fine-tuner's averaged network."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def update_average(average: Iterable[Tensor], current: Iterable[Tensor], momentum: float) -> None:
    """Move `average` towards `current` in place: a <- momentum * a + (1 - momentum) * c, in fused passes."""
    torch._foreach_lerp_(list(average), list(current), 1 - momentum)
