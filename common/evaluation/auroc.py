"""Area under the ROC curve (AUROC), one class against all others, averaged over the classes.

Images are ranked by the class's softmax probability: by its logarithm in double precision, since single precision rounds confident
ones to 1; of two classes by the difference of the logits, which has the same order. The area of a class is the probability that
one of its images ranks above one of another class; ties count half (Mann and Whitney 1947). Only classes count that have images
and leave some to others; of two classes, the second. Shapes: N images, C classes.
"""

from collections.abc import Iterator

import torch
from torch import Tensor


@torch.no_grad()
def auroc(logits_NC: Tensor, labels_N: Tensor) -> float | None:
    """Return the AUROC in percent; NaN if a logit is, None if all images are of one class."""
    areas = []
    for scores, rows in _one_versus_rest(logits_NC, labels_N):
        positives, negatives = len(rows), len(scores) - len(rows)
        pairs = positives * negatives
        # Of the others that rank above: to sort the few images of the class takes half the time of sorting all.
        above = _counts_below(scores, scores[rows]).sum() - positives**2 / 2
        areas.append((pairs - above) / pairs)
    if not areas:
        return None
    return float("nan") if logits_NC.isnan().any() else 100 * float(torch.stack(areas).mean())


@torch.no_grad()
def auroc_by_image(logits_NC: Tensor, labels_N: Tensor) -> Tensor:
    """Return (N,) each image's value of the AUROC in percent: its mean is the AUROC, its variance that of DeLong et al. (1988)."""
    num_classes, values = 0, torch.zeros(len(labels_N), dtype=torch.double, device=labels_N.device)
    for scores, rows in _one_versus_rest(logits_NC, labels_N):
        positives, negatives = len(rows), len(scores) - len(rows)
        below = _counts_below(scores, scores[rows])
        above = 1 - below / positives
        above[rows] = (_counts_below(scores[rows], scores) - below[rows]) / negatives
        area = above[rows].mean()
        weights = torch.full_like(above, len(scores) / negatives)
        weights[rows] = len(scores) / positives
        values += area + weights * (above - area)
        num_classes += 1
    return values.fill_(torch.nan) if logits_NC.isnan().any() else 100 * values / num_classes


def _one_versus_rest(logits_NC: Tensor, labels_N: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for every class that counts all images' scores (N,), and the indices of the images of the class."""
    num_classes = logits_NC.shape[1]
    offsets = logits_NC[:, 0].double() if num_classes == 2 else _logsumexp(logits_NC)
    counts = torch.bincount(labels_N, minlength=num_classes).tolist()
    rows_by_class = torch.split(labels_N.argsort(stable=True), counts)
    for label in range(num_classes) if num_classes > 2 else [1]:
        if 0 < counts[label] < len(labels_N):
            yield logits_NC[:, label].double() - offsets, rows_by_class[label]


def _logsumexp(logits_NC: Tensor) -> Tensor:
    """Return (N,) in double precision, without a copy of all logits."""
    return torch.cat([block.double().logsumexp(1) for block in torch.split(logits_NC, 1024)])


def _counts_below(scores: Tensor, others: Tensor) -> Tensor:
    """Return for each score the number of `others` below it, and half of those equal to it."""
    ordered = others.sort().values
    lower = torch.searchsorted(ordered, scores)
    return (lower + torch.searchsorted(ordered, scores, right=True)).double() / 2
