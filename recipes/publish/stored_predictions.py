"""Predictions of a study's runs as text: the test images once, and a line per run with which of them are right.

`images.csv` has a line per test image, `predictions.csv` one per run: whether each prediction is right, as bits in hexadecimal
(first image first), then the predicted classes of the images that are wrong. With a metric that depends on more, a last column
holds the values of that column of the predictions.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError
from common.evaluation.predictions import Predictions

COLUMNS = {
    "top5": "classes",
    "loss": "loss",
    "auroc": "auroc",
    "average_precision": "average_precision",
    **{f"rank{rank}": "first_match" for rank in (1, 5, 10)},
}
"""Column of the predictions behind a value of `per_image`, where target and prediction do not suffice."""
HEADER = ["run", "test_set", "right", "wrong", "column"]


def write_images(test_sets: list[Predictions]) -> str:
    """Return images.csv: the names and targets of the images of every test set."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["test_set", "image", "target"])
    for number, known in enumerate(test_sets):
        writer.writerows([number, *row] for row in zip(known.images, known.target.tolist(), strict=True))
    return buffer.getvalue()


def describe_test_sets(test_sets: list[Predictions]) -> list[dict[str, Any]]:
    """Return what images.csv does not say about the test sets, as plain containers."""
    return [
        {
            "images": len(known.images),
            "split": known.split,
            "fingerprint": known.fingerprint,
            "class_names": list(known.class_names),
        }
        for known in test_sets
    ]


def write_predictions_text(runs: Mapping[str, Predictions], test_sets: list[Predictions], metric: str) -> str:
    """Return predictions.csv; test sets that are not among `test_sets` are appended to it."""
    lines = [",".join(HEADER)]
    for name, predictions in runs.items():
        number = next((n for n, known in enumerate(test_sets) if _is_same_set(known, predictions)), len(test_sets))
        if number == len(test_sets):
            test_sets.append(predictions)
        is_right = predictions.prediction == predictions.target
        wrong = " ".join(map(str, predictions.prediction[~is_right].tolist()))
        column = COLUMNS.get(predictions.metrics.get(metric.removeprefix("test_"), ""))
        values = " ".join(map(str, getattr(predictions, column).ravel())) if column else ""
        lines.append(",".join([name, str(number), np.packbits(is_right).tobytes().hex(), wrong, values]))
    return "\n".join(lines) + "\n"


def read_test_sets(images: str, described: list[dict[str, Any]]) -> list[Predictions]:
    """Return the test sets, as predictions without a metric that are all right."""
    rows = list(csv.DictReader(io.StringIO(images)))
    sets = []
    for number, entry in enumerate(described):
        own = [row for row in rows if int(row["test_set"]) == number]
        if len(own) != entry["images"]:
            raise ValueError(f"images.csv has {len(own)} of {entry['images']} images")
        target = np.array([int(row["target"]) for row in own], dtype=np.int32)
        sets.append(
            Predictions(
                images=tuple(row["image"] for row in own),
                target=target,
                prediction=target,
                metrics={},
                split=str(entry["split"]),
                fingerprint=str(entry["fingerprint"]),
                class_names=tuple(map(str, entry["class_names"])),
            )
        )
    return sets


def read_predictions_text(text: str, test_sets: list[Predictions], metric: str, kind: str) -> dict[str, Predictions]:
    """Return the predictions by run; `kind` is the value of `per_image` behind the metric, empty if it is no mean over images."""
    header, *lines = text.splitlines()
    if header != ",".join(HEADER):
        raise ValueError(f"the header of predictions.csv is {header}")
    column = COLUMNS.get(kind)
    metrics = {metric.removeprefix("test_"): kind} if kind else {}
    found = {}
    for line in lines:
        name, number, right, wrong, values = line.split(",")
        known = test_sets[int(number)]
        size = len(known.images)
        is_right = np.unpackbits(np.frombuffer(bytes.fromhex(right), np.uint8), count=size).astype(bool)
        if len(right) != 2 * -(-size // 8):
            raise ValueError(f"{name} has another number of predictions than images")
        prediction = known.target.copy()
        prediction[~is_right] = np.array(wrong.split(), dtype=np.int32)
        extra: dict[str, Any] = {column: _column(values, column, size)} if column else {}
        found[name] = replace(known, prediction=prediction, metrics=metrics, **extra)
    return found


def metric_kind(runs: Mapping[str, Predictions], metric: str) -> str:
    """Return the value of `per_image` behind a metric in all runs; empty if it is no mean over images in one of them."""
    kinds = {predictions.metrics.get(metric.removeprefix("test_"), "") for predictions in runs.values()}
    if len(kinds) > 1 and "" not in kinds:
        raise UserError(f"{metric}: computed in several ways ({', '.join(sorted(kinds))}), so it cannot be stored.")
    return kinds.pop() if len(kinds) == 1 else ""


def _column(values: str, column: str, size: int) -> NDArray[Any]:
    """Return a column of the predictions; the classes have several values per image."""
    dtype = np.int32 if column in ("classes", "first_match") else np.float32
    array = np.array(values.split(), dtype=dtype)
    if len(array) == 0 or len(array) % max(size, 1):
        raise ValueError(f"{column} has {len(array)} values for {size} images")
    return array.reshape(size, -1) if column == "classes" else array.reshape(size)


def _is_same_set(known: Predictions, other: Predictions) -> bool:
    """Return whether two runs were evaluated on the same images and labels."""
    same = (known.images, known.split, known.fingerprint, known.class_names)
    return same == (other.images, other.split, other.fingerprint, other.class_names) and np.array_equal(
        known.target, other.target
    )
