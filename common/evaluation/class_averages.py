"""Metrics that weight all classes alike, from predicted classes: confusion matrix, balanced accuracy, macro-F1.

A class counts if it has images: a set of images then has the same classes for every network. Each metric is a function of the
counts of a class: images, predictions, hits. Its value for an image is the metric plus the image's influence (the derivative with
respect to the image's weight, times the number of images): the values' mean is the metric, and their variance that of the metric
(infinitesimal jackknife, Efron 1982). Shapes: N images, C classes.
"""

import csv
import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.integer]
Values = npt.NDArray[np.float64]

MAX_MATRIX_CLASSES = 2000
"""Largest number of classes whose confusion matrix is written: a CSV of 8 MB. That of 20,000 classes would have 800 MB."""


def confusion_matrix(target_N: Integers, prediction_N: Integers, num_classes: int) -> npt.NDArray[np.int64]:
    """Return (C, C): the number of images by class (row) and predicted class (column)."""
    pairs = target_N.astype(np.int64) * num_classes + prediction_N
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def balanced_accuracy(target_N: Integers, prediction_N: Integers, num_classes: int) -> float:
    """Return the mean over the classes of the fraction of their images that is predicted right, in percent."""
    return float(balanced_accuracy_by_image(target_N, prediction_N, num_classes).mean())


def balanced_accuracy_by_image(target_N: Integers, prediction_N: Integers, num_classes: int) -> Values:
    """Return each image's value of the balanced accuracy, in percent."""
    images, _, hits = _counts(target_N, prediction_N, num_classes)
    recall = hits / np.maximum(images, 1)
    is_counted = images > 0
    weights = len(target_N) / (is_counted.sum() * images[target_N])
    values: Values = 100 * (recall[is_counted].mean() + weights * ((prediction_N == target_N) - recall[target_N]))
    return values


def macro_f1(target_N: Integers, prediction_N: Integers, num_classes: int) -> float:
    """Return the mean over the classes of F1 = 2 TP / (2 TP + FP + FN), in percent; 0 for a class that is never predicted."""
    return float(macro_f1_by_image(target_N, prediction_N, num_classes).mean())


def macro_f1_by_image(target_N: Integers, prediction_N: Integers, num_classes: int) -> Values:
    """Return each image's value of macro-F1, in percent."""
    images, predictions, hits = _counts(target_N, prediction_N, num_classes)
    is_counted = images > 0
    images_and_predictions = np.maximum(images + predictions, 1)  # 2 TP + FP + FN
    per_hit = np.where(is_counted, 2 / images_and_predictions, 0)  # derivative with respect to TP
    f1 = per_hit * hits
    per_image = f1 / images_and_predictions  # minus the derivative with respect to the images and to the predictions
    influence = per_hit[target_N] * (prediction_N == target_N) - per_image[target_N] - per_image[prediction_N]
    values: Values = 100 * (f1.sum() + len(target_N) * influence) / is_counted.sum()
    return values


def _counts(target_N: Integers, prediction_N: Integers, num_classes: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield (C,) the numbers of images, predictions and hits of each class; the whole matrix of 20,000 classes takes 3 GB."""
    for classes in (target_N, prediction_N, target_N[target_N == prediction_N]):
        yield np.bincount(classes, minlength=num_classes)


def relative_weight(target_N: Integers, num_classes: int) -> float:
    """Return the root mean square of the images' weights in a mean over classes; 1 if all have equally many images."""
    images = np.bincount(target_N, minlength=num_classes)
    images = images[images > 0]
    return float(np.sqrt(len(target_N) * (1 / images).sum()) / len(images))


def confusion_matrix_csv(matrix_CC: npt.NDArray[np.int64], class_names: tuple[str, ...]) -> str:
    """Return the matrix as CSV with the class names as header and first column: rows are classes, columns predicted classes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["target \\ prediction", *class_names])
    writer.writerows([name, *row] for name, row in zip(class_names, matrix_CC.tolist(), strict=True))
    return text.getvalue()
