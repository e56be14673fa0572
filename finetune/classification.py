"""Image classification as in DeiT: random erasing, mixup, CutMix and soft targets (Touvron et al. 2021, section 5)."""

from pathlib import Path

from torch import Tensor, nn

from common.data.augment.erasing import erase
from common.data.augment.mixing import build_mixing
from common.data.augment.supervised import build_supervised_transform
from common.data.loading.loader import Batch, BatchTransform, normalize
from common.data.loading.sampler import EpochSampler
from common.data.loading.shard_order import build_shard_order
from common.data.splits.roles import Splits
from common.data.token_labels.reader import TokenLabelSource
from common.evaluation.classifier_evaluator import ClassifierEvaluator
from common.evaluation.supervised_monitor import SupervisedMonitor
from common.training.micro_batches import evaluation_batch
from common.training.run import Run
from finetune.build import build_classifier, export_classifier
from finetune.config import FinetuneConfig
from finetune.loss import ClassificationLoss


class Classification:
    """Objective of image classification."""

    supports_micro_batches = True
    token_labels: TokenLabelSource | None = None

    def __init__(self, config: FinetuneConfig, splits: Splits) -> None:
        self.config, self.splits = config, splits
        self.cross_entropy = ClassificationLoss(config.loss, splits.train, smoothing=config.augment.label_smoothing)
        self.mixing = build_mixing(config.augment, config.train.seed, len(splits.class_names))

    def build_network(self) -> nn.Module:
        """Build the network with its classifier and load `init`."""
        return build_classifier(
            self.config, num_classes=len(self.splits.class_names), class_names=self.splits.class_names
        )

    def build_sampler(self, *, rank: int, num_processes: int) -> EpochSampler:
        """Return a sampler that yields every image once per epoch, each repeated `augment.aug_repeats` times in a row.

        Raise UserError if a process gets an odd number of images of a batch, and they are mixed in pairs.
        """
        self.check_pairs(self.config.train.batch_size // num_processes)
        return EpochSampler(
            len(self.splits.train),
            self.config.train.batch_size,
            self.config.train.seed,
            rank=rank,
            num_processes=num_processes,
            repeats=self.config.augment.aug_repeats,
            shard_order=build_shard_order(self.config.train.shuffle_shards, self.config.data, self.splits.train),
        )

    def check_pairs(self, images: int) -> None:
        """Raise UserError if a process gets so many images that one of them has no partner to be mixed with."""
        self.mixing.check_pairs(images)

    def build_transform(self) -> BatchTransform:
        """Return the random crop, flip and policy of the recipe."""
        config = self.config
        mean, _ = config.data.statistics()
        return build_supervised_transform(config.augment, config.data.image_size, config.train.seed, mean=mean)

    def build_monitor(self, run: Run) -> SupervisedMonitor:
        """Return the monitor of the loss and of the validation and test accuracy."""
        augment, train = self.config.augment, self.config.train
        evaluator = ClassifierEvaluator(
            run,
            self.splits,
            self.config.data,
            batch_size=evaluation_batch(train, run.num_processes),
            crop_pct=augment.crop_pct,
            squash=augment.crop_mode == "squash",
        )
        return SupervisedMonitor(run, evaluator, log_every=train.log_every)

    def images(self, batch: Batch) -> Tensor:
        """Return normalized, erased images (B, C, H, W)."""
        return erase(normalize(batch.views[0][0], *self.config.data.statistics()), batch.erasures)

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return normalized, erased, mixed images (B, C, H, W) and soft targets (B, C)."""
        assert batch.labels is not None
        return self.mixing(self.images(batch), batch.labels, epoch=epoch, step=step)

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy to the soft targets."""
        images, targets = inputs
        return self.cross_entropy(model(images), targets)

    def chance(self) -> float | None:
        """Return the cross-entropy of the best constant prediction."""
        assert self.splits.train.labels is not None
        return self.cross_entropy.chance(self.splits.train.labels, len(self.splits.class_names))

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Export the network with its classifier."""
        export_classifier(network, self.config, self.splits, metrics, folder)
