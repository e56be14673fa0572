"""Evaluation of a classifier on the validation and test images: accuracy, loss and calibration."""

import torch
from torch import Tensor, nn

from common.data.config import DataConfig
from common.data.splits.roles import Splits
from common.data.splits.subset import draw_validation_subset
from common.evaluation.classification import CLASS_AVERAGES, classification_metrics, per_class_accuracy
from common.evaluation.image_predictions import classifier_predictions
from common.evaluation.inference import predict
from common.evaluation.supervised_monitor import Evaluation, Part
from common.training.run import Run


class ClassifierEvaluator:
    """Evaluate a classifier; the details of the test images are the accuracies of the classes."""

    best_metric = "top1"
    summary_names = {"validation_top1": "validation top-1", "validation_ece": "calibration error"}

    def __init__(
        self, run: Run, splits: Splits, data: DataConfig, *, batch_size: int, crop_pct: float, squash: bool = False
    ) -> None:
        """Take the run, its images and their preprocessing (timm's `crop_pct`, and `crop_mode` squash).

        `batch_size` is that of the evaluations, over all processes.
        """
        self.run, self.splits, self.data = run, splits, data
        self.batch_size, self.crop_pct, self.squash = batch_size, crop_pct, squash

    def evaluate(self, network: nn.Module, part: Part) -> Evaluation | None:
        """Return the metrics, and for the test images accuracies of classes and predictions; none without labeled images."""
        split = self.splits.validation if part == "validation" else self.splits.test
        if split is None or split.labels is None:
            return None
        logits, labels = predict(
            split, network, self.run, self.data, crop_pct=self.crop_pct, squash=self.squash, batch_size=self.batch_size
        )
        metrics = classification_metrics(logits, labels)
        if part == "validation":
            return Evaluation(metrics | self._subset_metrics(logits, labels, metrics), {})
        class_names = self.splits.class_names
        return Evaluation(
            metrics,
            {"per_class": per_class_accuracy(logits, labels, list(class_names))},
            classifier_predictions(logits, labels, split, class_names=class_names),
        )

    def _subset_metrics(self, logits: Tensor, labels: Tensor, of_all: dict[str, float]) -> dict[str, float]:
        """Return the metrics of choices on the share `data.fraction` of the validation images, and its number of images.

        A choice by these uses no larger share of the validation labels than training uses of the training labels. Without a share
        (`data.images_per_class`, `data.subset_file`) there are none. `of_all` are the metrics on all validation images.
        """
        data = self.data
        if data.images_per_class is not None or data.subset_file is not None:
            return {}
        indices = draw_validation_subset(labels.cpu().numpy(), fraction=data.fraction, seed=data.subset_seed)
        rows = torch.as_tensor(indices, device=labels.device)
        metrics = of_all if len(rows) == len(labels) else classification_metrics(logits[rows], labels[rows])
        names = [name for name in ("top1", "loss", *CLASS_AVERAGES) if name in metrics]
        return {**{f"subset_{name}": metrics[name] for name in names}, "subset_images": len(rows)}
