"""Owns verdicts: how a run ended, told apart by thresholds whose reasons stand beside them. A verdict is a result."""

import math
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Verdict(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    CRASH = "crash"
    """The papers' word for a run that diverged."""
    COLLAPSED_UNIFORM = "collapsed_uniform"
    COLLAPSED_ONE_CODE = "collapsed_one_code"
    INTERRUPTED = "interrupted"


UNIFORM_SHARE = 0.99
"""Share of ln K above which the teacher's entropy counts as uniform. A learning teacher at temperature 0.04 to 0.07 is far
below; a collapsed one sits at 1.000."""
LEARNT_KL = 0.01
"""KL in nats under which student and teacher say the same whatever the view: no signal is left. Runs that learn stay above 0.1."""
ONE_CODE_SHARE = 0.02
"""Share of ln K under which the entropy of the mean code means that all images fall on one code."""


@dataclass(frozen=True)
class Ending:
    """A verdict with its evidence."""

    verdict: Verdict
    reason: str
    step: int | None = None
    """Step, counted from 1, at which a crash was sure; none where it is the last step trained."""


def judge_loss(loss: float, step: int) -> Ending | None:
    """Return a crash when a loss is not finite."""
    if math.isfinite(loss):
        return None
    return Ending(Verdict.CRASH, f"the loss was {loss} at step {step}", step=step)


class LossWatch:
    """Look at every loss one step late, so that the device is never waited for within a step."""

    def __init__(self) -> None:
        self._pending: tuple[int, Tensor] | None = None

    def see(self, step: int, loss: Tensor) -> Ending | None:
        """Take the loss of `step` and return the verdict on the step before."""
        ending = self.flush()
        self._pending = (step, loss.detach())
        return ending

    def flush(self) -> Ending | None:
        """Return the verdict on the last loss taken."""
        pending, self._pending = self._pending, None
        return None if pending is None else judge_loss(float(pending[1]), pending[0])


def judge_teacher(*, entropy: float, kl: float, code_entropy: float, outputs: int) -> Ending:
    """Return how DINO's teacher stands, from the means of its last epoch.

    `entropy`, `kl` and `code_entropy` as in `pretrain.loss.LossParts`, in nats; `outputs` is K.
    """
    ceiling = math.log(outputs)
    if entropy > UNIFORM_SHARE * ceiling and kl < LEARNT_KL:
        return Ending(
            Verdict.COLLAPSED_UNIFORM,
            f"teacher entropy {entropy:.4f} of ln K = {ceiling:.4f}, KL {kl:.2e}: all codes alike",
        )
    if code_entropy < ONE_CODE_SHARE * ceiling:
        return Ending(
            Verdict.COLLAPSED_ONE_CODE,
            f"entropy of the mean code {code_entropy:.4f} of ln K = {ceiling:.4f}: every image falls on one code",
        )
    return Ending(
        Verdict.FINISHED,
        f"teacher entropy {entropy:.2f} of ln K = {ceiling:.2f}, KL {kl:.3f}, mean code {code_entropy:.2f}",
    )
