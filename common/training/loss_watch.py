"""Owns the way of the losses from the devices to the rules of `common.training.divergence`: late, and in blocks."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.training.divergence import ChanceRule, ExplosionRule, LossJudge, Rule
from common.training.run import Run
from common.training.verdicts import Ending, SupervisedVerdictConfig, VerdictConfig

READ_EVERY = 16
"""Steps between two readings of the device. A crash costs at most so many steps more, a reading the wait for one step."""


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
        self._fetch(leave=0 if last else 1)
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
        self._read = [(step, loss, skipped) for step, loss, skipped in state["read"]]

    def _fetch(self, *, leave: int) -> None:
        """Bring all rows but the newest `leave` to the host, as means over the processes."""
        count = len(self._rows) - leave
        ready, self._rows = self._rows[:count], self._rows[count:]
        if ready:
            means = self.run.accelerator.reduce(torch.stack([row for _, row in ready]), reduction="mean").tolist()
            self._read += [(step, loss, skipped) for (step, _), (loss, skipped) in zip(ready, means, strict=True)]


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
        size: dict[str, Any] = {"chance": chance, "steps_per_epoch": steps_per_epoch}
        rules = [
            ExplosionRule(limits=limits, **size),
            ChanceRule(limits=limits, warmup_epochs=warmup_epochs, num_steps=num_steps, **size),
        ]
    return _watch(limits, run, rules, steps_per_epoch)


def watch_distillation(limits: VerdictConfig, run: Run, *, outputs: int, steps_per_epoch: int) -> LossWatch:
    """Return the watch of a DINO run with `outputs` codes, K: chance is ln K. At ln K itself a run may stand for long."""
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
