"""Exponential moving averages (EMA) of weights: DINO's teacher, and the averaged network of fine-tuning."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from common.training.schedules import Schedule


@torch.no_grad()
def update_ema(average: Iterable[Tensor], current: Iterable[Tensor], momentum: float) -> None:
    """Update `average` in place: a <- momentum * a + (1 - momentum) * c, with a fused operation."""
    torch._foreach_lerp_(list(average), list(current), 1 - momentum)


def average_momenta(decay: float | None, span: float | None, *, steps: int, warmup_steps: int) -> Schedule | None:
    """Return the momentum of the EMA at every step; none if there is no EMA.

    With `decay`, the momentum is constant. With `span`, the length of the average as a fraction of all steps, it is
    1 - 1 / (span * steps), so that short and long runs average over the same fraction, and 0 during the warm-up, where the
    average equals the weights (pycls).
    """
    if decay is not None:
        return np.full(steps, decay)
    if span is None:
        return None
    momenta = np.full(steps, max(0.0, 1 - 1 / max(span * steps, 1.0)))
    momenta[:warmup_steps] = 0.0
    return momenta


def average_warnings(decay: float | None, span: float | None, *, steps: int) -> Iterator[str]:
    """Yield a warning for an average over at most one step, which equals the weights, or over more than a quarter of the run."""
    if span is not None and span * steps <= 1:
        yield (
            f"ema_span = {span:g}: at most one of the run's {steps} steps, so the average equals the weights. Set it to "
            f"{min(1.0, 3 / steps):.2g} or more, or none."
        )
    if decay is not None and 1 / (1 - decay) > steps / 4:
        yield (
            f"ema_decay = {decay:g} averages over {1 / (1 - decay):.0f} steps, but the run has {steps}: {decay**steps:.0%} of the "
            "average, which is evaluated and exported, are the weights it began with. Try ema_span=0.1 instead."
        )
