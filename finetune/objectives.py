"""The interface of training objectives: each provides its network, sampler, transform, loss and evaluation.

Every objective is a module of this package (`classification.py`, ...). The training loop in `train.py` uses only this interface.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from common.data.loading.loader import Batch, BatchTransform
from common.data.loading.sampler import Sampler
from common.data.reid.identities import IdentitySplits
from common.data.splits.roles import Splits
from common.data.token_labels.reader import TokenLabelSource
from common.errors import UserError
from common.evaluation.supervised_monitor import SupervisedMonitor
from common.training.run import Run
from finetune.classification import Classification
from finetune.config import FinetuneConfig
from finetune.reid.objective import ReidObjective
from finetune.token_labels import TokenLabels


class Objective(Protocol):
    """A training objective: network, sampling, transform, loss and evaluation."""

    supports_micro_batches: bool
    """Whether `loss` is a mean over images, so that a batch can be split into micro-batches (`train.micro_batch_size`)."""

    @property
    def token_labels(self) -> TokenLabelSource | None:
        """Return the source of token labels for the loader, or none."""
        ...

    def build_network(self) -> nn.Module:
        """Build the network with the heads that the loss needs and load `init`. Seed torch's generator first."""
        ...

    def build_sampler(self, *, rank: int, num_processes: int) -> Sampler:
        """Return the sampler of this process."""
        ...

    def build_transform(self) -> BatchTransform:
        """Return the training transform of a batch of images."""
        ...

    def build_monitor(self, run: Run) -> SupervisedMonitor:
        """Return the monitor: mean loss, and evaluation on the validation and test images."""
        ...

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return the inputs of `loss` for a batch on the device; drawn once per step, so that both passes of SAM use the same."""
        ...

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss with one forward call of `model`. For a micro-batch, `inputs` are rows of the batch's inputs."""
        ...

    def chance(self) -> float | None:
        """Return the chance-level loss in nats, with which the divergence rules compare the loss; none if undefined."""
        ...

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Export the trained network as a folder that timm loads."""
        ...


_OBJECTIVES: dict[str, Callable[[FinetuneConfig, Splits], Objective]] = {
    "classification": Classification,
    "token_labels": TokenLabels,
}


def build_objective(config: FinetuneConfig, splits: Splits) -> Objective:
    """Return the objective of a recipe; raise UserError if the data or another key does not support it."""
    objective = _build(config, splits)
    if config.train.micro_batch_size and not objective.supports_micro_batches:
        raise UserError(
            f"train.micro_batch_size = {config.train.micro_batch_size}: this loss compares the images of a batch with each "
            "other, so it is not a mean over parts. Set train.micro_batch_size=none and a smaller train.batch_size."
        )
    return objective


def _build(config: FinetuneConfig, splits: Splits) -> Objective:
    """Return the objective of a recipe; raise UserError if the data does not support it."""
    source = f"data.source '{config.data.source}'"
    if config.objective == "reid":
        if not isinstance(splits, IdentitySplits):
            raise UserError(
                f"objective: reid requires identity and camera labels, but {source} has class labels. Set data.source to"
                " a folder in the layout of Market-1501 or MSMT17, or to 'digits_identities'."
            )
        return ReidObjective(config, splits)
    if isinstance(splits, IdentitySplits):
        raise UserError(
            f"objective: {config.objective} requires test images of the training classes, but {source} tests other identities."
            " Set objective=reid."
        )
    return _OBJECTIVES[config.objective](config, splits)
