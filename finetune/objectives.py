"""Owns the seam between the loop and what a network learns: an objective brings its data, its loss and its judge.

An objective is one module beside this one (`classification.py`, ...). The loop of `train.py` knows nothing but these members.
"""

from typing import Protocol

from torch import Tensor, nn

from common.data.loader import Batch, View
from common.data.sampler import EpochSampler
from common.data.splits import Splits
from common.training.run import Run
from finetune.classification import Classification
from finetune.config import FinetuneConfig
from finetune.monitor import Monitor


class Objective(Protocol):
    """What a network learns: from which images in which order, by which loss, and how it is judged."""

    divisible: bool
    """Whether `loss` is a mean over images, so that a batch may go through in parts (`train.micro_batch`)."""

    def build_network(self) -> nn.Module:
        """Return the network with whatever the loss needs on top, started from `init`. Seed torch's generator first."""
        ...

    def build_sampler(self, *, rank: int, num_processes: int) -> EpochSampler:
        """Return the order of this process's samples, epoch by epoch."""
        ...

    def build_view(self) -> View:
        """Return what turns the images of a batch into training views."""
        ...

    def build_monitor(self, run: Run) -> Monitor:
        """Return what looks at the run: the mean loss, the validation and test images."""
        ...

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return what a step needs of a batch on the device; drawn once, used by both passes of SAM."""
        ...

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of `inputs` by one call of `model`'s forward. With a micro-batch `inputs` are rows of a batch's."""
        ...


def build_objective(config: FinetuneConfig, splits: Splits) -> Objective:
    """Return the objective of a recipe."""
    return Classification(config, splits)
