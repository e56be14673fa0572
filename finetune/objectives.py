"""Owns the seam between the loop and what a network learns: an objective brings its data, its loss and its judge.

An objective is one module beside this one (`classification.py`, ...). The loop of `train.py` knows nothing but these members.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from common.data.loading.loader import Batch, View
from common.data.loading.sampler import Sampler
from common.data.reid.identities import IdentitySplits
from common.data.splits.roles import Splits
from common.data.token_labels.files import DenseLabelSource
from common.errors import UserError
from common.evaluation.classifier_monitor import ClassifierMonitor
from common.training.run import Run
from finetune.classification import Classification
from finetune.config import FinetuneConfig
from finetune.reid.objective import Identification
from finetune.token_labels import TokenLabels


class Objective(Protocol):
    """What a network learns: from which images in which order, by which loss, and how it is judged."""

    divisible: bool
    """Whether `loss` is a mean over images, so that a batch may go through in parts (`train.micro_batch`)."""

    @property
    def dense_labels(self) -> DenseLabelSource | None:
        """Return what the loader reads for each place of an image, or none."""
        ...

    def build_network(self) -> nn.Module:
        """Return the network with whatever the loss needs on top, started from `init`. Seed torch's generator first."""
        ...

    def build_sampler(self, *, rank: int, num_processes: int) -> Sampler:
        """Return the order of this process's samples, epoch by epoch."""
        ...

    def build_view(self) -> View:
        """Return what turns the images of a batch into training views."""
        ...

    def build_monitor(self, run: Run) -> ClassifierMonitor:
        """Return what looks at the run: the mean loss, the validation and test images."""
        ...

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return what a step needs of a batch on the device; drawn once, used by both passes of SAM."""
        ...

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of `inputs` by one call of `model`'s forward. With a micro-batch `inputs` are rows of a batch's."""
        ...

    def chance(self) -> float | None:
        """Return the loss, in nats, of one who knows nothing: what a crash is measured by; none where there is no such number."""
        ...

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Write the trained network as a folder that timm loads."""
        ...


_OBJECTIVES: dict[str, Callable[[FinetuneConfig, Splits], Objective]] = {
    "classification": Classification,
    "token_labels": TokenLabels,
}


def build_objective(config: FinetuneConfig, splits: Splits) -> Objective:
    """Return the objective of a recipe; raise UserError where the images are not of its kind."""
    source = f"data.source '{config.data.source}'"
    if config.objective == "identification":
        if not isinstance(splits, IdentitySplits):
            raise UserError(
                f"objective: identification needs to know who is seen by which camera, and {source} holds images of classes."
                " Name a folder in the layout of Market-1501 or MSMT17, or 'digits_identities'."
            )
        return Identification(config, splits)
    if isinstance(splits, IdentitySplits):
        raise UserError(
            f"objective: {config.objective} is judged by images of the classes it was trained on, and the identities that"
            f" {source} tests are others. Set objective=identification."
        )
    return _OBJECTIVES[config.objective](config, splits)
