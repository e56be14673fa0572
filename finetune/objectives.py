"""Owns the seam between the loop and what a network learns: an objective brings its data, its loss and its judge.

An objective is one module beside this one (`classification.py`, ...). The loop of `train.py` knows nothing but these members.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor, nn

from common.data.dense_labels import DenseLabelSource
from common.data.loader import Batch, View
from common.data.sampler import EpochSampler
from common.data.splits import Splits
from common.training.run import Run
from finetune.classification import Classification
from finetune.config import FinetuneConfig
from finetune.monitor import Monitor
from finetune.token_labels import TokenLabels


class Objective(Protocol):
    """What a network learns: from which images in which order, by which loss, and how it is judged."""

    @property
    def dense_labels(self) -> DenseLabelSource | None:
        """Return what the loader reads for each place of an image, or none."""
        ...

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
        """Return the mean loss of `inputs` by one call of `model`'s forward."""
        ...

    def chance(self) -> float | None:
        """Return the loss, in nats, of one who knows nothing: what a crash is measured by; none where there is no such number."""
        ...


_OBJECTIVES: dict[str, Callable[[FinetuneConfig, Splits], Objective]] = {
    "classification": Classification,
    "token_labels": TokenLabels,
}


def build_objective(config: FinetuneConfig, splits: Splits) -> Objective:
    """Return the objective of a recipe."""
    return _OBJECTIVES[config.objective](config, splits)
