"""Owns the rules by which finite losses amount to a crash: never better than chance, exploded, ended at chance.

A rule sees one step's loss at a time, as a float, and what it remembers is in `state()`: floats in, reasons out, the same
wherever a run was interrupted.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from common.training.status import CrashKind, SupervisedVerdictConfig, VerdictConfig


@dataclass(kw_only=True)
class Rule(ABC):
    """What looks at every loss and says when it amounts to a crash. The fields that `__init__` does not take are its state."""

    kind: ClassVar[CrashKind]
    chance: float
    """Loss of one who knows nothing, in nats."""
    steps_per_epoch: int

    @abstractmethod
    def see(self, step: int, loss: float) -> str | None:
        """Take the finite loss of a step, counted from 1; return the reason as long as the loss amounts to a crash."""

    def at_end(self, step: int) -> str | None:
        """Return, after the last step, `step`, the reason why the run is a crash although `see` was not sure while it ran."""
        return None

    @property
    def name(self) -> str:
        """Return the rule's name in a checkpoint."""
        return type(self).__name__

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {each.name: copy.copy(getattr(self, each.name)) for each in fields(self) if not each.init}

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        for name, value in state.items():
            setattr(self, name, copy.copy(value))


@dataclass(kw_only=True)
class SmoothedRule(Rule):
    """A rule on the exponential mean of the losses over `smoothing_steps`, without bias at the start.

    A single loss counts as 2 * chance at most: otherwise one spike of 10^6 would hold the mean up for hundreds of steps after
    the loss itself has come back.
    """

    limits: VerdictConfig
    total: float = field(default=0.0, init=False)
    weight: float = field(default=0.0, init=False)

    def smoothed(self, loss: float) -> float:
        """Take a step's loss and return the mean up to it."""
        keep = 1 - 1 / self.limits.smoothing_steps
        self.total = keep * self.total + (1 - keep) * min(loss, 2 * self.chance)
        self.weight = keep * self.weight + (1 - keep)
        return self.total / self.weight


@dataclass(kw_only=True)
class ExplosionRule(SmoothedRule):
    """The smoothed loss had fallen well below chance, gave most of it back, and stayed there.

    With s the smoothed loss and m its minimum so far: once m < (1 - learnt_share) * chance, a step is high when
    s >= m + exploded_share * (chance - m). The run has exploded when max(exploded_epochs, least_steps) steps in a row were high.
    """

    kind = CrashKind.EXPLODED
    lowest: float = field(default=math.inf, init=False)
    lowest_step: int = field(default=0, init=False)
    high_steps: int = field(default=0, init=False)

    def see(self, step: int, loss: float) -> str | None:
        """Take a step's loss; return the reason while the loss stays exploded."""
        smoothed = self.smoothed(loss)
        if step < self.limits.smoothing_steps:
            return None
        if smoothed < self.lowest:
            self.lowest, self.lowest_step = smoothed, step
        learnt = self.lowest < (1 - self.limits.learnt_share) * self.chance
        bound = self.lowest + self.limits.exploded_share * (self.chance - self.lowest)
        self.high_steps = self.high_steps + 1 if learnt and smoothed >= bound else 0
        if self.high_steps < max(self.limits.exploded_epochs * self.steps_per_epoch, self.limits.least_steps):
            return None
        first = step - self.high_steps + 1
        return (
            f"the loss exploded and did not return: {self.lowest:.4f} at step {self.lowest_step}, and {bound:.4f} or more from "
            f"step {first} to step {step}, means over {self.limits.smoothing_steps} steps; chance is {self.chance:.4f}"
        )


@dataclass(kw_only=True)
class ChanceRule(Rule):
    """After the warm-up, epoch after epoch, the mean loss is no better than that of a constant answer.

    Epochs of few steps are taken together, so that chance_epochs of these periods hold chance_steps steps. With d =
    chance_margin * chance: the run is at chance when, of the last chance_epochs periods after the warm-up, every mean is at
    least chance - d and the last is not lower than the first by more than d. A loss that still falls is not judged, however
    high. Nor is one that had been below (1 - learnt_share) * chance: to that, `ExplosionRule` applies; nor any after the share
    chance_until of all steps: to that, `EndRule`. The run has come back once a mean is below chance - d.
    """

    kind = CrashKind.CHANCE_LEVEL
    limits: SupervisedVerdictConfig
    warmup_epochs: float
    num_steps: int
    """Steps of the whole run."""
    total: float = field(default=0.0, init=False)
    steps: int = field(default=0, init=False)
    means: list[float] = field(default_factory=list, init=False)
    learnt: bool = field(default=False, init=False)
    at_chance: bool = field(default=False, init=False)

    def see(self, step: int, loss: float) -> str | None:
        """Take a step's loss; return the reason while the epochs stay at chance."""
        self.total, self.steps = self.total + loss, self.steps + 1
        if step % self.period == 0:
            self._judge(self.total / self.steps, step)
            self.total, self.steps = 0.0, 0
        if not self.at_chance:
            return None
        return (
            f"the loss was no better than chance at step {step}: means of {min(self.means):.4f} to {max(self.means):.4f} over the "
            f"last {len(self.means) * self.period} steps, all after the warm-up, and a constant answer gets {self.chance:.4f}"
        )

    @property
    def period(self) -> int:
        """Return the steps of a mean: an epoch, or as many epochs as hold their part of chance_steps."""
        least = self.limits.chance_steps / self.limits.chance_epochs
        return self.steps_per_epoch * math.ceil(least / self.steps_per_epoch)

    def _judge(self, mean: float, step: int) -> None:
        """Take the mean loss of the period that ends with `step`."""
        margin = self.limits.chance_margin * self.chance
        self.learnt = self.learnt or mean < (1 - self.limits.learnt_share) * self.chance
        if step - self.period < self.warmup_epochs * self.steps_per_epoch:
            return
        self.means = [*self.means, mean][-self.limits.chance_epochs :]
        if mean < self.chance - margin:
            self.at_chance = False
        elif not self.learnt and step <= self.limits.chance_until * self.num_steps:
            full, low = len(self.means) == self.limits.chance_epochs, min(self.means) >= self.chance - margin
            self.at_chance = self.at_chance or (full and low and mean >= self.means[0] - margin)


@dataclass(kw_only=True)
class EndRule(SmoothedRule):
    """After the last step there is nothing left to wait for: the run ended at chance, as a constant answer does, or above.

    With d as in `ChanceRule`, for a run of at least chance_epochs epochs and least_steps steps after the warm-up: the smoothed
    loss lies within d of chance, or above it and no lower than the untrained network's. A run whose rate was too small to
    get below chance ends between the two, and is no crash.
    """

    kind = CrashKind.CHANCE_LEVEL
    limits: SupervisedVerdictConfig
    warmup_epochs: float
    last: float = field(default=math.nan, init=False)
    untrained: float = field(default=math.nan, init=False)

    def see(self, step: int, loss: float) -> str | None:
        """Take a step's loss; the end alone is judged."""
        if step == 1:
            self.untrained = loss
        self.last = self.smoothed(loss)
        return None

    def at_end(self, step: int) -> str | None:
        """Return the reason when the run, ended after `step`, had time enough and is at chance."""
        least = max(self.limits.chance_epochs * self.steps_per_epoch, self.limits.least_steps)
        if step - self.warmup_epochs * self.steps_per_epoch < least:
            return None
        margin = self.limits.chance_margin * self.chance
        if self.last < self.chance - margin or self.chance + margin < self.last < self.untrained:
            return None
        return (
            f"the loss ended no better than chance at step {step}: {self.last:.4f} over {self.limits.smoothing_steps} steps; "
            f"a constant answer gets {self.chance:.4f}, and the untrained network got {self.untrained:.4f}"
        )
