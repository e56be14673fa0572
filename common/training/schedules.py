"""Schedules: arrays indexed by the global step. Recipes count in epochs, loops in steps."""

import numpy as np
from numpy.typing import NDArray

Schedule = NDArray[np.float64]


def cosine(
    base: float, final: float, *, steps: int, warmup_steps: int = 0, warmup_start: float = 0.0, cooldown_steps: int = 0
) -> Schedule:
    """Return a linear warm-up from `warmup_start` to `base`, a half cosine from `base` to `final`, then constant `final`.

    With T = steps - warmup_steps - cooldown_steps, step warmup_steps + t is final + (base - final) / 2 * (1 + cos(pi * t / T)).
    The last warm-up step is `base`, as `linspace` ends (DINO's official program). A warm-up of at least `steps` leaves no cosine.
    """
    warmup_steps = min(warmup_steps, steps)
    cooldown_steps = min(cooldown_steps, steps - warmup_steps)
    remaining = np.arange(steps - warmup_steps - cooldown_steps)
    decay = final + 0.5 * (base - final) * (1 + np.cos(np.pi * remaining / max(1, len(remaining))))
    return np.concatenate([np.linspace(warmup_start, base, warmup_steps), decay, np.full(cooldown_steps, final)])


def linear_warmup_by_epoch(
    start: float, final: float, *, epochs: int, warmup_epochs: int, steps_per_epoch: int
) -> Schedule:
    """Return one value per step, constant within an epoch: a linear warm-up over `warmup_epochs` epochs, then `final`.

    As DINO's teacher temperature: linspace(start, final, warmup_epochs), then constant.
    """
    warmup_epochs = min(warmup_epochs, epochs)
    by_epoch = np.concatenate([np.linspace(start, final, warmup_epochs), np.full(epochs - warmup_epochs, final)])
    return np.repeat(by_epoch, steps_per_epoch)
