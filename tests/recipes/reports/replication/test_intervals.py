"""Intervals of tables over seeds and test images, from run folders with predictions.parquet."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparison_studies import predictions
from table_studies import CLAIMS, SEED_OFFSETS, TABLE1, row_axis, seed_axis, table1_study, table_study, write_study

from common.evaluation.predictions import write_predictions
from recipes.reports.crossed_effects import CellValues, Term
from recipes.reports.estimates import cell_mean, weighted_sum
from recipes.reports.image_values import values_by_image
from recipes.reports.metrics import find_metric
from recipes.reports.replication.claims import find_claims
from recipes.reports.replication.findings import Row, compute_table_findings
from recipes.reports.replication.page import TablePage
from recipes.reports.results import StudyRecord
from recipes.study.report_specification import Figure
from recipes.study.specification import Axis, Study

METRIC = find_metric("test_top1")
IMAGES = 400


def outcome(stage: str, levels: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a run of table 1 whose accuracy is a number of the test images."""
    seed = int(levels["seed"])
    return {"value": (80.0 + int(levels["row"][3:]) + 0.25 * round(4 * SEED_OFFSETS[seed % 3])), "curve": False}


@pytest.fixture
def with_images(tmp_path: Path) -> Callable[[Study], StudyRecord]:
    """Return a function that writes a study whose runs have predictions."""

    def write(study: Study) -> StudyRecord:
        record = write_study(study, tmp_path, outcome)
        for number, run in enumerate(record.runs.values()):
            assert run.result is not None
            found = predictions(run.result.metrics["test_top1"], IMAGES, seed=number)
            write_predictions(run.folder / "predictions.parquet", found)
        return record

    return write


def cell_of(row: Row) -> CellValues:
    """Return the values of a row by seed and image, read independently of the findings."""
    rows, problems, _ = values_by_image({name: run for name, run in row.runs.items()}, METRIC)
    assert not problems
    return CellValues(tuple(rows), np.stack(list(rows.values())))


def test_intervals_of_rows_and_claims_are_the_crossed_effects_estimates(
    with_images: Callable[[Study], StudyRecord],
) -> None:
    findings = compute_table_findings(with_images(table1_study()))
    first, _, _, _, other, *_ = findings.rows
    claim = find_claims(findings)[0]
    assert claim.base is first and claim.other is other
    assert first.scores["top1"].interval == cell_mean(cell_of(first), METRIC)
    terms = [Term(-1.0, cell_of(first), "first"), Term(1.0, cell_of(other), "other")]
    assert claim.interval == weighted_sum(terms, METRIC)
    assert claim.interval.images == IMAGES and findings.covers_images("top1")


def test_page_states_that_the_intervals_are_for_future_images(with_images: Callable[[Study], StudyRecord]) -> None:
    page = TablePage(with_images(table1_study()))
    sentence = "The intervals cover the seeds and the sampling of the test images: they are for future images of the same kind."
    assert sentence in page.answer()
    assert "95% CI over seeds and test images" in page.tables.claims(page.claims).header
    assert any(
        note.startswith("Intervals are 95% confidence intervals over 3 seeds and the test images")
        for note in page.notes()
    )


def test_one_run_without_predictions_leaves_the_intervals_over_seeds(
    with_images: Callable[[Study], StudyRecord],
) -> None:
    record = with_images(table1_study())
    run = next(iter(record.runs.values()))
    (run.folder / "predictions.parquet").unlink()
    page = TablePage(record)
    reason = f"The intervals cover the seeds alone, for these test images: {run.planned.id} has no predictions.parquet."
    assert reason in page.answer()
    assert {row.scores["top1"].interval.images for row in page.findings.rows} == {0}


def test_metric_read_during_training_has_intervals_over_seeds_and_others_keep_theirs(
    with_images: Callable[[Study], StudyRecord],
) -> None:
    study = table1_study(metrics={"top1": "test_top1", "early": "validation_top1@0.25"}, pairs=CLAIMS[:1])
    page = TablePage(with_images(study))
    assert page.findings.covers_images("top1") and not page.findings.covers_images("early")


def test_more_seeds_do_not_remove_the_part_of_the_images(with_images: Callable[[Study], StudyRecord]) -> None:
    findings = compute_table_findings(with_images(table1_study(9)))
    score = findings.rows[0].scores["top1"]
    fixed = cell_mean(CellValues(score.cell.seeds, score.cell.values.mean(axis=1, keepdims=True)), METRIC)  # type: ignore[union-attr]
    assert score.interval.half_width > 2 * fixed.half_width


def test_rows_whose_seeds_share_a_pre_training_are_named(tmp_path: Path) -> None:
    axes = [row_axis(TABLE1[:2]), Axis("seed", {str(number): {"finetune.train.seed": number} for number in range(3)})]
    study = table_study(axes, Figure("rows"), stages=("pretrain", "finetune"))
    page = TablePage(write_study(study, tmp_path, outcome_of_stage))
    assert page.findings.shared_starts == ("pretrain",)
    assert (
        "Several seeds of a row start from one run of pretrain: the intervals leave its variance out." in page.answer()
    )
    own = table_study([row_axis(TABLE1[:2]), seed_axis(3)], Figure("rows"), stages=("pretrain", "finetune"))
    assert compute_table_findings(write_study(own, tmp_path / "own", outcome_of_stage)).shared_starts == ()


def outcome_of_stage(stage: str, levels: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a run of either stage."""
    return {"value": 80.0, "curve": False} if stage == "pretrain" else outcome(stage, levels)
