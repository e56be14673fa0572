"""Evaluation of a classifier on the validation and test images: accuracy, loss and calibration."""

from torch import nn

from common.data.config import DataConfig
from common.data.splits.roles import Splits
from common.evaluation.classification import classification_metrics, per_class_accuracy
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
        """Return the metrics, and for the test images the accuracy of every class; none without labeled images."""
        split = self.splits.validation if part == "validation" else self.splits.test
        if split is None or split.labels is None:
            return None
        logits, labels = predict(
            split, network, self.run, self.data, crop_pct=self.crop_pct, squash=self.squash, batch_size=self.batch_size
        )
        metrics = classification_metrics(logits, labels)
        if part == "validation":
            return Evaluation(metrics, {})
        return Evaluation(metrics, {"per_class": per_class_accuracy(logits, labels, list(self.splits.class_names))})
