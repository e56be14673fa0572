"""Predictions of an evaluation for each test image: from logits, from k-NN votes, from the ranking of a gallery.

Shapes: N images, C classes, Q queries.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from common.data.reid.identities import PersonImages
from common.data.sources.split import Split
from common.evaluation.auroc import auroc_by_image
from common.evaluation.class_averages import MAX_MATRIX_CLASSES, confusion_matrix, confusion_matrix_csv
from common.evaluation.classification import CLASS_AVERAGES, top_classes, without_impossible
from common.evaluation.predictions import Predictions, write_predictions
from common.evaluation.reid import Retrieval
from common.files import write_atomic
from common.training.run import Run
from common.training.run_folder import CONFUSION_MATRIX, PREDICTIONS

MAX_CLASSES = 10
"""Number of most probable classes that are stored for each image."""


def save_predictions(run: Run, predictions: Predictions) -> None:
    """Write the predictions, and the confusion matrix of up to 2,000 classes, into the run folder; every process calls it."""
    path, path_of_matrix = run.folder / PREDICTIONS, run.folder / CONFUSION_MATRIX
    run.write(path, lambda: write_predictions(path, predictions))
    if 0 < len(predictions.class_names) <= MAX_MATRIX_CLASSES:
        run.write(path_of_matrix, lambda: write_atomic(path_of_matrix, _matrix_csv(predictions)))


def _matrix_csv(predictions: Predictions) -> str:
    """Return the confusion matrix as CSV."""
    names = predictions.class_names
    return confusion_matrix_csv(confusion_matrix(predictions.target, predictions.prediction, len(names)), names)


@torch.no_grad()
def classifier_predictions(
    logits_NC: Tensor,
    labels_N: Tensor,
    split: Split,
    *,
    class_names: tuple[str, ...],
    prefix: str = "",
    reported: tuple[str, ...] = ("top1", "top5", "loss", *CLASS_AVERAGES),
) -> Predictions:
    """Return the predictions of a classifier for the test images; the first classes are those that top1 and top5 count.

    `reported` are its metrics in result.json, with `prefix` after `test_`; top5 only counts with more than 5 classes, auroc if the
    images differ in class. The loss of an image whose class has the logit -inf is infinite.
    """
    logits = logits_NC.float()
    classes = _most_probable(logits, top_classes(logits))
    differ_in_class = bool((labels_N != labels_N[0]).any())
    exists = {"top5": logits.shape[1] > 5, "auroc": differ_in_class}
    names = [name for name in reported if exists.get(name, True)]
    return _class_predictions(
        split,
        labels_N,
        classes,
        _scores(logits.softmax(1), classes),
        metrics={f"{prefix}{name}": name for name in names},
        class_names=class_names,
        loss=_floats(cross_entropy(logits, labels_N, reduction="none")),
        auroc=_floats(auroc_by_image(logits, labels_N)) if differ_in_class else None,
    )


@torch.no_grad()
def knn_predictions(
    votes_NC: Tensor, labels_N: Tensor, split: Split, *, class_names: tuple[str, ...], k: int
) -> Predictions:
    """Return the predictions of k-NN for the test images; k-NN reports no loss, and a class without votes has none."""
    classes = _most_probable(votes_NC, votes_NC.argmax(1, keepdim=True))
    return _class_predictions(
        split,
        labels_N,
        classes,
        (votes_NC / votes_NC.sum(1, keepdim=True)).gather(1, classes),
        metrics={
            "knn_top1": "top1",
            f"knn{k}_top1": "top1",
            "knn_balanced_accuracy": "balanced_accuracy",
            "knn_macro_f1": "macro_f1",
        },
        class_names=class_names,
        loss=None,
    )


def retrieval_predictions(retrieval: Retrieval, query: PersonImages) -> Predictions:
    """Return the best-ranked identity and the average precision of every test query."""
    ranks = retrieval.by_query
    has_match = ranks.first_match > 0
    return Predictions(
        images=tuple(query.split.image_ids()),
        target=query.identities.astype(np.int32),
        prediction=_integers(ranks.best_identity),
        metrics={"map": "average_precision"} | {name: name for name in retrieval.metrics() if name != "map"},
        split="test query",
        fingerprint=query.split.fingerprint,
        class_names=(),
        average_precision=_floats((100 * ranks.average_precision).masked_fill(~has_match, torch.nan)),
        first_match=_integers(ranks.first_match),
    )


def _class_predictions(
    split: Split,
    labels_N: Tensor,
    classes: Tensor,
    scores: Tensor,
    *,
    metrics: Mapping[str, str],
    class_names: tuple[str, ...],
    loss: npt.NDArray[np.float32] | None,
    auroc: npt.NDArray[np.float32] | None = None,
) -> Predictions:
    """Return the predictions of classes and scores (N, K) for the test images."""
    return Predictions(
        images=tuple(split.image_ids()),
        target=_integers(labels_N),
        prediction=_integers(classes[:, 0]),
        metrics=dict(metrics),
        split="test",
        fingerprint=split.fingerprint,
        class_names=class_names,
        loss=loss,
        auroc=auroc,
        classes=_integers(classes),
        scores=_floats(scores),
    )


def _most_probable(values_NC: Tensor, first_NF: Tensor) -> Tensor:
    """Return the (N, min(C, 10)) classes of the largest values, best first; -1 where only the value -inf is left.

    They begin with `first_NF`, which a metric has already chosen: topk breaks ties in another order for another number of classes.
    """
    count = min(values_NC.shape[1], MAX_CLASSES) - first_NF.shape[1]
    # Where `first_NF` has a -1, all other values are -inf, so that it does not matter which one is left out.
    others = without_impossible(*values_NC.scatter(1, first_NF.clamp(min=0), -torch.inf).topk(count, dim=1))
    return torch.cat([first_NF, others], dim=1)


def _scores(probabilities_NC: Tensor, classes_NK: Tensor) -> Tensor:
    """Return (N, K) the probabilities of classes; 0 for -1."""
    return probabilities_NC.gather(1, classes_NK.clamp(min=0)).masked_fill(classes_NK < 0, 0.0)


def _integers(values: Tensor) -> npt.NDArray[np.int32]:
    """Return a tensor as int32."""
    return values.cpu().numpy().astype(np.int32)


def _floats(values: Tensor) -> npt.NDArray[np.float32]:
    """Return a tensor as float32."""
    return values.cpu().numpy().astype(np.float32)
