"""Predictions for test images: what is stored, the file, its reader, the values behind each metric."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.reid.identities import person_images
from common.data.sources.split import Split
from common.errors import UserError
from common.evaluation.classification import CLASS_AVERAGES, classification_metrics
from common.evaluation.image_predictions import classifier_predictions, knn_predictions, retrieval_predictions
from common.evaluation.predictions import METRICS_VERSION, Predictions, per_image, read_predictions, write_predictions
from common.evaluation.reid import ReidFeatures, rank_gallery


def split_of(labels: torch.Tensor, num_classes: int) -> Split:
    """Return a split of nonexistent files."""
    images = FileImages(Path("nowhere"), [f"a/{row}.png" for row in range(len(labels))], decoder=ImageDecoder())
    return Split(images=images, labels=labels.numpy(), class_names=tuple(map(str, range(num_classes))))


def logits_of(count: int, num_classes: int, *, with_ties: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random logits (N, C) and labels (N,)."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, num_classes, generator=generator)
    return logits.round() if with_ties else logits, torch.randint(num_classes, (count,), generator=generator)


def classify(logits: torch.Tensor, labels: torch.Tensor) -> Predictions:
    split = split_of(labels, logits.shape[1])
    return classifier_predictions(logits, labels, split, class_names=split.class_names)


def round_trip(predictions: Predictions, path: Path) -> Predictions:
    write_predictions(path, predictions)
    return read_predictions(path)


def test_classes_that_a_classifier_cannot_predict_count_for_nothing(tmp_path: Path) -> None:
    """Of 12 classes it knows three: of the others, topk took any, some of them twice, and top5 counted them as hits."""
    logits, labels = torch.full((4, 12), -torch.inf), torch.tensor([1, 4, 8, 9])
    logits[:, [1, 4, 7]] = torch.tensor([3.0, 2.0, 1.0])
    predictions = round_trip(classify(logits, labels), tmp_path / "predictions.parquet")
    assert predictions.classes is not None and predictions.scores is not None
    assert predictions.classes.tolist() == [[1, 4, 7, *[-1] * 7]] * 4
    assert predictions.scores[:, 3:].max() == 0 and np.allclose(predictions.scores.sum(axis=1), 1)
    assert classification_metrics(logits, labels)["top5"] == 50.0 == per_image(predictions, "top5").mean()


def mean(values: np.ndarray) -> float:
    """Return the mean of 0 and 100 in the metric's arithmetic: float32."""
    return 100 * float(torch.as_tensor(values / 100).float().mean())


@pytest.mark.parametrize("num_classes", [2, 5, 6, 10, 50])
@pytest.mark.parametrize("with_ties", [False, True])
def test_metrics_are_means_over_the_file(tmp_path: Path, num_classes: int, with_ties: bool) -> None:
    logits, labels = logits_of(333, num_classes, with_ties=with_ties)
    metrics = classification_metrics(logits, labels)
    predictions = round_trip(classify(logits, labels), tmp_path / "predictions.parquet")
    assert predictions.metrics.keys() == metrics.keys() - {"ece"}
    for name in ("top1", "top5") if num_classes > 5 else ("top1",):
        assert mean(per_image(predictions, name)) == metrics[name]
    for name in CLASS_AVERAGES:
        assert per_image(predictions, f"test_{name}").mean() == pytest.approx(metrics[name], abs=1e-4)
    assert per_image(predictions, "test_loss").mean() == pytest.approx(metrics["loss"], abs=1e-6)


def test_most_probable_classes_are_distinct_and_sorted_and_their_scores_are_probabilities() -> None:
    logits, labels = logits_of(200, 30, with_ties=True)
    predictions = classify(logits, labels)
    classes, scores = predictions.classes, predictions.scores
    assert classes is not None and scores is not None and classes.shape == scores.shape == (200, 10)
    assert all(len(set(row)) == 10 for row in classes.tolist()) and (np.diff(scores) <= 0).all()
    assert (classes[:, 0] == predictions.prediction).all() and (predictions.target == labels.numpy()).all()
    probabilities = logits.double().softmax(1)
    expected = np.take_along_axis(probabilities.numpy(), classes.astype(int), 1)
    assert scores == pytest.approx(expected, rel=1e-5)
    assert scores == pytest.approx(probabilities.sort(1, descending=True).values[:, :10].numpy(), rel=1e-5)


def test_the_loss_is_finite_where_the_probability_of_the_target_is_0_in_float32() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 200.0]])
    loss = per_image(classify(logits, torch.tensor([0, 0])), "loss")
    assert loss == pytest.approx([np.log1p(np.exp(-3)), 200.0], rel=1e-6)


def test_knn_predicts_the_first_of_the_classes_with_most_votes(tmp_path: Path) -> None:
    votes = torch.zeros(3, 12)
    votes[0, [7, 3]] = 2.0
    votes[1, 11], votes[1, 2] = 3.0, 1.0
    votes[2, 0] = 5.0
    labels = torch.tensor([3, 2, 1])
    split = split_of(labels, 12)
    made = knn_predictions(votes, labels, split, class_names=split.class_names, k=5)
    predictions = round_trip(made, tmp_path / "predictions.parquet")
    assert predictions.prediction.tolist() == votes.argmax(1).tolist() == [3, 11, 0] and predictions.loss is None
    assert predictions.scores is not None and predictions.scores[:, :3].tolist() == [
        [0.5, 0.5, 0],
        [0.75, 0.25, 0],
        [1, 0, 0],
    ]
    assert (
        per_image(predictions, "test_knn5_top1").tolist() == per_image(predictions, "knn_top1").tolist() == [100, 0, 0]
    )


def test_each_query_has_its_average_precision_and_none_without_a_match(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    query, gallery = (
        ReidFeatures(
            torch.randn(count, 5, generator=generator),
            torch.randint(1, 6, (count,), generator=generator),
            torch.randint(1, 3, (count,), generator=generator),
        )
        for count in (20, 60)
    )
    query.identities[4] = 99
    retrieval = rank_gallery(query, gallery)
    files = FileImages(Path("nowhere"), [f"{row}.png" for row in range(20)], decoder=ImageDecoder())
    images = person_images(files, query.identities.numpy(), query.cameras.numpy())
    predictions = round_trip(retrieval_predictions(retrieval, images), tmp_path / "predictions.parquet")
    assert predictions.target.tolist() == query.identities.tolist() and predictions.classes is None
    for name, value in retrieval.metrics().items():
        values = per_image(predictions, name)
        assert np.flatnonzero(np.isnan(values)).tolist() == [4]
        assert np.nanmean(values) == pytest.approx(value, abs=1e-5)
    hits = per_image(predictions, "rank1")
    assert (hits == 100).tolist() == (predictions.prediction == predictions.target).tolist()


def test_file_is_read_as_it_was_written_and_its_bytes_do_not_change(tmp_path: Path) -> None:
    made = classify(*logits_of(40, 12))
    found = round_trip(made, tmp_path / "one.parquet")
    write_predictions(tmp_path / "other.parquet", found)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "other.parquet").read_bytes()
    for name, value in vars(made).items():
        other = getattr(found, name)
        assert type(other) is type(value)
        assert (
            other.dtype == value.dtype and (other == value).all() if isinstance(value, np.ndarray) else other == value
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.parquet", "other.parquet"]


def test_columns_and_metadata_are_readable_without_the_project(tmp_path: Path) -> None:
    write_predictions(tmp_path / "file", classify(*logits_of(3, 12)))
    table = pq.read_table(tmp_path / "file")
    types = dict(zip(table.column_names, map(str, table.schema.types)))
    assert {"image": "string", "target": "int32", "prediction": "int32", "loss": "float"}.items() <= types.items()
    assert types["classes"].startswith("list<") and "int32" in types["classes"] and "float" in types["scores"]
    metadata = json.loads(table.schema.metadata[b"two_stage_vit.predictions"])
    assert metadata.keys() == {"version", "split", "fingerprint", "num_classes", "class_names", "metrics"}
    assert (metadata["version"], metadata["split"], metadata["num_classes"]) == (METRICS_VERSION, "test", 12)
    assert pq.read_metadata(tmp_path / "file").row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("metric", ["ece", "test_ece", "knn_top1", "map", "validation_top1"])
def test_metric_that_is_no_mean_over_the_images_is_a_key_error(metric: str) -> None:
    with pytest.raises(KeyError, match=f"{metric}: not a mean .* those are top1, top5, loss"):
        per_image(classify(*logits_of(3, 12)), metric)


def test_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions\.parquet: no such file\. .* delete it and result\.json"):
        read_predictions(tmp_path / "predictions.parquet")


def damage(path: Path, kind: str) -> None:
    """Turn a good file into another one."""
    table = pq.read_table(path)
    metadata = json.loads(table.schema.metadata[b"two_stage_vit.predictions"])
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif kind == "text":
        path.write_text("image,target\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "foreign":
        pq.write_table(pa.table({"image": ["a"]}), path)
    elif kind == "no metadata":
        pq.write_table(table.replace_schema_metadata({"two_stage_vit.predictions": "{}"}), path)
    elif kind == "no column":
        pq.write_table(table.drop_columns(["loss"]), path)
    elif kind == "other type":
        pq.write_table(table.set_column(1, "target", table["target"].cast(pa.float64())), path)
    elif kind == "repeated image":
        pq.write_table(pa.concat_tables([table, table]), path)
    else:
        text = json.dumps({**metadata, "metrics": {"top1": "top7"}})
        pq.write_table(table.replace_schema_metadata({"two_stage_vit.predictions": text}), path)


KINDS = (
    "cut", "text", "empty", "folder", "foreign", "no metadata", "no column", "other type", "repeated image", "unknown metric",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_or_foreign_file_is_named_with_the_remedy(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "predictions.parquet"
    write_predictions(path, classify(*logits_of(30, 12)))
    damage(path, kind)
    with pytest.raises(
        UserError, match=r"predictions\.parquet: damaged, or not the predictions of a run \(.+\)"
    ) as caught:
        read_predictions(path)
    assert "delete it and result.json" in str(caught.value) and "\n" not in str(caught.value)


def test_file_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "predictions.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("common.evaluation.predictions.METRICS_VERSION", METRICS_VERSION + 1)
        write_predictions(path, classify(*logits_of(3, 12)))
    with pytest.raises(
        UserError, match=f"has version {METRICS_VERSION + 1} of the metrics, this program has {METRICS_VERSION}"
    ):
        read_predictions(path)


def test_repeated_names_are_refused_by_the_writer() -> None:
    predictions = classify(*logits_of(2, 12))
    with pytest.raises(AssertionError, match="unique"):
        replace(predictions, images=("a", "a"))
