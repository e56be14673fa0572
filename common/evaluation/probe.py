"""Logistic regression on features, by scikit-learn, with the regularization strength chosen on labeled validation images.

Shapes: N training images, Q queries, D dimensions of a feature, C classes.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor

from common.errors import UserError
from common.evaluation.config import ProbeConfig
from common.interruption import interruptible

logger = logging.getLogger(__name__)

MAX_ITERATIONS = 1000
"""Iterations of L-BFGS per strength; ten times as many as features of a network take at a strength of 1e-4."""
TOLERANCE = 1e-4
"""Largest component of the gradient at which L-BFGS stops; scikit-learn's default."""
MAX_VALUES = 2 * 10**9
"""Largest N * D: 8 GB in fp32, and as much again when standardized."""


@dataclass(frozen=True)
class Probe:
    """A fitted logistic regression on standardized features."""

    scaler: StandardScaler
    classifier: LogisticRegression
    l2: float
    """Its regularization strength."""
    num_classes: int

    def logits(self, features_QD: Tensor) -> Tensor:
        """Return the logits (Q, C) on the CPU in fp32; those of classes without a training image are -inf."""
        scores = self.classifier.decision_function(self.scaler.transform(_to_numpy(features_QD)))
        if scores.ndim == 1:  # of two classes, scikit-learn returns the logit of the second, relative to the first
            scores = np.stack([np.zeros_like(scores), scores], axis=1)
        logits = torch.full((len(scores), self.num_classes), -torch.inf)
        logits[:, torch.as_tensor(self.classifier.classes_)] = torch.as_tensor(scores, dtype=torch.float32)
        return logits


def is_fitted(num_images: int, dim: int, num_classes: int, config: ProbeConfig) -> bool:
    """Return whether a logistic regression of this size is fitted: its products, N * D * C, are the MACs of half an iteration.

    Raise UserError if `beyond` is error and it would take too long, or more memory than usual.
    """
    images = f"data.source: {num_images} training images with features of {dim} dimensions"
    if num_images * dim > MAX_VALUES and config.beyond == "error":
        raise UserError(
            f"{images} take {4 * num_images * dim / 1e9:.0f} GB, and as much again. Use `common.evaluation linear` and "
            "`common.evaluation knn` instead, or set beyond=knn for k-NN alone, data.fraction, data.images_per_class or "
            "data.image_size lower."
        )
    products = num_images * dim * num_classes
    if products <= config.max_products and num_images * dim <= MAX_VALUES:
        return True
    if config.beyond == "knn":
        logger.warning(
            "warning: no logistic regression: %d images times %d features times %d classes are too many (max_products = %g; at most"
            " %g values)",
            num_images,
            dim,
            num_classes,
            config.max_products,
            MAX_VALUES,
        )
        return False
    raise UserError(
        f"{images} and {num_classes} classes are too many for a logistic regression by scikit-learn: {products:.2g} products, and "
        f"max_products = {config.max_products:g}. Use `common.evaluation linear` and `common.evaluation knn` instead, or set "
        "beyond=knn for k-NN alone, data.fraction, data.images_per_class or data.image_size lower, or max_products higher."
    )


def choose_probe(
    features_ND: Tensor,
    labels_N: Tensor,
    *,
    l2: tuple[float, ...],
    num_classes: int,
    validation: tuple[Tensor, Tensor] | None,
    before_each: Callable[[], None] = lambda: None,
) -> Probe:
    """Return the logistic regression of the strength in `l2` that is right for most validation images; of equal ones the strongest.

    `validation` are the features (Q, D) and labels (Q,) that may be used for the choice; without them the middle strength is taken,
    of two the stronger. `before_each` is called before each fit; a signal to stop ends a fit that takes longer (WaitInterrupted).
    One warning is logged if a fit does not converge. Raise UserError for training images of a single class.
    """
    labels = labels_N.cpu().numpy()
    if (labels == labels[0]).all():
        raise UserError(
            "data.subset_file: all its images have the same label, and a classifier needs two classes. Add images of others."
        )
    scaler = StandardScaler().fit(_to_numpy(features_ND))
    features = scaler.transform(_to_numpy(features_ND))
    strengths = sorted(set(l2), reverse=True)
    if validation is None:
        strengths = [strengths[(len(strengths) - 1) // 2]]
    best, most_correct, unconverged = None, -1, []
    for strength in strengths:
        before_each()
        logger.info("logistic regression on %d x %d features, l2 = %g", *features.shape, strength)
        with interruptible():
            classifier, converged = fit(features, labels, l2=strength)
        probe = Probe(scaler, classifier, strength, num_classes)
        correct = 0 if validation is None else count_correct(probe.logits(validation[0]), validation[1])
        if correct > most_correct:
            best, most_correct = probe, correct
        if not converged:
            unconverged.append(strength)
    if unconverged:
        logger.warning(
            "warning: logistic regression has not converged after %d iterations with l2 = %s; its early end regularizes, too. "
            "Remove these values from l2, or set larger ones.",
            MAX_ITERATIONS,
            ", ".join(f"{strength:g}" for strength in unconverged),
        )
    assert best is not None
    if validation is not None and len(strengths) > 1 and best.l2 == strengths[-1]:
        logger.info(
            "logistic regression: the smallest value of l2, %g, is the best; a smaller one may be better", best.l2
        )
    return best


def fit(features_ND: np.ndarray, labels_N: np.ndarray, *, l2: float) -> tuple[LogisticRegression, bool]:
    """Return a fitted logistic regression, and whether it has converged.

    It minimizes the mean cross-entropy + l2 / 2 * the sum of the squared weights, without the biases; of two classes the single
    weight vector is that of the second relative to the first. scikit-learn's C weighs the sum of the cross-entropy instead, hence
    C = 1 / (l2 * N). It starts from zeros and computes with one thread, so that the result depends on nothing but its arguments; on
    a machine with other work, a second thread of these small products waits more than it computes.
    """
    classifier = LogisticRegression(C=1 / (l2 * len(labels_N)), solver="lbfgs", tol=TOLERANCE, max_iter=MAX_ITERATIONS)
    with threadpool_limits(1), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        classifier.fit(features_ND, labels_N)
    return classifier, not any(issubclass(each.category, ConvergenceWarning) for each in caught)


def count_correct(logits_QC: Tensor, labels_Q: Tensor) -> int:
    """Return the number of images whose largest logit is that of their label."""
    return int((logits_QC.argmax(1) == labels_Q.cpu()).sum())


def _to_numpy(features: Tensor) -> np.ndarray:
    """Return features as an array in fp32, with which scikit-learn computes in fp32, too: half of the time of fp64."""
    return features.float().cpu().numpy()
