"""Owns exponential moving averages of weights: DINO's teacher and the fine-tuner's averaged network."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from common.training.schedules import Schedule


@torch.no_grad()
def update_average(average: Iterable[Tensor], current: Iterable[Tensor], momentum: float) -> None:
    """Move `average` towards `current` in place: a <- momentum * a + (1 - momentum) * c, in fused passes."""
    torch._foreach_lerp_(list(average), list(current), 1 - momentum)


def average_momenta(decay: float | None, span: float | None, *, steps: int, warmup_steps: int) -> Schedule | None:
    """Return the momentum of an average of the weights at every step; none where none is kept.

    A `decay` holds at every step. With a `span`, the average's length as a share of all steps, it is 1 - 1 / (span * steps), so
    that it forgets alike in short and long runs, and 0 in the warm-up: the average is the weights themselves there (pycls).
    """
    if decay is not None:
        return np.full(steps, decay)
    if span is None:
        return None
    momenta = np.full(steps, max(0.0, 1 - 1 / max(span * steps, 1.0)))
    momenta[:warmup_steps] = 0.0
    return momenta


def span_warnings(span: float | None, *, steps: int) -> Iterator[str]:
    """Yield a sentence for a span of no more than one step, which averages nothing, with the remedy."""
    if span is not None and span * steps <= 1:
        yield (
            f"ema_span = {span:g}: no more than one of the run's {steps} steps, so the average is the weights themselves. Give "
            f"{min(1.0, 3 / steps):.2g} or more, or none."
        )
