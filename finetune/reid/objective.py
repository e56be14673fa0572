"""Re-identification (ReID): learn features that cluster by identity and generalize to unseen identities.

The TransReID baseline without camera embedding and jigsaw (He et al. 2021), for any network of `common.models`: cross-entropy over
the training identities after a BN-neck (Luo et al. 2019) and the soft-margin triplet loss on the features before it.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.data.augment.erasing import erase
from common.data.augment.supervised import build_supervised_transform
from common.data.loading.loader import Batch, BatchTransform, normalize
from common.data.reid.identities import IdentitySplits
from common.data.reid.pk_sampler import PKSampler
from common.data.token_labels.reader import TokenLabelSource
from common.evaluation.supervised_monitor import SupervisedMonitor
from common.models.export import export_network
from common.models.freezing import adapt_network
from common.models.networks import Network, build_network
from common.models.weights import load_init
from common.training.loss_monitor import chance_loss
from common.training.run import Run
from finetune.config import FinetuneConfig
from finetune.reid.evaluator import ReidEvaluator
from finetune.reid.triplet import triplet_over_processes


class ReidNetwork(nn.Module):
    """A backbone without classifier, a BN-neck with its bias fixed at 0, and a linear classifier without bias on top."""

    def __init__(self, backbone: Network, num_identities: int, *, classifier_std: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.BatchNorm1d(backbone.num_features)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(backbone.num_features, num_identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=classifier_std)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the features (B, D) of images (B, C, H, W); in training also the logits (B, C) after the neck."""
        features = self.backbone(images)
        return (features, self.classifier(self.neck(features))) if self.training else features

    def no_weight_decay(self) -> set[str]:
        """Return the backbone's parameters without weight decay, with their names in this module."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's layer patterns of the backbone, for the names in this module; neck and classifier are the last layer."""
        return {name: _with_backbone_prefix(patterns) for name, patterns in self.backbone.group_matcher(coarse).items()}


def _with_backbone_prefix(pattern: Any) -> Any:
    """Return timm's pattern, or (pattern, index) entries, for names with the prefix `backbone.`."""
    if isinstance(pattern, str):
        return rf"backbone\.(?:{pattern.replace('^', '')})"
    return type(pattern)(map(_with_backbone_prefix, pattern)) if isinstance(pattern, list | tuple) else pattern


CLASSIFIER_STD = 0.001
"""Standard deviation of the classifier's initial weights (the baseline's)."""


class ReidObjective:
    """Objective of re-identification."""

    token_labels: TokenLabelSource | None = None
    supports_micro_batches = False  # triplets are mined over the full batch

    def __init__(self, config: FinetuneConfig, splits: IdentitySplits) -> None:
        self.config, self.splits = config, splits

    def build_network(self) -> ReidNetwork:
        """Build the backbone with neck and classifier; the backbone loads `init` and is frozen as in the recipe."""
        config, data = self.config, self.config.data
        backbone = build_network(config.model, image_size=data.image_size, num_classes=0, in_chans=data.channels)
        if config.init is not None:
            load_init(backbone, config.init)
        adapt_network(backbone, config.freeze, config.lora)
        return ReidNetwork(
            backbone, len(self.splits.class_names), classifier_std=CLASSIFIER_STD * config.head_init_scale
        )

    def build_sampler(self, *, rank: int, num_processes: int) -> PKSampler:
        """Return the PK sampler: P identities x K images per batch."""
        assert self.splits.train.labels is not None
        return PKSampler(
            self.splits.train.labels,
            self.config.train.batch_size,
            self.config.reid.images_per_identity,
            self.config.train.seed,
            rank=rank,
            num_processes=num_processes,
        )

    def build_transform(self) -> BatchTransform:
        """Return the recipe's transform: flip, padded crop and random erasing."""
        config = self.config
        mean, _ = config.data.statistics()
        return build_supervised_transform(config.augment, config.data.image_size, config.train.seed, mean=mean)

    def build_monitor(self, run: Run) -> SupervisedMonitor:
        """Return the monitor of the loss and of the retrieval metrics mAP and CMC."""
        evaluator = ReidEvaluator(self.config, run, self.splits)
        return SupervisedMonitor(run, evaluator, log_every=self.config.train.log_every)

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return normalized, erased images (B, C, H, W) and their identities (B,)."""
        images = normalize(batch.views[0][0], *self.config.data.statistics())
        assert batch.labels is not None
        return erase(images, batch.erasures), batch.labels

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy after the neck plus the weighted triplet loss before it."""
        images, labels = inputs
        features, logits = model(images)
        classification = cross_entropy(logits.float(), labels, label_smoothing=self.config.augment.label_smoothing)
        settings = self.config.reid
        with torch.autocast(images.device.type, enabled=False):
            triplet = triplet_over_processes(features, labels, margin=settings.margin)
        return classification + settings.triplet_weight * triplet

    def chance(self) -> float | None:
        """Return the cross-entropy of the best constant prediction plus the triplet loss of identical features."""
        assert self.splits.train.labels is not None
        entropy = chance_loss(
            self.splits.train.labels, len(self.splits.class_names), self.config.augment.label_smoothing
        )
        settings = self.config.reid
        return entropy + settings.triplet_weight * (math.log(2) if settings.margin is None else settings.margin)

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Export the backbone, without neck and classifier, as a folder that timm loads."""
        assert isinstance(network, ReidNetwork)
        mean, std = self.config.data.statistics()
        export_network(
            network.backbone,
            folder,
            model_name=self.config.model.name,
            class_names=self.splits.class_names,
            mean=mean,
            std=std,
            image_size=self.config.data.image_size,
            images=self.config.data.describe_images(),
            metrics=metrics,
            crop_pct=self.config.augment.crop_pct,
            squash=self.config.augment.crop_mode == "squash",
        )
