"""Owns re-identification: a network whose features of one identity lie together, also for identities it never saw.

The TransReID baseline without camera embedding and jigsaw (He et al. 2021), on any of our networks: cross-entropy over
the training identities behind a BN-neck (Luo et al. 2019) and the soft-margin triplet loss in front of it.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.data.augment.erasing import erase
from common.data.augment.supervised import build_supervised_view
from common.data.loading.loader import Batch, View, normalise
from common.data.reid.identities import IdentitySplits
from common.data.reid.pk_sampler import IdentitySampler
from common.data.token_labels.files import DenseLabelSource
from common.evaluation.classifier_monitor import ClassifierMonitor
from common.models.networks import Network, build_network
from common.models.weights import export_network, load_init
from common.training.loss_watch import chance_loss
from common.training.run import Run
from finetune.config import FinetuneConfig
from finetune.reid.monitor import RetrievalMonitor
from finetune.reid.triplet import triplet_over_processes


class Identifier(nn.Module):
    """A network without classifier, a BN-neck whose bias stays 0, and a classifier without bias behind it."""

    def __init__(self, backbone: Network, num_identities: int, *, classifier_std: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = nn.BatchNorm1d(backbone.num_features)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(backbone.num_features, num_identities, bias=False)
        nn.init.normal_(self.classifier.weight, std=classifier_std)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the (B, D) features of (B, 3, H, W) images; in training with the (B, C) logits behind the neck."""
        features = self.backbone(images)
        return (features, self.classifier(self.neck(features))) if self.training else features

    def no_weight_decay(self) -> set[str]:
        """Return the parameters that the network itself exempts, by their names here."""
        return {f"backbone.{name}" for name in self.backbone.no_weight_decay()}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns of the network's layers, for their names here; neck and classifier come last."""
        return {name: _behind_backbone(patterns) for name, patterns in self.backbone.group_matcher(coarse).items()}


def _behind_backbone(pattern: Any) -> Any:
    """Return timm's pattern, or patterns with their numbers, for names that begin with `backbone.`."""
    if isinstance(pattern, str):
        return rf"backbone\.(?:{pattern.replace('^', '')})"
    return type(pattern)(map(_behind_backbone, pattern)) if isinstance(pattern, list | tuple) else pattern


CLASSIFIER_STD = 0.001
"""Standard deviation of the classifier's first weights (the baseline's)."""


class Identification:
    """Tell identities apart that were never seen in training."""

    dense_labels: DenseLabelSource | None = None
    divisible = False  # triplets are mined in the whole batch

    def __init__(self, config: FinetuneConfig, splits: IdentitySplits) -> None:
        self.config, self.splits = config, splits

    def build_network(self) -> Identifier:
        """Return the network with neck and classifier, the network started from `init`."""
        config, size = self.config, self.config.data.image_size
        backbone = build_network(config.model, image_size=size, num_classes=0)
        if config.init is not None:
            load_init(backbone, config.init, image_size=size)
        return Identifier(
            backbone, len(self.splits.class_names), classifier_std=CLASSIFIER_STD * config.head_init_scale
        )

    def build_sampler(self, *, rank: int, num_processes: int) -> IdentitySampler:
        """Return batches of whole identities."""
        assert self.splits.train.labels is not None
        return IdentitySampler(
            self.splits.train.labels,
            self.config.train.batch_size,
            self.config.identification.images_per_identity,
            self.config.train.seed,
            rank=rank,
            num_processes=num_processes,
        )

    def build_view(self) -> View:
        """Return the flip, the padded crop and the erasing of the recipe."""
        config = self.config
        return build_supervised_view(config.augment, config.data.image_size, config.train.seed, mean=config.data.mean)

    def build_monitor(self, run: Run) -> ClassifierMonitor:
        """Return mAP and CMC of the searches."""
        return RetrievalMonitor(self.config, run, self.splits)

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return normalised, erased images (B, 3, H, W) and their identities (B,)."""
        images = normalise(batch.views[0][0], self.config.data.mean, self.config.data.std)
        assert batch.labels is not None
        return erase(images, batch.erasures), batch.labels

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy behind the neck plus the weighted triplet loss in front of it."""
        images, labels = inputs
        features, logits = model(images)
        entropy = cross_entropy(logits.float(), labels, label_smoothing=self.config.augment.smoothing)
        settings = self.config.identification
        with torch.autocast(images.device.type, enabled=False):
            triplet = triplet_over_processes(features, labels, margin=settings.margin)
        return entropy + settings.triplet_weight * triplet

    def chance(self) -> float | None:
        """Return the cross-entropy of the best constant answer and the triplet loss of features that are all the same."""
        assert self.splits.train.labels is not None
        entropy = chance_loss(self.splits.train.labels, len(self.splits.class_names), self.config.augment.smoothing)
        settings = self.config.identification
        return entropy + settings.triplet_weight * (math.log(2) if settings.margin is None else settings.margin)

    def export(self, network: nn.Module, metrics: dict[str, float], folder: Path) -> None:
        """Write the network without neck and classifier as a folder that timm loads."""
        assert isinstance(network, Identifier)
        export_network(
            network.backbone,
            folder,
            model_name=self.config.model.name,
            class_names=self.splits.class_names,
            mean=self.config.data.mean,
            std=self.config.data.std,
            image_size=self.config.data.image_size,
            metrics=metrics,
        )
