"""Owns supervised classification as DeiT does it: erased, mixed images and soft targets (Touvron et al. 2021, section 5)."""

from pathlib import Path

from torch import Tensor, nn
from torch.nn.functional import log_softmax

from common.data.augment.erasing import erase
from common.data.augment.mixing import build_mixing
from common.data.augment.supervised import build_supervised_view
from common.data.loading.loader import Batch, View, normalise
from common.data.loading.sampler import EpochSampler
from common.data.splits.roles import Splits
from common.data.token_labels.files import DenseLabelSource
from common.evaluation.classifier_monitor import ClassifierMonitor
from common.training.loss_watch import chance_loss
from common.training.run import Run
from finetune.build import build_classifier, export_classifier
from finetune.config import FinetuneConfig


def soft_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over images (B, C), or over images and their tokens (B, N, C), of -sum_c target_c * log softmax(logits)_c."""
    return -(targets * log_softmax(logits.float(), dim=-1)).sum(-1).mean()


class Classification:
    """Tell classes apart."""

    divisible = True
    dense_labels: DenseLabelSource | None = None

    def __init__(self, config: FinetuneConfig, splits: Splits) -> None:
        self.config, self.splits = config, splits
        self.mixing = build_mixing(config.augment, config.train.seed, len(splits.class_names))

    def build_network(self) -> nn.Module:
        """Return the network with its classifier, started from `init`."""
        return build_classifier(self.config, num_classes=len(self.splits.class_names))

    def build_sampler(self, *, rank: int, num_processes: int) -> EpochSampler:
        """Return every image once an epoch, each `augment.repeats` times in a row."""
        return EpochSampler(
            len(self.splits.train),
            self.config.train.batch_size,
            self.config.train.seed,
            rank=rank,
            num_processes=num_processes,
            repeats=self.config.augment.repeats,
        )

    def build_view(self) -> View:
        """Return the random crop, flip and policy of the recipe."""
        config = self.config
        return build_supervised_view(config.augment, config.data.image_size, config.train.seed, mean=config.data.mean)

    def build_monitor(self, run: Run) -> ClassifierMonitor:
        """Return the accuracies on the validation and test images."""
        augment = self.config.augment
        crop, stretch = augment.evaluation_crop, augment.stretch
        return ClassifierMonitor(run, self.splits, self.config.data, crop=crop, stretch=stretch)

    def images(self, batch: Batch) -> Tensor:
        """Return normalised, erased images (B, 3, S, S)."""
        return erase(normalise(batch.views[0][0], self.config.data.mean, self.config.data.std), batch.erasures)

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return normalised, erased, mixed images (B, 3, S, S) and soft targets (B, C)."""
        assert batch.labels is not None
        return self.mixing(self.images(batch), batch.labels, epoch=epoch, step=step)

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy to the soft targets."""
        images, targets = inputs
        return soft_cross_entropy(model(images), targets)

    def chance(self) -> float | None:
        """Return the cross-entropy of the best constant answer."""
        assert self.splits.train.labels is not None
        return chance_loss(self.splits.train.labels, len(self.splits.class_names), self.config.augment.smoothing)

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Write the network with its classifier."""
        export_classifier(network, self.config, self.splits, metrics, folder)
