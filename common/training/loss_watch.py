"""Owns the watch over a run's losses: read from the devices late and in blocks, held against all rules, the first crash told."""

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.training.divergence import ChanceRule, EndRule, ExplosionRule, Rule
from common.training.run import Run
from common.training.status import CrashKind, Ending, SupervisedVerdictConfig, Verdict, VerdictConfig

logger = logging.getLogger(__name__)

READ_EVERY = 16
"""Steps between two readings of the device. A crash costs at most so many steps more, a reading the wait for one step."""


class LossJudge:
    """Hold every step's loss, and whether its gradient was finite, against all rules."""

    def __init__(self, rules: Sequence[Rule], *, allowed_skips: int, stop: bool) -> None:
        """Take the rules, the steps in a row left out that make a crash, and whether a crash that is sure ends the run."""
        self.rules, self.allowed_skips, self.stop = rules, allowed_skips, stop
        self._skips = 0
        self._held: dict[str, tuple[int, str]] = {}
        """By the rule's name: the step at which a crash that still holds was sure, and the reason."""

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
                self._held.pop(rule.name, None)
            elif rule.name not in self._held:
                self._held[rule.name] = (step, reason)
                if not self.stop:
                    logger.warning("warning: %s; verdict.stop is false: going on", reason)
        return self._standing() if self.stop else None

    def at_end(self, step: int) -> Ending | None:
        """Return the crash that the run ends with after its last step, `step`, if any."""
        reasons = ((rule, rule.at_end(step)) for rule in self.rules)
        at_end = (_crash(rule.kind, step, reason) for rule, reason in reasons if reason is not None)
        return self._standing() or next(at_end, None)

    def _standing(self) -> Ending | None:
        """Return the crash that holds now, if any: the first that was sure."""
        endings = [_crash(rule.kind, *self._held[rule.name]) for rule in self.rules if rule.name in self._held]
        return min(endings, key=lambda ending: ending.step or 0, default=None)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        return {
            "skips": self._skips,
            "held": {name: list(found) for name, found in self._held.items()},
            "rules": {rule.name: rule.state() for rule in self.rules},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self._skips = state["skips"]
        self._held = {name: (step, reason) for name, (step, reason) in state["held"].items()}
        for rule in self.rules:
            rule.load_state(state["rules"][rule.name])


class LossWatch:
    """Bring the losses from the devices to the judge, late and in blocks, so that no step waits for its own loss.

    At every `READ_EVERY`th step all losses but the newest are read, at an epoch's last step all. Which step that is depends on
    the step's number alone and the losses are means over all processes: every process comes to the same verdict at the
    same step, and so does a run that was interrupted.
    """

    def __init__(self, judge: LossJudge, run: Run, *, steps_per_epoch: int) -> None:
        self.judge, self.run, self.steps_per_epoch = judge, run, steps_per_epoch
        self._rows: list[tuple[int, Tensor]] = []
        """Step and, on the device, this process's loss and 1.0 where the step was left out."""
        self._read: list[tuple[int, float, float]] = []
        """The same as floats, means over all processes; not judged yet."""

    def see(self, step: int, loss: Tensor, skipped: Tensor) -> Ending | None:
        """Take the loss of `step`, counted from 1, and 1.0 when it was left out; return an ending that stops the run."""
        self._rows.append((step, torch.stack([loss.detach().float(), skipped.float()])))
        last = step % self.steps_per_epoch == 0
        if not last and step % READ_EVERY:
            return None
        return self._judge(leave=0 if last else 1)

    def flush(self) -> Ending | None:
        """Judge every loss taken so far, as `see` does; before a checkpoint, so that none is of a run that has crashed."""
        return self._judge(leave=0)

    def _judge(self, *, leave: int) -> Ending | None:
        """Read all losses but the newest `leave` and return an ending that stops the run; every process calls it."""
        self._fetch(leave=leave)
        judged, self._read = self._read, []
        endings = (self.judge.see(step, loss, skipped > 0) for step, loss, skipped in judged)
        return next((ending for ending in endings if ending), None)

    def at_end(self, step: int) -> Ending | None:
        """Return the crash that the run ends with after its last step, `step`; none when it is well."""
        ending = self.judge.at_end(step)
        return ending and replace(ending, complete=True)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold. Every process calls it: losses not read yet are read, and not yet judged."""
        self._fetch(leave=0)
        return {"judge": self.judge.state(), "read": [list(row) for row in self._read]}

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self.judge.load_state(state["judge"])
        self._rows = []
        self._read = [(step, loss, skipped) for step, loss, skipped in state["read"]]

    def _fetch(self, *, leave: int) -> None:
        """Bring all rows but the newest `leave` to the host, as means over the processes."""
        count = len(self._rows) - leave
        ready, self._rows = self._rows[:count], self._rows[count:]
        if ready:
            means = self.run.accelerator.reduce(torch.stack([row for _, row in ready]), reduction="mean").tolist()
            self._read += [(step, loss, skipped) for (step, _), (loss, skipped) in zip(ready, means, strict=True)]


def _crash(kind: CrashKind, step: int, reason: str) -> Ending:
    """Return a crash of this kind."""
    return Ending(Verdict.CRASH, reason, kind=kind, step=step)


def watch_supervised(
    limits: SupervisedVerdictConfig,
    run: Run,
    *,
    chance: float | None,
    num_steps: int,
    steps_per_epoch: int,
    warmup_epochs: float,
) -> LossWatch:
    """Return the watch of a supervised run. `chance` is `chance_loss`; none leaves the non-finite rules alone."""
    rules: list[Rule] = []
    if chance:
        size: dict[str, Any] = {"limits": limits, "chance": chance, "steps_per_epoch": steps_per_epoch}
        rules = [
            ExplosionRule(**size),
            ChanceRule(warmup_epochs=warmup_epochs, num_steps=num_steps, **size),
            EndRule(warmup_epochs=warmup_epochs, **size),
        ]
    return _watch(limits, run, rules, steps_per_epoch)


def watch_distillation(limits: VerdictConfig, run: Run, *, outputs: int, steps_per_epoch: int) -> LossWatch:
    """Return the watch of a DINO run with `outputs` codes, K: chance is ln K. Losses that stay there are for `judge_teacher`."""
    chance = math.log(outputs)
    rules = [ExplosionRule(limits=limits, chance=chance, steps_per_epoch=steps_per_epoch)] if chance else []
    return _watch(limits, run, rules, steps_per_epoch)


def _watch(limits: VerdictConfig, run: Run, rules: Sequence[Rule], steps_per_epoch: int) -> LossWatch:
    """Return a watch with these rules."""
    judge = LossJudge(rules, allowed_skips=limits.allowed_skips(run.train.precision), stop=limits.stop)
    return LossWatch(judge, run, steps_per_epoch=steps_per_epoch)


def chance_loss(labels: npt.NDArray[np.int64], num_classes: int, smoothing: float) -> float:
    """Return the cross-entropy, in nats, of the best constant answer to these labels: the entropy of the mean target.

    With p_c the share of class c, the mean smoothed target is t_c = (1 - smoothing) * p_c + smoothing / C, and the loss is
    -sum_c t_c ln t_c: ln C when the classes are balanced. mixup and cutmix exchange targets between two images of one
    batch, which leaves the mean target, and so this number, as it is.
    """
    shares = np.bincount(labels, minlength=num_classes) / max(len(labels), 1)
    target = (1 - smoothing) * shares + smoothing / num_classes
    used = target[target > 0]
    return float(-(used * np.log(used)).sum())
