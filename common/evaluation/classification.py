"""Classification metrics: top-1, top-5, balanced accuracy, macro-F1, AUROC, per-class accuracy, calibration error, loss."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.evaluation.auroc import auroc
from common.evaluation.class_averages import balanced_accuracy, macro_f1

CLASS_AVERAGES = ("balanced_accuracy", "macro_f1", "auroc")
"""Metrics that weight all classes alike, in percent."""
NUM_BINS = 15
"""Number of confidence bins of the calibration error (Guo et al. 2017)."""


@torch.no_grad()
def classification_metrics(logits_NC: Tensor, labels_N: Tensor) -> dict[str, float]:
    """Return the metrics in percent, the loss in nats; top5 only with more than 5 classes, auroc only if images differ in class."""
    logits = logits_NC.float()
    num_classes = logits.shape[1]
    classes = top_classes(logits)
    ranked = classes == labels_N[:, None]
    metrics = {"top1": 100 * float(ranked[:, 0].float().mean())}
    if num_classes > 5:
        metrics["top5"] = 100 * float(ranked.any(1).float().mean())
    metrics |= {"loss": float(cross_entropy(logits, labels_N)), "ece": calibration_error(logits, labels_N)}
    target, prediction = labels_N.cpu().numpy(), classes[:, 0].cpu().numpy()
    metrics["balanced_accuracy"] = balanced_accuracy(target, prediction, num_classes)
    metrics["macro_f1"] = macro_f1(target, prediction, num_classes)
    area = auroc(logits, labels_N)
    return metrics if area is None else metrics | {"auroc": area}


@torch.no_grad()
def top_classes(logits_NC: Tensor) -> Tensor:
    """Return (N, min(5, C)): the most probable classes that top1 and top5 count, best first.

    From the second on, -1 takes the place of classes with the logit -inf, of which topk takes any.
    """
    return without_impossible(*logits_NC.float().topk(min(5, logits_NC.shape[1]), dim=1), kept=1)


def without_impossible(values_NK: Tensor, classes_NK: Tensor, *, kept: int = 0) -> Tensor:
    """Return classes with -1 where their value is -inf, except in the first `kept` columns."""
    is_impossible = values_NK.isneginf()
    is_impossible[:, :kept] = False
    return classes_NK.masked_fill(is_impossible, -1)


@torch.no_grad()
def per_class_accuracy(logits_NC: Tensor, labels_N: Tensor, class_names: list[str]) -> dict[str, float]:
    """Return the accuracy in percent of each class that has at least one image."""
    correct = (logits_NC.argmax(1) == labels_N).double()
    counts = torch.bincount(labels_N, minlength=len(class_names))
    hits = torch.zeros(len(class_names), dtype=torch.double, device=labels_N.device).scatter_add_(0, labels_N, correct)
    return {
        name: 100 * float(hit / count) for name, hit, count in zip(class_names, hits, counts, strict=True) if count > 0
    }


@torch.no_grad()
def calibration_error(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Return the expected calibration error in percent: sum over bins of fraction * |accuracy - mean confidence|.

    The confidence is the largest softmax probability. There are 15 bins of equal width, each open below and closed above.
    """
    confidence, predicted = logits_NC.float().softmax(1).max(1)
    bins = (confidence * NUM_BINS).ceil().long().clamp(1, NUM_BINS) - 1
    gap = torch.zeros(NUM_BINS, dtype=torch.double, device=logits_NC.device)
    gap.scatter_add_(0, bins, (predicted == labels_N).double() - confidence.double())
    return 100 * float(gap.abs().sum() / len(labels_N))
