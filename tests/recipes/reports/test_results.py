"""The frame of a study's runs, and that of its cells."""

from pathlib import Path

import pytest
from comparison_studies import comparison_study, write_comparison

from common.errors import UserError
from recipes.reports.arm_costs import arm_costs, stage_seconds
from recipes.reports.comparison.findings import compute_findings
from recipes.reports.comparison.stage_curves import read_stage_curves
from recipes.reports.results import StudyRecord
from recipes.study.axis_names import taken_names
from recipes.study.study_file import build_study

DIVERGED = {"crash": 7}


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """Return a study of 2 seeds in which seed 1 of conv, OST at 10% diverged, and patchify's pre-training of seed 0."""
    study = comparison_study(fractions=(0.1, 1.0), num_seeds=2)

    def value(levels):
        broken = {"stem": "conv", "training": "OST", "fraction": "0.1", "seed": "1"}
        return DIVERGED if broken.items() <= levels.items() else 90.0

    def pretraining(levels):
        return DIVERGED if levels == {"stem": "patchify", "seed": "0"} else {"value": 88.0}

    return write_comparison(study, tmp_path, value, pretraining=pretraining)


def test_frame_has_a_row_per_run_with_levels_result_and_metrics(record: StudyRecord) -> None:
    frame = record.frame
    assert list(frame.index) == [run.id for run in record.plan.runs]
    assert frame.index.is_unique
    for name, run in record.runs.items():
        row = frame.loc[name]
        assert [row[axis] for axis in record.axes] == [run.planned.levels.get(axis) for axis in record.axes]
        assert row["starts_from"] == run.planned.needs
        if run.result is not None:
            assert (row["status"], row["step"], row["seconds"]) == (
                run.result.status,
                run.result.step,
                run.result.seconds,
            )
            assert all(row[metric] == value for metric, value in run.result.metrics.items())


def test_cells_have_all_levels_and_name_the_stage_that_diverged(record: StudyRecord) -> None:
    cells = record.cells
    assert len(cells) == len(record.plan.cells) == 16
    for cell, row in zip(record.plan.cells, cells.to_dict("records"), strict=True):
        assert {axis: row[axis] for axis in record.axes} == dict(cell.levels)
        assert row["run"] == cell.runs["finetune"]
    diverged = cells[cells["diverged"].notna()].set_index(["stem", "training", "fraction", "seed"])["diverged"]
    assert diverged.to_dict() == {
        ("conv", "OST", "0.1", "1"): "finetune",
        ("patchify", "TST", "0.1", "0"): "pretrain",
        ("patchify", "TST", "1", "0"): "pretrain",
    }
    assert not cells.loc[cells["status"] == "diverged", "is_usable"].any()


def test_costs_are_those_of_a_loop_over_the_cells(record: StudyRecord) -> None:
    costs = arm_costs(record, ["stem", "training"]).set_index(["stem", "training"])
    for (stem, training), cost in costs.iterrows():
        cells = [
            cell for cell in record.plan.cells if (cell.levels["stem"], cell.levels["training"]) == (stem, training)
        ]
        runs = [record.final_run(cell) for cell in cells if record.final_run(cell).result]
        assert cost["runs"] == len(runs)
        assert cost["seconds"] == pytest.approx(sum(run.result.seconds for run in runs) / len(runs))
        starts = [record.runs[run.planned.needs] for run in runs if run.planned.needs]
        earlier = sum(start.result.seconds for start in starts) / len(starts) if starts else 0.0
        assert cost["earlier_seconds"] == pytest.approx(earlier)
        assert cost["standalone_seconds"] == pytest.approx(cost["seconds"] + earlier)
        assert cost["shared_by"] == (2.0 if training == "TST" else 0.0)
    total = sum(run.result.seconds for run in record.runs.values() if run.result)
    assert sum(stage_seconds(record).values()) == pytest.approx(total)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        *((name, "a column of the report") for name in ("runs", "shared_by", "hours", "earlier_seconds", "diverged")),
        *((name, "a column of the report") for name in ("is_usable", "total_seconds", "value", "epoch")),
        *((name, "a metric of the runs") for name in ("test_top1", "validation_subset_loss", "knn_top1_untrained")),
        ("pain_score", "a metric of the report"),
    ],
)
def test_axis_with_the_name_of_something_in_the_report_is_refused(name: str, what: str) -> None:
    study = comparison_study(metric="pain_score" if name == "pain_score" else "test_top1")
    axes = {**study.mapping["axes"], name: {"key": "finetune.train.epochs", "values": [1, 2]}}
    with pytest.raises(UserError) as caught:
        build_study({**study.mapping, "axes": axes}, "known.yaml")
    assert str(caught.value).count(f"axes.{name}: is the name of {what}. Choose another name for the axis.") == 1


def test_every_column_beside_those_of_axes_is_a_taken_name(record: StudyRecord) -> None:
    findings = compute_findings(record)
    frames = (record.frame, record.cells, arm_costs(record, record.axes), read_stage_curves(record, findings))
    columns = {name for frame in frames for name in frame.columns} - set(record.axes)
    assert len(list(taken_names(columns))) == len(columns)


def test_a_metric_with_the_name_of_an_axis_leaves_the_levels_as_they_are(tmp_path: Path) -> None:
    study = comparison_study(fractions=(0.1, 1.0), num_seeds=1)
    record = write_comparison(study, tmp_path, lambda levels: {"value": 90.0, "metrics": {"stem": 3.0, "depth": 2.0}})
    assert set(record.cells["stem"]) == {"patchify", "conv"} and set(record.cells["depth"]) == {2.0}
    assert "stem" not in record.metric_names and record.frame.columns.is_unique


def test_axis_with_the_name_of_a_column_is_refused() -> None:
    study = comparison_study()
    axes = {**study.mapping["axes"], "seconds": {"key": "finetune.train.epochs", "values": [1, 2]}}
    with pytest.raises(UserError, match=r"axes\.seconds: is the name of a column of results\.csv"):
        build_study({**study.mapping, "axes": axes}, "known.yaml")
