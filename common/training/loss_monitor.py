"""Detection of divergence in a run's losses, which are read from the device late and in blocks."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.training.divergence import ChanceLevelRule, DivergenceRule, FinalLossRule, LossReboundRule
from common.training.run import Run
from common.training.status import DivergenceKind, RunOutcome, RunStatus, StatusConfig, SupervisedStatusConfig

logger = logging.getLogger(__name__)

READ_EVERY = 16
"""Steps between two reads from the device. A divergence costs at most that many extra steps, a read waits for one step."""


class DivergenceDetector:
    """Checks the loss of every step, and whether its gradient was finite, against all rules."""

    def __init__(self, rules: Sequence[DivergenceRule], *, allowed_skips: int, stop: bool) -> None:
        """Take the rules, the number of consecutive skipped steps that is a divergence, and whether a certain one stops the run."""
        self.rules, self.allowed_skips, self.stop = rules, allowed_skips, stop
        self._skips = 0
        self._detected: dict[str, tuple[int, str]] = {}
        """By the rule's name: the step at which a divergence that persists was certain, and the reason."""

    def update(self, step: int, loss: float, skipped: bool) -> RunOutcome | None:
        """Update with a step's loss, and whether the step was skipped for its gradient; return an outcome that stops the run."""
        self._skips = self._skips + 1 if skipped else 0
        if not math.isfinite(loss):
            return _diverged(DivergenceKind.NON_FINITE_LOSS, step, f"the loss was {loss} at step {step}")
        if self._skips >= self.allowed_skips:
            times = f", {self._skips} consecutive steps" if self._skips > 1 else ""
            reason = f"the gradient was not finite at step {step}{times}; the loss was {loss:.4g}"
            return _diverged(DivergenceKind.NON_FINITE_GRADIENT, step, reason)
        for rule in self.rules:
            detected = rule.update(step, loss)
            if detected is None:
                self._detected.pop(rule.name, None)
            elif rule.name not in self._detected:
                self._detected[rule.name] = (step, detected)
                if not self.stop:
                    logger.warning("warning: %s; training continues since status.stop is false", detected)
        return self._current() if self.stop else None

    def finalize(self, step: int) -> RunOutcome | None:
        """Return the divergence that the run ends with after its last step, `step`, if any."""
        reasons = ((rule, rule.finalize(step)) for rule in self.rules)
        final = (_diverged(rule.kind, step, reason) for rule, reason in reasons if reason is not None)
        return self._current() or next(final, None)

    def _current(self) -> RunOutcome | None:
        """Return the divergence that persists now, if any: the first that was certain."""
        outcomes = [
            _diverged(rule.kind, *self._detected[rule.name]) for rule in self.rules if rule.name in self._detected
        ]
        return min(outcomes, key=lambda outcome: outcome.step or 0, default=None)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "skips": self._skips,
            "detected": {name: list(entry) for name, entry in self._detected.items()},
            "rules": {rule.name: rule.state_dict() for rule in self.rules},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._skips = state["skips"]
        self._detected = {name: (step, reason) for name, (step, reason) in state["detected"].items()}
        for rule in self.rules:
            rule.load_state_dict(state["rules"][rule.name])


class LossMonitor:
    """Passes the losses from the device to the detector late and in blocks, so that no step waits for its own loss.

    At every `READ_EVERY`th step all losses except the newest are read, at the last step of an epoch all of them. These steps depend
    on the step number only, and the losses are means over all processes: all processes get the same outcome at the same step, and
    so does a run that was interrupted.
    """

    def __init__(self, detector: DivergenceDetector, run: Run, *, steps_per_epoch: int) -> None:
        self.detector, self.run, self.steps_per_epoch = detector, run, steps_per_epoch
        self._rows: list[tuple[int, Tensor]] = []
        """Step and, on the device, this process's loss and 1.0 if the step was skipped."""
        self._read: list[tuple[int, float, float]] = []
        """The same as floats, means over all processes; not passed to the detector yet."""

    def update(self, step: int, loss: Tensor, skipped: Tensor) -> RunOutcome | None:
        """Take the loss of `step`, counted from 1, and 1.0 if it was skipped; return an outcome that stops the run."""
        self._rows.append((step, torch.stack([loss.detach().float(), skipped.float()])))
        is_last = step % self.steps_per_epoch == 0
        if not is_last and step % READ_EVERY:
            return None
        return self._detect(num_newest=0 if is_last else 1)

    def flush(self) -> RunOutcome | None:
        """Check all losses taken so far, as `see` does; called before a checkpoint, so that none is saved after a divergence."""
        return self._detect(num_newest=0)

    def _detect(self, *, num_newest: int) -> RunOutcome | None:
        """Read all losses except the newest and return an outcome that stops the run; every process calls it."""
        self._fetch(num_newest=num_newest)
        read, self._read = self._read, []
        outcomes = (self.detector.update(step, loss, skipped > 0) for step, loss, skipped in read)
        return next((outcome for outcome in outcomes if outcome), None)

    def finalize(self, step: int) -> RunOutcome | None:
        """Return the divergence that the run ends with after its last step, `step`; None if it has not diverged."""
        outcome = self.detector.finalize(step)
        return outcome and replace(outcome, complete=True)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it. Pending losses are read, but not yet checked."""
        self._fetch(num_newest=0)
        return {"detector": self.detector.state_dict(), "read": [list(row) for row in self._read]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.detector.load_state_dict(state["detector"])
        self._rows = []
        self._read = [(step, loss, skipped) for step, loss, skipped in state["read"]]

    def _fetch(self, *, num_newest: int) -> None:
        """Copy all rows except the newest to the host, as means over the processes."""
        count = len(self._rows) - num_newest
        ready, self._rows = self._rows[:count], self._rows[count:]
        if ready:
            means = self.run.accelerator.reduce(torch.stack([row for _, row in ready]), reduction="mean").tolist()
            self._read += [(step, loss, skipped) for (step, _), (loss, skipped) in zip(ready, means, strict=True)]


def _diverged(kind: DivergenceKind, step: int, reason: str) -> RunOutcome:
    """Return the outcome of a divergence."""
    return RunOutcome(RunStatus.DIVERGED, reason, kind=kind, step=step)


def monitor_supervised_loss(
    limits: SupervisedStatusConfig,
    run: Run,
    *,
    precision: str,
    chance: float | None,
    num_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
) -> LossMonitor:
    """Return the watch of a supervised run. `chance` is `chance_loss`; with none, only non-finite values are a divergence."""
    rules: list[DivergenceRule] = []
    if chance:
        shared: dict[str, Any] = {"limits": limits, "chance": chance, "steps_per_epoch": steps_per_epoch}
        rules = [
            LossReboundRule(**shared),
            ChanceLevelRule(warmup_epochs=warmup_epochs, num_steps=num_steps, **shared),
            FinalLossRule(warmup_epochs=warmup_epochs, **shared),
        ]
    return _watch(limits, run, rules, precision, steps_per_epoch)


def monitor_dino_loss(
    limits: StatusConfig, run: Run, *, precision: str, out_dim: int, steps_per_epoch: int
) -> LossMonitor:
    """Return the watch of a DINO run with `out_dim` prototypes, K: chance is ln K. `teacher_status` covers losses at chance."""
    chance = math.log(out_dim)
    rules = [LossReboundRule(limits=limits, chance=chance, steps_per_epoch=steps_per_epoch)] if chance else []
    return _watch(limits, run, rules, precision, steps_per_epoch)


def _watch(
    limits: StatusConfig, run: Run, rules: Sequence[DivergenceRule], precision: str, steps_per_epoch: int
) -> LossMonitor:
    """Return a watch with these rules."""
    detector = DivergenceDetector(rules, allowed_skips=limits.allowed_skips(precision), stop=limits.stop)
    return LossMonitor(detector, run, steps_per_epoch=steps_per_epoch)


def chance_loss(labels: npt.NDArray[np.int64], num_classes: int, smoothing: float) -> float:
    """Return the cross-entropy, in nats, of the best constant prediction for these labels: the entropy of the mean target.

    With p_c the fraction of class c, the mean smoothed target is t_c = (1 - smoothing) * p_c + smoothing / C, and the loss is
    -sum_c t_c ln t_c: ln C for balanced classes. mixup and cutmix exchange targets between two images of a batch, which does not
    change the mean target, and so not this number.
    """
    fractions = np.bincount(labels, minlength=num_classes) / max(len(labels), 1)
    target = (1 - smoothing) * fractions + smoothing / num_classes
    used = target[target > 0]
    return float(-(used * np.log(used)).sum())
