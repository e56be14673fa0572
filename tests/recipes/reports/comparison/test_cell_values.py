"""Values of a metric by seed and test image, read from run folders with predictions.parquet."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_studies import comparison_study, predictions, write_comparison

from common.evaluation.classification import CLASS_AVERAGES
from common.evaluation.predictions import Predictions, per_image, read_predictions, write_predictions
from recipes.reports.comparison.cell_values import StudyValues, read_values
from recipes.reports.comparison.estimator import Estimator
from recipes.reports.comparison.findings import compute_findings
from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import find_metric
from recipes.reports.results import RunRecord, StudyRecord, read_runs
from recipes.study.report_specification import ReportSpec

IMAGES = 200
Levels = Mapping[str, str]


def values_of(
    record: StudyRecord, metric: str = "test_top1", num_classes: int | None = 10, **options: Any
) -> StudyValues:
    """Return the values of a study."""
    return read_values(record, find_metric(metric, **options), "seed", num_classes)


def accuracy(levels: Levels) -> float:
    """Return an accuracy that is exact for 200 images."""
    return 80 + 2 * (levels["training"] == "TST") + 0.5 * int(levels["seed"])


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """Return a study of one stem and two amounts, with predictions."""
    study = comparison_study(stems=("patchify",), fractions=(0.1, 1.0), compare={"training": ["OST", "TST"]})
    return write_comparison(study, tmp_path, accuracy, images=IMAGES)


@pytest.fixture
def run_at(record: StudyRecord) -> Callable[..., RunRecord]:
    """Return a function that finds a run of the last stage by its levels."""

    def find(**levels: str) -> RunRecord:
        return next(run for run in record.of_stage("finetune") if levels.items() <= run.planned.levels.items())

    return find


def test_values_are_those_of_the_predictions_by_seed_and_image(
    record: StudyRecord, run_at: Callable[..., RunRecord]
) -> None:
    values = values_of(record)
    assert values.axes == ("stem", "training", "fraction") and not values.problems
    cell = values.cell({"stem": "patchify", "training": "TST", "fraction": "0.1"})
    assert cell is not None and cell.seeds == ("0", "1", "2") and cell.values.shape == (3, IMAGES)
    assert cell.points == pytest.approx({"0": 82.0, "1": 82.5, "2": 83.0})
    for row, seed in enumerate(cell.seeds):
        found = read_predictions(run_at(training="TST", fraction="0.1", seed=seed).folder / "predictions.parquet")
        assert np.array_equal(cell.values[row], per_image(found, "test_top1"))


def test_images_are_matched_by_name_and_not_by_position(record: StudyRecord, run_at: Callable[..., RunRecord]) -> None:
    before = values_of(record)
    path = run_at(training="OST", fraction="1", seed="1").folder / "predictions.parquet"
    found, order = read_predictions(path), np.random.default_rng(0).permutation(IMAGES)
    shuffled = replace(
        found,
        images=tuple(found.images[n] for n in order),
        target=found.target[order],
        prediction=found.prediction[order],
    )
    write_predictions(path, shuffled)
    after = values_of(record)
    assert not after.problems
    assert all(np.array_equal(cell.values, after.cells[key].values) for key, cell in before.cells.items())


def test_without_predictions_a_run_has_its_metric_alone(record: StudyRecord, run_at: Callable[..., RunRecord]) -> None:
    run = run_at(training="OST", fraction="1", seed="1")
    (run.folder / "predictions.parquet").unlink()
    values = values_of(record)
    assert values.problems == (f"{run.planned.id} has no predictions.parquet",)
    assert {cell.values.shape for cell in values.cells.values()} == {(3, 1)}
    assert values.cells["patchify", "OST", "1"].points == pytest.approx({"0": 80.0, "1": 80.5, "2": 81.0})


def test_predictions_for_other_images_are_not_mixed(record: StudyRecord, run_at: Callable[..., RunRecord]) -> None:
    run = run_at(training="OST", fraction="1", seed="1")
    write_predictions(run.folder / "predictions.parquet", predictions(accuracy(run.planned.levels), IMAGES, first=7))
    values = values_of(record)
    assert values.problems == ("the runs were evaluated on different test images",)
    assert {cell.values.shape[1] for cell in values.cells.values()} == {1}


def test_predictions_that_do_not_give_the_runs_metric_are_not_used(
    record: StudyRecord, run_at: Callable[..., RunRecord]
) -> None:
    run = run_at(training="OST", fraction="1", seed="1")
    write_predictions(run.folder / "predictions.parquet", predictions(60.0, IMAGES))
    assert values_of(record).problems == (f"predictions.parquet of {run.planned.id} does not belong to its result",)


def with_class_averages(found: Predictions, every: int = 10) -> Predictions:
    """Return predictions with one target in `every` of the second class, and the metrics that weight both classes alike."""
    target = (np.arange(IMAGES) % every == 0).astype(np.int32)
    prediction = np.where(found.prediction == found.target, target, 1 - target).astype(np.int32)
    values = np.linspace(80, 100, IMAGES, dtype=np.float32)
    metrics = {name: name for name in CLASS_AVERAGES}
    return replace(found, target=target, prediction=prediction, auroc=values, metrics=metrics)


@pytest.mark.parametrize("name", CLASS_AVERAGES)
def test_metrics_that_weight_classes_alike_have_values_by_image(record: StudyRecord, name: str) -> None:
    """Images of rare classes count more, and so do those that are not in the test set."""
    for run in record.of_stage("finetune"):
        path = run.folder / "predictions.parquet"
        write_predictions(path, with_class_averages(read_predictions(path)))
        content = json.loads((run.folder / "result.json").read_text())
        content["metrics"][f"test_{name}"] = float(per_image(read_predictions(path), name).mean())
        (run.folder / "result.json").write_text(json.dumps(content))
    again = read_runs(record.plan, record.folder)
    values = values_of(again, f"test_{name}")
    assert not values.problems and {cell.values.shape for cell in values.cells.values()} == {(3, IMAGES)}
    assert values.image_weight == values.with_chance().image_weight == pytest.approx(np.sqrt(0.9 / 1.8**2 + 0.1 * 25))
    findings = compute_findings(with_metric(again, f"test_{name}"))
    assert findings.main.pooled.interval.images == IMAGES
    assert values_of(again, "test_top1").problems


def test_intervals_take_the_weight_of_images_that_are_not_in_the_test_set(record: StudyRecord) -> None:
    """Where all runs are equal on all images, these are all of the variance."""
    values, spec = values_of(record), record.plan.study.report
    cells = {key: CellValues(cell.seeds, np.full_like(cell.values, 90.0)) for key, cell in values.cells.items()}
    axes = {axis.name: list(axis.levels) for axis in record.plan.study.axes if axis.name != "seed"}
    assert isinstance(spec, ReportSpec)

    def half_width(weight: float) -> float:
        constant = replace(values, cells=cells, image_weight=weight)
        estimator = Estimator(axes, spec, constant, find_metric("test_macro_f1"))
        levels = {"stem": "patchify", "fraction": "0.1"}
        found = estimator.difference(levels, "training", "OST", "TST").interval
        return found.high - found.mean

    assert half_width(3.0) == pytest.approx(3 * half_width(1.0))


def test_variance_of_rare_classes_is_not_estimated(record: StudyRecord) -> None:
    for run in record.of_stage("finetune"):
        path = run.folder / "predictions.parquet"
        write_predictions(path, with_class_averages(read_predictions(path), every=40))
        content = json.loads((run.folder / "result.json").read_text())
        content["metrics"]["test_macro_f1"] = float(per_image(read_predictions(path), "macro_f1").mean())
        (run.folder / "result.json").write_text(json.dumps(content))
    values = values_of(read_runs(record.plan, record.folder), "test_macro_f1")
    assert values.problems == ("1 of the 2 classes have fewer than 10 test images each, too few for macro f1",)
    assert {cell.values.shape for cell in values.cells.values()} == {(3, 1)} and values.image_weight == 1


def with_metric(record: StudyRecord, name: str) -> StudyRecord:
    """Return a study whose report compares another metric."""
    report: Any = replace(record.plan.study.report, metric=name)
    return replace(record, plan=replace(record.plan, study=replace(record.plan.study, report=report)))


@pytest.mark.parametrize(
    ("metric", "problem"),
    [
        ("validation_top1", "validation_top1 is not a metric of the test images"),
        ("test_ece", "test_ece is not a mean over test images"),
    ],
)
def test_metric_that_is_no_mean_over_test_images(record: StudyRecord, metric: str, problem: str) -> None:
    for run in record.of_stage("finetune"):
        path = run.folder / "result.json"
        content = json.loads(path.read_text())
        content["metrics"] |= {"test_ece": 3.0}
        path.write_text(json.dumps(content))
    values = values_of(read_runs(record.plan, record.folder), metric)
    assert values.problems == (problem,) and {cell.values.shape for cell in values.cells.values()} == {(3, 1)}


def test_diverged_and_missing_runs_have_no_value(tmp_path: Path) -> None:
    def run_of(levels: Levels) -> Any:
        if (levels["training"], levels["seed"]) == ("OST", "1"):
            return {"crash": 9}
        return {"waiting": 1} if (levels["training"], levels["seed"]) == ("TST", "2") else accuracy(levels)

    study = comparison_study(stems=("patchify",), fractions=(0.1,), compare={"training": ["OST", "TST"]})
    values = values_of(write_comparison(study, tmp_path, run_of, images=IMAGES))
    assert values.cells["patchify", "OST", "0.1"].seeds == ("0", "2")
    assert values.cells["patchify", "TST", "0.1"].seeds == ("0", "1")
    assert values.diverged == {("patchify", "OST", "0.1"): ("1",)}
    assert values.planned["patchify", "TST", "0.1"] == ("0", "1", "2")

    chance = values.with_chance().cells["patchify", "OST", "0.1"]
    assert chance.seeds == ("0", "2", "1") and chance.values.shape == (3, IMAGES)
    assert set(chance.values[2]) == {10.0} and values.cells["patchify", "OST", "0.1"].values.shape == (2, IMAGES)


def test_run_whose_pretraining_diverged_counts_as_diverged(tmp_path: Path) -> None:
    study = comparison_study(stems=("patchify",), fractions=(0.1,), compare={"training": ["OST", "TST"]})
    record = write_comparison(
        study,
        tmp_path,
        lambda at: {"waiting": 1} if at["training"] == "TST" and at["seed"] == "0" else accuracy(at),
        pretraining=lambda at: {"crash": 4} if at["seed"] == "0" else {"value": 80.0},
    )
    assert values_of(record).diverged == {("patchify", "TST", "0.1"): ("0",)}


def test_cell_of_diverged_runs_alone_counts_as_chance_on_every_image(tmp_path: Path) -> None:
    study = comparison_study(stems=("patchify",), fractions=(0.1,), compare={"training": ["OST", "TST"]})
    record = write_comparison(
        study, tmp_path, lambda at: {"crash": 4} if at["training"] == "OST" else accuracy(at), images=IMAGES
    )
    values = values_of(record)
    assert values.cell({"stem": "patchify", "training": "OST", "fraction": "0.1"}) is None
    assert values.with_chance().cells["patchify", "OST", "0.1"].values.shape == (3, IMAGES)


@pytest.mark.parametrize(
    ("name", "classes", "chance"),
    [("test_top1", 10, 10.0), ("test_top5", 10, 50.0), ("test_top5", 3, 100.0), ("test_loss", 10, np.log(10)),
     ("test_top1", None, 0.0), ("test_map", 10, 0.0), ("test_ece", 10, 100.0), ("test_score", 10, None),
     ("test_balanced_accuracy", 10, 10.0), ("validation_macro_f1", 4, 25.0), ("test_auroc", 10, 50.0)],
)  # fmt: skip
def test_value_of_an_uninformative_prediction(name: str, classes: int | None, chance: float | None) -> None:
    found = find_metric(name).chance(classes)
    assert found == (pytest.approx(chance) if chance is not None else None)


def test_with_an_unknown_chance_level_diverged_runs_stay_excluded(tmp_path: Path) -> None:
    study = comparison_study(stems=("patchify",), fractions=(0.1,), compare={"training": ["OST", "TST"]})
    record = write_comparison(
        study,
        tmp_path,
        lambda at: {"crash": 4} if at["seed"] == "0" else {"metrics": {"test_score": 5.0}},
    )
    values = values_of(record, "test_score")
    assert values.chance is None and values.with_chance() is values


@pytest.mark.parametrize(
    ("name", "is_higher", "span", "margin"),
    [("test_top1", True, 100.0, 1.0), ("test_loss", False, 0.0, None), ("validation_ece", False, 100.0, 1.0),
     ("test_map", True, 100.0, 1.0), ("test_score", True, 0.0, None), ("test_knn_top1", True, 100.0, 1.0),
     ("test_balanced_accuracy", True, 100.0, 1.0), ("test_macro_f1", True, 100.0, 1.0), ("validation_auroc", True, 100.0, 1.0)],
)  # fmt: skip
def test_direction_and_range_by_the_name_of_a_metric(
    name: str, is_higher: bool, span: float, margin: float | None
) -> None:
    metric = find_metric(name)
    assert (metric.higher_is_better, metric.span, metric.margin) == (is_higher, span, margin)


def test_direction_and_range_of_a_study_take_precedence() -> None:
    metric = find_metric("test_map", higher_is_better=False, limits=(0.0, 1.0))
    assert (metric.higher_is_better, metric.range, metric.in_percent, metric.digits) == (False, (0.0, 1.0), False, 3)
    assert metric.margin == pytest.approx(0.01) and metric.chance(None) == 1.0
