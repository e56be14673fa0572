"""Owns the rules by which a run's losses amount to a crash: not finite, never better than chance, exploded.

A rule sees one step's loss at a time, as a float, and what it remembers is in `state()`: floats in, endings out, the same
wherever a run was interrupted.
"""

import copy
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from common.training.verdicts import CrashKind, Ending, SupervisedVerdictConfig, Verdict, VerdictConfig

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Rule:
    """What looks at every loss and says when it amounts to a crash. The fields that `__init__` does not take are its state."""

    kind: ClassVar[CrashKind]
    chance: float
    """Loss of one who knows nothing, in nats."""
    steps_per_epoch: int

    def see(self, step: int, loss: float) -> str | None:
        """Take the finite loss of a step, counted from 1; return the reason as long as the loss amounts to a crash."""
        raise NotImplementedError

    def at_end(self, step: int) -> str | None:
        """Return, after the last step, `step`, the reason why the run is a crash although `see` was not sure while it ran."""
        return None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {each.name: copy.copy(getattr(self, each.name)) for each in fields(self) if not each.init}

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        for name, value in state.items():
            setattr(self, name, copy.copy(value))


@dataclass(kw_only=True)
class ExplosionRule(Rule):
    """The smoothed loss had fallen well below chance, gave most of it back, and stayed there.

    s is the exponential mean of the losses over `smoothing_steps`, without bias at the start, and m its minimum so far. Once
    m < (1 - learnt_share) * chance, a step is high when s >= m + exploded_share * (chance - m). The run has exploded when
    max(exploded_epochs, least_steps) steps in a row were high. A single loss counts as 2 * chance at most: otherwise one
    spike of 10^6 would hold s up for hundreds of steps after the loss itself has come back.
    """

    kind = CrashKind.EXPLODED
    limits: VerdictConfig

    seen: int = field(default=0, init=False)
    total: float = field(default=0.0, init=False)
    weight: float = field(default=0.0, init=False)
    lowest: float = field(default=math.inf, init=False)
    lowest_step: int = field(default=0, init=False)
    high_steps: int = field(default=0, init=False)

    def see(self, step: int, loss: float) -> str | None:
        """Take a step's loss; return the reason while the loss stays exploded."""
        keep = 1 - 1 / self.limits.smoothing_steps
        self.total = keep * self.total + (1 - keep) * min(loss, 2 * self.chance)
        self.weight = keep * self.weight + (1 - keep)
        self.seen += 1
        if self.seen < self.limits.smoothing_steps:
            return None
        smoothed = self.total / self.weight
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

    Epochs of few steps are taken together, so that chance_epochs of these periods hold least_steps steps. With d =
    chance_margin * chance: the run is at chance when, of the last chance_epochs periods after the warm-up, every mean is at
    least chance - d and the last is not lower than the first by more than d, up to the share chance_until of all steps. A
    loss that still falls is not judged, however high: as the learning rate sinks, networks thrown far off come back, and some
    learn. The run has come back once a mean is below chance - d. After the last step it is a crash when the last mean lies
    within d of chance, as constant answers do, or is no lower than the untrained network's loss: a run too slow to get below
    chance ends between the two.
    """

    kind = CrashKind.CHANCE_LEVEL
    limits: SupervisedVerdictConfig
    warmup_epochs: float
    num_steps: int
    """Steps of the whole run."""
    untrained: float = field(default=math.nan, init=False)
    """Loss of the first step, before anything moved."""
    total: float = field(default=0.0, init=False)
    steps: int = field(default=0, init=False)
    means: list[float] = field(default_factory=list, init=False)
    at_chance: bool = field(default=False, init=False)

    def see(self, step: int, loss: float) -> str | None:
        """Take a step's loss; return the reason while the epochs stay at chance."""
        if step == 1:
            self.untrained = loss
        self.total, self.steps = self.total + loss, self.steps + 1
        if step % self.period == 0:
            if step - self.period >= self.warmup_epochs * self.steps_per_epoch:
                self._judge(self.total / self.steps, may_stop=step <= self.limits.chance_until * self.num_steps)
            self.total, self.steps = 0.0, 0
        if not self.at_chance:
            return None
        return (
            f"the loss was no better than chance at step {step}: means of {min(self.means):.4f} to {max(self.means):.4f} over the "
            f"last {len(self.means) * self.period} steps, all after the warm-up, and a constant answer gets {self.chance:.4f}"
        )

    def at_end(self, step: int) -> str | None:
        """Return the reason when the run was judged for long enough and its last period was at chance."""
        if len(self.means) < self.limits.chance_epochs:
            return None
        last = self.total / self.steps if self.steps else self.means[-1]
        if abs(last - self.chance) > self.limits.chance_margin * self.chance and last < self.untrained:
            return None
        return (
            f"the loss ended no better than chance at step {step}: a mean of {last:.4f} over the last "
            f"{self.steps or self.period} steps; a constant answer gets {self.chance:.4f}, the untrained network got {self.untrained:.4f}"
        )

    @property
    def period(self) -> int:
        """Return the steps of a mean: an epoch, or as many epochs as hold their part of least_steps."""
        least = self.limits.least_steps / self.limits.chance_epochs
        return self.steps_per_epoch * math.ceil(least / self.steps_per_epoch)

    def _judge(self, mean: float, *, may_stop: bool) -> None:
        """Take the mean loss of a period; only while the run `may_stop` can it be found at chance."""
        margin = self.limits.chance_margin * self.chance
        self.means = [*self.means, mean][-self.limits.chance_epochs :]
        if mean < self.chance - margin:
            self.at_chance = False
        elif may_stop and len(self.means) == self.limits.chance_epochs and min(self.means) >= self.chance - margin:
            self.at_chance = self.at_chance or mean >= self.means[0] - margin


class LossJudge:
    """Hold every step's loss, and whether its gradient was finite, against all rules."""

    def __init__(self, rules: Sequence[Rule], *, allowed_skips: int, stop: bool) -> None:
        """Take the rules, the steps in a row left out that make a crash, and whether a crash that is sure ends the run."""
        self.rules, self.allowed_skips, self.stop = rules, allowed_skips, stop
        self._skips = 0
        self._held: dict[str, tuple[int, str]] = {}

    def see(self, step: int, loss: float, skipped: bool) -> Ending | None:
        """Take a step's loss, and whether the step was left out for its gradient; return an ending that stops the run."""
        self._skips = self._skips + 1 if skipped else 0
        if not math.isfinite(loss):
            return _crash(CrashKind.NON_FINITE_LOSS, step, f"the loss was {loss} at step {step}")
        if self._skips >= self.allowed_skips:
            times = f", {self._skips} steps in a row" if self._skips > 1 else ""
            words = f"the gradient was not finite at step {step}{times}; the loss was {loss:.4g}"
            return _crash(CrashKind.NON_FINITE_GRADIENT, step, words)
        for rule in self.rules:
            reason = rule.see(step, loss)
            if reason is None:
                self._held.pop(rule.kind, None)
            elif rule.kind not in self._held:
                self._held[rule.kind] = (step, reason)
                if not self.stop:
                    logger.warning("warning: %s; verdict.stop is false: going on", reason)
        return self._standing() if self.stop else None

    def at_end(self, step: int) -> Ending | None:
        """Return the crash that the run ends with after its last step, `step`, if any."""
        for rule in self.rules:
            if (reason := rule.at_end(step)) is not None:
                self._held.setdefault(rule.kind, (step, reason))
        return self._standing()

    def _standing(self) -> Ending | None:
        """Return the crash that holds now, if any: the first that was sure."""
        if not self._held:
            return None
        kind, (step, reason) = min(self._held.items(), key=lambda item: item[1][0])
        return _crash(CrashKind(kind), step, reason)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "skips": self._skips,
            "held": {kind: list(found) for kind, found in self._held.items()},
            "rules": {rule.kind: rule.state() for rule in self.rules},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self._skips = state["skips"]
        self._held = {kind: (step, reason) for kind, (step, reason) in state["held"].items()}
        for rule in self.rules:
            rule.load_state(state["rules"][rule.kind])


def _crash(kind: CrashKind, step: int, reason: str) -> Ending:
    """Return a crash of this kind."""
    return Ending(Verdict.CRASH, reason, kind=kind, step=step)
