"""Owns schedules: arrays indexed by the global step. Recipes speak in epochs, loops in steps."""

import numpy as np
from numpy.typing import NDArray

Schedule = NDArray[np.float64]


def cosine(
    base: float, final: float, *, steps: int, warmup_steps: int = 0, warmup_start: float = 0.0, cooldown_steps: int = 0
) -> Schedule:
    """Return a linear warm-up from `warmup_start` to `base`, then half a cosine from `base` towards `final`, then `final`.

    With T = steps - warmup_steps - cooldown_steps, step warmup_steps + t holds final + (base - final) / 2 * (1 + cos(pi * t / T));
    the warm-up's last step holds `base` itself, as `linspace` ends (DINO's public program).
    A warm-up as long as the training leaves only the ramp.
    """
    warmup_steps = min(warmup_steps, steps)
    cooldown_steps = min(cooldown_steps, steps - warmup_steps)
    remaining = np.arange(steps - warmup_steps - cooldown_steps)
    wave = final + 0.5 * (base - final) * (1 + np.cos(np.pi * remaining / max(1, len(remaining))))
    return np.concatenate([np.linspace(warmup_start, base, warmup_steps), wave, np.full(cooldown_steps, final)])


def linear_warmup_by_epoch(
    start: float, final: float, *, epochs: int, warmup_epochs: int, steps_per_epoch: int
) -> Schedule:
    """Return one value for each step that changes with the epoch: a linear ramp over `warmup_epochs`, then `final`.

    The teacher's temperature of DINO: linspace(start, final, warmup_epochs), then constant.
    """
    warmup_epochs = min(warmup_epochs, epochs)
    by_epoch = np.concatenate([np.linspace(start, final, warmup_epochs), np.full(epochs - warmup_epochs, final)])
    return np.repeat(by_epoch, steps_per_epoch)
