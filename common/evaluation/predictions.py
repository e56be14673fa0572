"""Predictions for every test image of a run, `predictions.parquet`: the file's form, its writer and its reader.

Shapes: N images in the order of the split, K = min(C, 10) of C classes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.evaluation.class_averages import balanced_accuracy_by_image, macro_f1_by_image, relative_weight
from common.files import path_exists, replace_atomically
from common.json_text import to_json

Integers = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
PerImage = npt.NDArray[np.float64]

METRICS_VERSION = 1
"""Version of the metrics' definitions and of the columns. Increase it when either changes."""
MIN_IMAGES = 10
"""Smallest number of test images of a class from which its variance is estimated. With ten seeds and classes of 2 to 10 expected
images, 95% intervals of a mean over classes covered 84 to 90% (`python -m benchmarks coverage`, "rare classes")."""
_METADATA = b"two_stage_vit.predictions"
_OPTIONAL = ("loss", "classes", "scores", "auroc", "average_precision", "first_match")
_REMEDY = (
    "To write it again, delete it and result.json of the run folder and run the run's command again: the run resumes from its "
    "last checkpoint and evaluates on the test images."
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictions:
    """Predictions for the images of a split. Columns that an evaluation does not have are None."""

    images: tuple[str, ...]
    """(N,) unique names (`Split.image_ids`)."""
    target: Integers
    """(N,) class indices; for re-identification, identities as numbered in the source."""
    prediction: Integers
    """(N,) predicted classes; for re-identification, the identity of the best-ranked gallery image, -1 if all are excluded."""
    metrics: dict[str, str]
    """Metrics of result.json that are means over these images, without `test_`, and the value of `per_image` behind each."""
    split: str
    """Part of the data: test, or for re-identification test query."""
    fingerprint: str
    """Hash of the split (`Split.fingerprint`)."""
    class_names: tuple[str, ...]
    """(C,); empty for re-identification."""
    loss: Floats | None = None
    """(N,) cross-entropy in nats, in float32. Not the target's probability, which is 0 above 103 nats, so that no loss follows."""
    classes: Integers | None = None
    """(N, K) most probable classes, best first; the first is the prediction. -1 where the classifier knows no further class."""
    scores: Floats | None = None
    """(N, K) their probabilities: softmax, or for k-NN the fraction of the votes."""
    auroc: Floats | None = None
    """(N,) values of the AUROC in percent (`auroc_by_image`), which depend on all images."""
    average_precision: Floats | None = None
    """(N,) average precision of the queries in percent; NaN without a match in the gallery, which no metric counts."""
    first_match: Integers | None = None
    """(N,) rank of the first match, from 1 on; 0 without a match in the gallery."""

    def __post_init__(self) -> None:
        """Check that the names are unique and that all columns have a row per image."""
        assert len(set(self.images)) == len(self.images), "image names must be unique"
        columns = [self.target, self.prediction, *(getattr(self, name) for name in _OPTIONAL)]
        assert all(len(column) == len(self.images) for column in columns if column is not None), "one row per image"


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write the predictions atomically; the bytes depend on the predictions and the version of pyarrow only."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "image": pa.array(predictions.images, pa.string()),
        "target": pa.array(predictions.target, pa.int32()),
        "prediction": pa.array(predictions.prediction, pa.int32()),
    }
    for name in _OPTIONAL:
        values = getattr(predictions, name)
        if values is not None:
            columns[name] = _rows(values) if values.ndim == 2 else pa.array(values)
    metadata = {
        "version": METRICS_VERSION,
        "split": predictions.split,
        "fingerprint": predictions.fingerprint,
        "num_classes": len(predictions.class_names),
        "class_names": predictions.class_names,
        "metrics": predictions.metrics,
    }
    table = pa.table(columns).replace_schema_metadata({_METADATA: to_json(metadata)})
    with replace_atomically(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: Path) -> Predictions:
    """Read the predictions of a run. Raise UserError for a missing, damaged or foreign file, or one of a later version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path_exists(path):
        raise UserError(f"{path}: no such file. Runs that were evaluated on test images have one. {_REMEDY}")
    try:
        table = pq.read_table(path, partitioning=None)
        metadata = json.loads((table.schema.metadata or {})[_METADATA])
        if metadata["version"] == METRICS_VERSION:
            return _from_table(table, metadata)
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: damaged, or not the predictions of a run ({reason}). {_REMEDY}") from error
    raise UserError(
        f"{path}: has version {metadata['version']} of the metrics, this program has {METRICS_VERSION}. Read it with the version "
        f"of the program that wrote it. {_REMEDY}"
    )


def per_image(predictions: Predictions, metric: str) -> PerImage:
    """Return each image's value of a metric, (N,), in the metric's scale; their mean is the metric.

    `metric` is a name in result.json, with or without `test_`: top1, top5, knn_top1, rank1 ... (0 or 100), loss (nats), map
    (percent), balanced_accuracy, macro_f1, auroc (percent, the metric plus the image's influence on it). Values are NaN for queries
    that the metrics do not count. Raise KeyError for a metric that is no mean over images.
    """
    name = metric.removeprefix("test_")
    if name not in predictions.metrics:
        raise KeyError(
            f"{metric}: not a mean over the test images of this run; those are {', '.join(predictions.metrics)}"
        )
    return _VALUES[predictions.metrics[name]](predictions)


def image_weight(predictions: Predictions, metric: str) -> float:
    """Return how much more an image counts in a metric than in a mean over images: root mean square over the images."""
    name = predictions.metrics[metric.removeprefix("test_")]
    return relative_weight(predictions.target, len(predictions.class_names)) if name in _CLASS_AVERAGES else 1.0


def rare_classes(predictions: Predictions, metric: str) -> int:
    """Return the number of classes with too few images for their part of the variance of a metric over test images."""
    if predictions.metrics[metric.removeprefix("test_")] not in _CLASS_AVERAGES:
        return 0
    images = np.bincount(predictions.target)
    return int(((images > 0) & (images < MIN_IMAGES)).sum())


def _top1(predictions: Predictions) -> PerImage:
    return np.where(predictions.prediction == predictions.target, 100.0, 0.0)


def _top5(predictions: Predictions) -> PerImage:
    assert predictions.classes is not None
    is_among = (predictions.classes[:, :5] == predictions.target[:, None]).any(axis=1)
    return np.where(is_among, 100.0, 0.0)


def _loss(predictions: Predictions) -> PerImage:
    assert predictions.loss is not None
    return predictions.loss.astype(np.float64)


def _balanced_accuracy(predictions: Predictions) -> PerImage:
    return balanced_accuracy_by_image(predictions.target, predictions.prediction, len(predictions.class_names))


def _macro_f1(predictions: Predictions) -> PerImage:
    return macro_f1_by_image(predictions.target, predictions.prediction, len(predictions.class_names))


def _auroc(predictions: Predictions) -> PerImage:
    assert predictions.auroc is not None
    return predictions.auroc.astype(np.float64)


def _average_precision(predictions: Predictions) -> PerImage:
    assert predictions.average_precision is not None
    return predictions.average_precision.astype(np.float64)


def _within_rank(rank: int) -> Callable[[Predictions], PerImage]:
    """Return the function whose values are 100 for queries with a match at `rank` or better."""

    def values(predictions: Predictions) -> PerImage:
        assert predictions.first_match is not None
        first = predictions.first_match
        return np.where(first == 0, np.nan, 100.0 * (first <= rank))

    return values


_CLASS_AVERAGES: dict[str, Callable[[Predictions], PerImage]] = {
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "auroc": _auroc,
}
_VALUES: dict[str, Callable[[Predictions], PerImage]] = {
    "top1": _top1,
    "top5": _top5,
    "loss": _loss,
    **_CLASS_AVERAGES,
    "average_precision": _average_precision,
    **{f"rank{rank}": _within_rank(rank) for rank in (1, 5, 10)},
}


def _rows(values: npt.NDArray[Any]) -> Any:
    """Return a matrix (N, K) as an Arrow array of N lists."""
    import pyarrow as pa

    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(offsets, values.reshape(-1))


def _from_table(table: Any, metadata: dict[str, Any]) -> Predictions:
    """Return the predictions in a table; raise LookupError, TypeError, ValueError or AssertionError if it has another form."""
    columns = {name: table.column(name) for name in table.column_names}
    if unknown := set(metadata["metrics"].values()) - _VALUES.keys():
        raise ValueError(f"unknown values {', '.join(sorted(unknown))}")
    predictions = Predictions(
        images=tuple(columns["image"].to_pylist()),
        target=_numbers(columns["target"], np.int32),
        prediction=_numbers(columns["prediction"], np.int32),
        metrics=dict(metadata["metrics"]),
        split=metadata["split"],
        fingerprint=metadata["fingerprint"],
        class_names=tuple(metadata["class_names"]),
        loss=_numbers(columns.get("loss"), np.float32),
        classes=_numbers(columns.get("classes"), np.int32),
        scores=_numbers(columns.get("scores"), np.float32),
        auroc=_numbers(columns.get("auroc"), np.float32),
        average_precision=_numbers(columns.get("average_precision"), np.float32),
        first_match=_numbers(columns.get("first_match"), np.int32),
    )
    for metric in predictions.metrics:
        per_image(predictions, metric)  # needs the metric's column
    return predictions


def _numbers(column: Any, dtype: Any) -> Any:
    """Return a column as an array (N,), or (N, K) for lists; None without a column. Raise ValueError for another type."""
    if column is None:
        return None
    is_list = hasattr(column.type, "value_type")
    values = (column.combine_chunks().flatten() if is_list else column).to_numpy(zero_copy_only=False)
    if values.dtype != dtype:
        raise ValueError(f"a column of {column.type} instead of {np.dtype(dtype)}")
    return values.reshape(len(column), -1) if is_list else values
