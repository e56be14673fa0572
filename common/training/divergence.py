"""Divergence rules for finite losses: stuck at chance level, rebounded to chance level, ended at chance level.

A rule is updated with one step's loss at a time, as a float, and its complete state is in `state_dict()`, so an interrupted run
gets the same result as an uninterrupted one.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from common.training.status import DivergenceKind, StatusConfig, SupervisedStatusConfig


@dataclass(kw_only=True)
class DivergenceRule(ABC):
    """Detects one kind of divergence from the losses. The fields that `__init__` does not take are its state."""

    kind: ClassVar[DivergenceKind]
    chance: float
    """Loss of an uninformative prediction, in nats."""
    steps_per_epoch: int

    @abstractmethod
    def update(self, step: int, loss: float) -> str | None:
        """Update with the finite loss of a step, counted from 1; return the reason while the run counts as diverged."""

    def finalize(self, step: int) -> str | None:
        """Return, after the last step, `step`, why the run has diverged although `update` was not certain during training."""
        return None

    @property
    def name(self) -> str:
        """Return the rule's name in a checkpoint."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {each.name: copy.copy(getattr(self, each.name)) for each in fields(self) if not each.init}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, copy.copy(value))


@dataclass(kw_only=True)
class SmoothedRule(DivergenceRule):
    """A rule on the exponential moving average of the losses over `smoothing_steps`, bias-corrected.

    A single loss is clipped to 2 * chance: otherwise one spike of 10^6 would keep the average high for hundreds of steps after the
    loss itself has recovered.
    """

    limits: StatusConfig
    total: float = field(default=0.0, init=False)
    weight: float = field(default=0.0, init=False)

    def smoothed(self, loss: float) -> float:
        """Update the average with a step's loss and return it."""
        decay = 1 - 1 / self.limits.smoothing_steps
        self.total = decay * self.total + (1 - decay) * min(loss, 2 * self.chance)
        self.weight = decay * self.weight + (1 - decay)
        return self.total / self.weight


@dataclass(kw_only=True)
class LossReboundRule(SmoothedRule):
    """The smoothed loss had fallen well below chance, lost most of that decrease again, and stayed high.

    With s the smoothed loss and m its minimum so far: once m < (1 - learned_share) * chance, a step is high if
    s >= m + rebound_share * (chance - m). The run has diverged after max(rebound_epochs, min_steps) consecutive high steps.
    """

    kind = DivergenceKind.LOSS_REBOUND
    lowest: float = field(default=math.inf, init=False)
    lowest_step: int = field(default=0, init=False)
    high_steps: int = field(default=0, init=False)

    def update(self, step: int, loss: float) -> str | None:
        """Update with a step's loss; return the reason while the loss stays high."""
        smoothed = self.smoothed(loss)
        if step < self.limits.smoothing_steps:
            return None
        if smoothed < self.lowest:
            self.lowest, self.lowest_step = smoothed, step
        learned = self.lowest < (1 - self.limits.learned_share) * self.chance
        threshold = self.lowest + self.limits.rebound_share * (self.chance - self.lowest)
        self.high_steps = self.high_steps + 1 if learned and smoothed >= threshold else 0
        if self.high_steps < max(self.limits.rebound_epochs * self.steps_per_epoch, self.limits.min_steps):
            return None
        first = step - self.high_steps + 1
        return (
            f"the loss rebounded and did not recover: {self.lowest:.4f} at step {self.lowest_step}, then at least {threshold:.4f} "
            f"from step {first} to step {step}, averaged over {self.limits.smoothing_steps} steps; chance is {self.chance:.4f}"
        )


@dataclass(kw_only=True)
class ChanceLevelRule(DivergenceRule):
    """After the warm-up, the mean loss of epoch after epoch is no better than that of a constant prediction.

    Short epochs are merged into periods, so that chance_epochs periods have at least chance_steps steps. With d =
    chance_margin * chance: the run is at chance level if, in the last chance_epochs periods after the warm-up, every mean is at
    least chance - d and the last is not lower than the first by more than d. The rule does not apply to a loss that still
    decreases, however high; to one that was below (1 - learned_share) * chance before (see `LossReboundRule`); or after the
    fraction chance_until of all steps (see `FinalLossRule`). The run has recovered once a mean is below chance - d.
    """

    kind = DivergenceKind.CHANCE_LEVEL
    limits: SupervisedStatusConfig
    warmup_epochs: float
    num_steps: int
    """Steps of the complete run."""
    total: float = field(default=0.0, init=False)
    steps: int = field(default=0, init=False)
    means: list[float] = field(default_factory=list, init=False)
    learned: bool = field(default=False, init=False)
    at_chance: bool = field(default=False, init=False)

    def update(self, step: int, loss: float) -> str | None:
        """Update with a step's loss; return the reason while the loss stays at chance level."""
        self.total, self.steps = self.total + loss, self.steps + 1
        if step % self.period == 0:
            self._update_period(self.total / self.steps, step)
            self.total, self.steps = 0.0, 0
        if not self.at_chance:
            return None
        return (
            f"the loss was no better than chance at step {step}: means of {min(self.means):.4f} to {max(self.means):.4f} over the "
            f"last {len(self.means) * self.period} steps, all after the warm-up; a constant prediction has {self.chance:.4f}"
        )

    @property
    def period(self) -> int:
        """Return the number of steps of a period: whole epochs with at least chance_steps / chance_epochs steps."""
        min_steps = self.limits.chance_steps / self.limits.chance_epochs
        return self.steps_per_epoch * math.ceil(min_steps / self.steps_per_epoch)

    def _update_period(self, mean: float, step: int) -> None:
        """Update with the mean loss of the period that ends at `step`."""
        margin = self.limits.chance_margin * self.chance
        self.learned = self.learned or mean < (1 - self.limits.learned_share) * self.chance
        if step - self.period < self.warmup_epochs * self.steps_per_epoch:
            return
        self.means = [*self.means, mean][-self.limits.chance_epochs :]
        if mean < self.chance - margin:
            self.at_chance = False
        elif not self.learned and step <= self.limits.chance_until * self.num_steps:
            is_full, is_high = len(self.means) == self.limits.chance_epochs, min(self.means) >= self.chance - margin
            self.at_chance = self.at_chance or (is_full and is_high and mean >= self.means[0] - margin)


@dataclass(kw_only=True)
class FinalLossRule(SmoothedRule):
    """The run ended at chance level, as a constant prediction does, or above.

    With d as in `ChanceLevelRule`, for a run of at least chance_epochs epochs and min_steps steps after the warm-up: the smoothed
    loss is within d of chance, or above it and no lower than the untrained network's. A run whose learning rate was too small to
    get below chance ends between the two and has not diverged.
    """

    kind = DivergenceKind.CHANCE_LEVEL
    limits: SupervisedStatusConfig
    warmup_epochs: float
    last: float = field(default=math.nan, init=False)
    untrained: float = field(default=math.nan, init=False)

    def update(self, step: int, loss: float) -> str | None:
        """Update with a step's loss; return None, as only the end of the run counts."""
        if step == 1:
            self.untrained = loss
        self.last = self.smoothed(loss)
        return None

    def finalize(self, step: int) -> str | None:
        """Return the reason if the run, ended after `step`, was long enough and is at chance level."""
        min_steps = max(self.limits.chance_epochs * self.steps_per_epoch, self.limits.min_steps)
        if step - self.warmup_epochs * self.steps_per_epoch < min_steps:
            return None
        margin = self.limits.chance_margin * self.chance
        if self.last < self.chance - margin or self.chance + margin < self.last < self.untrained:
            return None
        return (
            f"the loss ended no better than chance at step {step}: {self.last:.4f} over {self.limits.smoothing_steps} steps; "
            f"a constant prediction has {self.chance:.4f}, and the untrained network had {self.untrained:.4f}"
        )
