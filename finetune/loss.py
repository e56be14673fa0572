"""Cross-entropy for classes of unequal frequency: class weights and logit adjustment, from the counts of the training images.

Shapes: B images, N tokens, C classes.
"""

from collections.abc import Iterator
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.config import Config, default_of
from common.config_messages import Otherwise
from common.config_types import NonNegative
from common.data.sources.split import Split
from common.errors import UserError, quoted
from common.training.loss_monitor import chance_loss

_Beta = Annotated[float, Field(ge=0, lt=1), Otherwise("must lie in [0, 1).")]


class LossConfig(Config):
    """Correction of the cross-entropy for frequent and rare classes, counted in the training images that are used."""

    class_weights: Literal["none", "balanced", "effective_number"] = "none"
    """Weight of each class in the loss. balanced: proportional to 1 / n for a class of n images. effective_number: proportional to
    (1 - beta) / (1 - beta^n) (Cui et al. 2019). The weights' mean over the training images is 1."""
    beta: _Beta = 0.9999
    """Beta of effective_number: 0 weights all classes alike, 1 would be balanced."""
    logit_adjustment: NonNegative = 0.0
    """Tau of logit adjustment (Menon et al. 2021): tau * ln(fraction of the class) is added to each logit, in training only. 1
    minimizes the balanced error; 0 = none."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for keys that contradict each other."""
        if self.logit_adjustment and self.class_weights != "none":
            yield (
                "logit_adjustment",
                f"{self.logit_adjustment:g}, and class_weights is {self.class_weights}: both correct for the frequencies of the"
                " classes. Set only one of them.",
            )
        if self.beta != default_of(LossConfig, "beta") and self.class_weights != "effective_number":
            yield (
                "beta",
                f"{self.beta:g}, but class_weights is {self.class_weights}. Remove it, or set effective_number.",
            )


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in float32 over images (B, C), or over images and tokens (B, N, C), with soft targets.

    That of a row is -sum_c target_c ln p_c, for targets of any sum. The sum is divided by the number of rows, as PyTorch does for
    soft targets, not by the sum of their weights: the mean of micro-batches and of processes is then that of the batch.
    """
    # One sum per row, then the mean: reduction="mean" sums over everything at once, with other rounding.
    return cross_entropy(logits.float().flatten(0, -2), targets.flatten(0, -2), reduction="none").mean()


class ClassificationLoss:
    """Cross-entropy with soft targets, with the class weights or the logit adjustment of a recipe.

    Both correct the labels alone. What `augment.label_smoothing` spreads over the classes is no observation of them: weighted with
    them, a rare class would have more of an image's target than the image's own class. With weights it is spread evenly and has the
    weight of the label; with logit adjustment, in proportion to what is added to the probabilities, so that it is even without it.
    """

    def __init__(self, config: LossConfig, train: Split, *, smoothing: float) -> None:
        """Take the training images and the smoothing of the targets; raise UserError if a class has none and must have some."""
        self.smoothing = smoothing
        self.weights_C: Tensor | None = None
        self.adjustment_C: Tensor | None = None
        if config == LossConfig():
            return
        assert train.labels is not None
        counts = _count(train, "class_weights" if config.class_weights != "none" else "logit_adjustment")
        if config.class_weights != "none":
            beta = config.beta if config.class_weights == "effective_number" else None
            self.weights_C = torch.tensor(class_weights(counts, beta), dtype=torch.float32)
        if config.logit_adjustment:
            adjustment = config.logit_adjustment * np.log(counts / counts.sum())
            self.adjustment_C = torch.tensor(adjustment, dtype=torch.float32)
        even = torch.zeros(len(counts)) if self.adjustment_C is None else self.adjustment_C
        self.spread_C = even.softmax(0)

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean over images (B, C), or over images and tokens (B, N, C), of smoothed targets."""
        if self.weights_C is None and self.adjustment_C is None:
            return soft_cross_entropy(logits, targets)
        if self.adjustment_C is not None:
            self.adjustment_C = self.adjustment_C.to(logits.device)
            logits = logits.float() + self.adjustment_C
        labels = (targets - self.smoothing / targets.shape[-1]) / (1 - self.smoothing)
        return soft_cross_entropy(logits, self._corrected(labels))

    def chance(self, labels: npt.NDArray[np.int64], num_classes: int) -> float:
        """Return the loss of the best constant prediction: -sum_c a_c ln(a_c / sum a), where a is the mean corrected target.

        A constant added to the logits of a constant prediction gives another one, so that logit adjustment adds nothing to it.
        """
        if self.weights_C is None and self.adjustment_C is None:
            return chance_loss(labels, num_classes, self.smoothing)
        mean = self._corrected(torch.from_numpy(np.bincount(labels, minlength=num_classes) / len(labels))).double()
        return float(-(mean * (mean / mean.sum()).log()).sum())

    def _corrected(self, labels: Tensor) -> Tensor:
        """Return the weighted, smoothed targets of labels (..., C) without smoothing."""
        if self.weights_C is not None:
            self.weights_C = self.weights_C.to(labels.device)
            labels = labels * self.weights_C
        self.spread_C = self.spread_C.to(labels.device)
        return (1 - self.smoothing) * labels + self.smoothing * labels.sum(-1, keepdim=True) * self.spread_C


def class_weights(counts_C: npt.NDArray[np.int64], beta: float | None) -> npt.NDArray[np.float64]:
    """Return weights proportional to 1 / n, or with a beta to (1 - beta) / (1 - beta^n), whose mean over the images is 1."""
    weights = 1 / counts_C if beta is None else (1 - beta) / (1 - beta**counts_C)
    normalized: npt.NDArray[np.float64] = weights * counts_C.sum() / (weights * counts_C).sum()
    return normalized


def _count(train: Split, key: str) -> npt.NDArray[np.int64]:
    """Return the number of training images of each class; raise UserError if one has none."""
    counts = train.class_counts()
    absent = [name for name, count in counts.items() if count == 0]
    if absent:
        raise UserError(
            f"loss.{key}: {len(absent)} of the {len(counts)} classes have no training image, so their frequency is 0:"
            f" {quoted(absent)}. Use images of all classes (data.subset_file), or remove the key."
        )
    return np.array(list(counts.values()), dtype=np.int64)
