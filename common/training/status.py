"""Statuses: how a run ended, and the thresholds that distinguish the outcomes, each with its rationale. A status is a result."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import AtLeastOne, Fraction, NonNegative, Positive

_ReboundShare = Annotated[float, Field(gt=0, lt=2), Otherwise("must lie in (0, 2); 1 is everything that was learned.")]


class RunStatus(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    """Printed as `crash` in the papers' tables."""
    COLLAPSED_UNIFORM = "collapsed_uniform"
    COLLAPSED_ONE_PROTOTYPE = "collapsed_one_prototype"
    INTERRUPTED = "interrupted"


class DivergenceKind(StrEnum):
    """Kinds of divergence."""

    NON_FINITE_LOSS = "non_finite_loss"
    NON_FINITE_GRADIENT = "non_finite_gradient"
    NON_FINITE_OUTPUT = "non_finite_output"
    """The trained network's outputs for validation or test images are not finite, such as in fp16."""
    CHANCE_LEVEL = "chance_level"
    """The loss never fell below that of a constant prediction."""
    LOSS_REBOUND = "loss_rebound"
    """The loss rose back to chance level after the network had learned, and stayed there."""


@dataclass(frozen=True)
class RunOutcome:
    """A status with its evidence."""

    status: RunStatus
    reason: str
    """The evidence in plain words, with step and numbers."""
    kind: DivergenceKind | None = None
    """Kind of divergence; none for every other status."""
    step: int | None = None
    """Step, counted from 1, at which a divergence was certain; none = the last step trained."""
    complete: bool = False
    """Whether every step was trained, so that there is a network to test and export."""


def non_finite_output(metric: str, value: float, *, complete: bool) -> RunOutcome:
    """Return the outcome of a run whose last evaluation has a metric that is not finite: accuracies would be of one class."""
    reason = (
        f"{metric} is {value}: outputs of the network are not finite, so that no metric means anything. Try"
        " train.precision=fp32, or a lower optim.lr."
    )
    return RunOutcome(RunStatus.DIVERGED, reason, kind=DivergenceKind.NON_FINITE_OUTPUT, complete=complete)


class StatusConfig(Config):
    """When a run counts as diverged: criteria of every stage.

    Below, `chance` is the loss of an uninformative prediction: in supervised training the cross-entropy of the best constant
    prediction (ln of the number of classes, if they are balanced), in DINO ln K, the loss of a student with uniform outputs.
    """

    stop: bool = True
    """Whether a run stops as soon as its divergence is certain. false trains to the last step, tests and exports; the status is
    `diverged` if the loss has not recovered by then. A non-finite loss or gradient ends the run in any case: there is no valid
    state to resume from, and the papers' official programs stop there, too."""
    skipped_steps: AtLeastOne | None = None
    """Number of consecutive steps skipped for a non-finite gradient that counts as a divergence. none = 1, and 32 under fp16:
    there a step is skipped whenever the gradient scale is too large, and the scale is halved; after 32 halvings even a scale of
    2^24 is 1/256, at which no gradient of a healthy network overflows."""
    min_steps: AtLeastOne = 100
    """Minimum number of steps that the loss must stay high to count as a rebound, and that a run needs after its warm-up for a
    status at its end, however many epochs they are. Few images make epochs of one step: a hundred steps move any network that can
    still learn."""
    smoothing_steps: AtLeastOne = 20
    """Steps of the exponential moving average of the loss that `status.rebound_share` applies to: mixed images and small batches
    change the loss of a single step by half its value."""
    learned_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of chance by which the smoothed loss must have fallen before a rise counts as a rebound: less may be noise."""
    rebound_share: _ReboundShare = 0.9
    """Fraction of the decrease from chance to the lowest smoothed loss that must be lost again. At nine tenths, what was learned
    is useless; spikes that training recovers from lose less, or for a shorter time."""
    rebound_epochs: Positive = 2.0
    """Epochs that the loss must stay that high. Spikes that training recovers from are over within one."""

    def allowed_skips(self, precision: str) -> int:
        """Return the number of consecutive skipped steps that counts as a divergence under `train.precision`."""
        if self.skipped_steps is not None:
            return self.skipped_steps
        return 32 if precision == "fp16" else 1


class SupervisedStatusConfig(StatusConfig):
    """When a supervised run counts as diverged."""

    chance_epochs: AtLeastOne = 5
    """Number of consecutive epochs after the warm-up, at chance level and no longer decreasing, that counts as a divergence. A
    network that learns leaves chance level within its warm-up; five more epochs are a sixtieth of the papers' 300. A run of that
    many epochs after the warm-up that ends at chance level has also diverged."""
    chance_steps: AtLeastOne = 500
    """Minimum number of steps in these epochs; with fewer, more epochs are required. The losses of single steps differ by some
    hundredths of a nat: a slow decrease, of a hundredth per hundred steps, is significant over a few hundred steps."""
    chance_until: Annotated[
        float, Field(ge=0, le=1), Otherwise("must lie in [0, 1]; 0 checks only the end of the run.")
    ] = 0.5
    """Fraction of all steps up to which a run at chance level is stopped. Later the learning rate is below half its peak: the
    schedule may be the reason that the loss no longer decreases, and little is saved. The end of the run is checked in any case."""
    chance_margin: Annotated[float, Field(ge=0, lt=1)] = 0.002
    """Fraction of chance within which an epoch's mean loss counts as chance level. Without the image no prediction beats the best
    constant one, except by noise: some thousandths of a nat in an epoch of a thousand images. A wider margin would also count
    networks as diverged that learn slowly under mixup."""


class TeacherStatusConfig(StatusConfig):
    """When a DINO run counts as diverged or collapsed."""

    rebound_share: _ReboundShare = 1.1
    """Fraction of the decrease from ln K to the lowest smoothed loss that must be lost again. Above 1: a teacher that collapses to
    uniform brings the loss back to ln K itself, which is a status of its own; only a confidently wrong student is above ln K."""
    uniform_share: Fraction = 0.99
    """Fraction of ln K above which the teacher's entropy, averaged over the last epoch, counts as uniform. A learning teacher at
    temperature 0.04 to 0.07 is far below; a collapsed one is at 1.000."""
    uniform_kl: NonNegative = 0.01
    """KL divergence in nats below which student and teacher agree whatever the view, required in addition to
    `status.uniform_share`: no training signal remains. Runs that learn stay above 0.1."""
    one_prototype_share: Fraction = 0.02
    """Fraction of ln K below which the entropy of the mean prototype distribution means that all images are assigned to one
    prototype: with two prototypes in equal use it is 0.06 of ln K at K = 65,536, and more at any smaller K."""


def teacher_status(
    limits: TeacherStatusConfig, *, entropy: float, kl: float, prototype_entropy: float, out_dim: int
) -> RunOutcome:
    """Return the outcome of a DINO run from the teacher's means over the last epoch: finished, or one of the two collapses.

    `entropy`, `kl` and `prototype_entropy` are means of the values in `pretrain.loss.LossParts`, in nats; `out_dim` is K.
    """
    max_entropy = math.log(out_dim)
    if entropy > limits.uniform_share * max_entropy and kl < limits.uniform_kl:
        status = RunStatus.COLLAPSED_UNIFORM
        reason = f"teacher entropy {entropy:.4f} of ln K = {max_entropy:.4f}, KL {kl:.2e}: uniform over the prototypes"
    elif prototype_entropy < limits.one_prototype_share * max_entropy:
        status = RunStatus.COLLAPSED_ONE_PROTOTYPE
        reason = (
            f"entropy of the mean prototype distribution {prototype_entropy:.4f} of ln K = {max_entropy:.4f}: all images are "
            "assigned to one prototype"
        )
    else:
        status = RunStatus.FINISHED
        reason = (
            f"teacher entropy {entropy:.2f} of ln K = {max_entropy:.2f}, KL {kl:.3f}, entropy of the mean prototype "
            f"distribution {prototype_entropy:.2f}"
        )
    return RunOutcome(status=status, reason=reason, complete=True)
