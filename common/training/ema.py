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


MAX_INITIAL_SHARE = 0.05
"""Share of its initial weights in an average at the end, above which it is warned of: as after three times its length."""


def average_warnings(decay: float | None, span: float | None, *, steps: int, warmup_steps: int) -> Iterator[str]:
    """Yield a warning for an average that equals the weights, and for one that still consists of its initial weights at the end."""
    yield from _span_warnings(span, steps=steps)
    momenta = average_momenta(decay, span, steps=steps, warmup_steps=warmup_steps)
    share = 0.0 if momenta is None else float(np.prod(momenta))
    if steps and share > MAX_INITIAL_SHARE:
        advised = f"ema_span={_advised_span(steps, 0.1)}"
        key, remedy = ("ema_decay", f"ema_decay=none {advised}") if span is None else ("ema_span", advised)
        yield (
            f"{key} = {decay if span is None else span:g}: after the run's {steps} steps the average, which is evaluated and "
            f"exported, still holds {share:.0%} of the weights that it began with. Try {remedy}."
        )


def _span_warnings(span: float | None, *, steps: int) -> Iterator[str]:
    """Yield a warning for a span of at most one step, for which the average equals the weights."""
    if span is not None and span * steps <= 1:
        advised = _advised_span(steps)
        yield (
            f"ema_span = {span:g}: at most one of the run's {steps} steps, so the average equals the weights. Set it to "
            f"{advised if advised == 'none' else f'{advised} or more, or none'}."
        )


def _advised_span(steps: int, wanted: float = 0.0) -> str:
    """Return the fraction of a run to average over: the wanted one, or that of three steps if it is longer.

    After a third of a run the average has forgotten what it began with; a run of three steps is too short for any.
    """
    return "none" if steps <= 3 else f"{min(1 / 3, max(wanted, 3 / steps)):.2g}"
