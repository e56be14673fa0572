"""Owns verdicts: how a run ended, and the thresholds that tell the endings apart, each with its reason. A verdict is a result."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    CRASH = "crash"
    """The papers' word for a run that diverged."""
    COLLAPSED_UNIFORM = "collapsed_uniform"
    COLLAPSED_ONE_CODE = "collapsed_one_code"
    INTERRUPTED = "interrupted"


class CrashKind(StrEnum):
    """What a crash was."""

    NON_FINITE_LOSS = "non_finite_loss"
    NON_FINITE_GRADIENT = "non_finite_gradient"
    CHANCE_LEVEL = "chance_level"
    """The loss never became better than that of a constant answer."""
    EXPLODED = "exploded"
    """The loss rose again to where nothing is known, and stayed."""


@dataclass(frozen=True)
class Ending:
    """A verdict with its evidence."""

    verdict: Verdict
    reason: str
    """The evidence in plain words, with step and numbers."""
    kind: CrashKind | None = None
    """What a crash was; none for every other verdict."""
    step: int | None = None
    """Step, counted from 1, at which a crash was sure; none where it is the last step trained."""
    complete: bool = False
    """Whether every step was trained, so that there is a network to test and export."""


@dataclass(frozen=True, kw_only=True)
class VerdictConfig:
    """When a run counts as crashed: what holds for every stage.

    Below, `chance` is the loss of one who knows nothing: in supervised training the cross-entropy of the best constant
    answer (ln of the number of classes, for balanced ones), in DINO ln K, which a student pays that finds all codes alike.
    """

    stop: bool = True
    """Whether a run ends at the step at which its crash is sure. false trains on to the last step, tests and exports, and the
    verdict is a crash when the loss has not come back by then. A loss or gradient that is not finite ends the run in any case:
    there is nothing to go on from, and the papers' programs stop there, too."""
    skipped_steps: int | None = None
    """Steps in a row left out for a gradient that is not finite which make a crash. none = 1, and 32 under fp16: there a step
    is left out whenever the gradient scale is too large, and the scale is halved; after 32 halvings even a scale of 2^24 stands
    at 1/256, at which no gradient of a sane network overflows."""
    least_steps: int = 100
    """Steps that an exploded loss must stay high, and that a run must have after its warm-up to be judged at its end, however
    many epochs they are. Few images make epochs of one step: a hundred steps move any network that can still learn."""
    smoothing_steps: int = 20
    """Steps over which the loss is averaged, exponentially, before it is held against `verdict.exploded_share`: mixed images
    and small batches move single losses by half their value."""
    learnt_share: float = 0.1
    """Share of chance by which the smoothed loss must have fallen before a return counts as exploded: less may be noise."""
    exploded_share: float = 0.9
    """Share of the fall from chance to the lowest smoothed loss that must be lost again. Nine tenths leave no use in what was
    learnt; spikes that training survives give back less, or for less long."""
    exploded_epochs: float = 2.0
    """Epochs that the loss must stay so high. Spikes that training survives are over within one."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in ("least_steps", "smoothing_steps", "skipped_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                yield name, f"{value} must be at least 1."
        if not 0 < self.learnt_share < 1:
            yield "learnt_share", f"{self.learnt_share} must lie in (0, 1)."
        if not 0 < self.exploded_share < 2:
            yield "exploded_share", f"{self.exploded_share} must lie in (0, 2); 1 is all that was learnt."
        if self.exploded_epochs <= 0:
            yield "exploded_epochs", f"{self.exploded_epochs} must be above 0."

    def allowed_skips(self, precision: str) -> int:
        """Return the number of steps in a row left out that make a crash under `train.precision`."""
        if self.skipped_steps is not None:
            return self.skipped_steps
        return 32 if precision == "fp16" else 1


@dataclass(frozen=True, kw_only=True)
class SupervisedVerdictConfig(VerdictConfig):
    """When a supervised run counts as crashed."""

    chance_epochs: int = 5
    """Epochs in a row after the warm-up, at the loss of chance and no longer falling, that make a crash. A network that learns
    leaves chance within its warm-up; five more epochs are a sixtieth of the papers' 300. A run of so many epochs after the
    warm-up that ends at chance is a crash, too."""
    chance_steps: int = 500
    """Steps that these epochs must hold at least, else more epochs are asked for. The losses of single steps differ by some
    hundredths of a nat: a slow fall, of a hundredth for each hundred steps, stands out over a few hundred."""
    chance_until: float = 0.5
    """Share of all steps up to which a run at chance is stopped. Later the learning rate is below half its peak: a loss that no
    longer falls may be the schedule's doing, and little is saved. The end is judged in any case."""
    chance_margin: float = 0.002
    """Share of chance within which an epoch's mean loss counts as chance. Without looking at the image no answer beats the best
    constant one, but for noise: some thousandths of a nat in an epoch of a thousand images. Wider margins would call those
    crashed that learn slowly under mixup."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        yield from super().problems()
        for name in ("chance_epochs", "chance_steps"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 1."
        if not 0 <= self.chance_until <= 1:
            yield "chance_until", f"{self.chance_until} must lie in [0, 1]; 0 judges the end alone."
        if not 0 <= self.chance_margin < 1:
            yield "chance_margin", f"{self.chance_margin} must lie in [0, 1)."


@dataclass(frozen=True, kw_only=True)
class TeacherVerdictConfig(VerdictConfig):
    """When a DINO run counts as crashed or collapsed."""

    exploded_share: float = 1.1
    """Share of the fall from ln K to the lowest smoothed loss that must be lost again. Above 1: a teacher that collapses to
    uniform leads the loss back to ln K itself, and is told apart; above ln K stands only a student that is sure and wrong."""
    uniform_share: float = 0.99
    """Share of ln K above which the teacher's entropy, a mean over the last epoch, counts as uniform. A learning teacher at
    temperature 0.04 to 0.07 is far below; a collapsed one sits at 1.000."""
    uniform_kl: float = 0.01
    """KL in nats under which student and teacher say the same whatever the view, asked for beside `verdict.uniform_share`: no
    signal is left. Runs that learn stay above 0.1."""
    one_code_share: float = 0.02
    """Share of ln K under which the entropy of the mean code means that all images fall on one code: with two codes evenly in
    use it is 0.06 of ln K at K = 65,536 and more at any smaller K."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        yield from super().problems()
        for name in ("uniform_share", "one_code_share"):
            if not 0 <= getattr(self, name) <= 1:
                yield name, f"{getattr(self, name)} must lie in [0, 1]."
        if self.uniform_kl < 0:
            yield "uniform_kl", f"{self.uniform_kl} must not be negative."


def judge_teacher(
    limits: TeacherVerdictConfig, *, entropy: float, kl: float, code_entropy: float, outputs: int
) -> Ending:
    """Return how DINO's teacher stands, from the means of its last epoch.

    `entropy`, `kl` and `code_entropy` as in `pretrain.loss.LossParts`, in nats; `outputs` is K.
    """
    ceiling = math.log(outputs)
    if entropy > limits.uniform_share * ceiling and kl < limits.uniform_kl:
        verdict = Verdict.COLLAPSED_UNIFORM
        reason = f"teacher entropy {entropy:.4f} of ln K = {ceiling:.4f}, KL {kl:.2e}: all codes alike"
    elif code_entropy < limits.one_code_share * ceiling:
        verdict = Verdict.COLLAPSED_ONE_CODE
        reason = f"entropy of the mean code {code_entropy:.4f} of ln K = {ceiling:.4f}: every image falls on one code"
    else:
        verdict = Verdict.FINISHED
        reason = f"teacher entropy {entropy:.2f} of ln K = {ceiling:.2f}, KL {kl:.3f}, mean code {code_entropy:.2f}"
    return Ending(verdict=verdict, reason=reason, complete=True)
