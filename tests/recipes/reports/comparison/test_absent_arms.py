"""Reports of studies without some combinations of levels: no row, line or number for what is no cell."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_studies import page_of
from starts_study import STARTS, write_starts
from table_studies import write_run

from recipes.reports.comparison.findings import compute_findings
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.report import write_pages
from recipes.reports.results import read_runs
from recipes.study.plan import PlannedRun
from recipes.study.specification import BASELINES


@pytest.fixture
def page(tmp_path: Path) -> ComparisonPage:
    """Return the page of the study of four starts, of which two levels are further arms without a claim."""
    return page_of(write_starts(tmp_path))


def test_no_such_cell_is_missing(page: ComparisonPage) -> None:
    assert page.findings.missing == 0 and page.warnings() == []
    assert page.incomplete(page.tables.level) == []
    assert all(estimate.points for estimate in page.findings.arms) and len(page.findings.arms) == 2 * 6


def test_tables_have_no_row_of_such_a_cell(page: ComparisonPage) -> None:
    arms = [tuple(row[:2]) for row in page.tables.accuracies().rows]
    assert arms == [
        ("patchify stem", "one-stage training (OST)"),
        ("patchify stem", "two-stage training (TST)"),
        ("patchify stem", "public weights"),
        ("patchify stem", "continued pre-training"),
        ("conv stem", "one-stage training (OST)"),
        ("conv stem", "two-stage training (TST)"),
    ]
    for effect in page.findings.effects:
        assert not any(math.isnan(each.interval.mean) for each in (*effect.by_setting, *effect.by_panel, *effect.by_x))
        assert len(page.tables.differences(effect).rows) == 4
    assert len(page.tables.costs(page.costs).rows) == 6


def test_the_whole_page_is_written(page: ComparisonPage) -> None:
    write_pages(page.study)
    for name in ("report.html", "report.md"):
        text = (page.study.folder / name).read_text()
        assert "not measured" not in text and "nan" not in text
    assert (page.study.folder / "figures" / "accuracy.png").is_file()


def test_an_arm_that_one_stem_lacks_does_not_change_what_is_compared(tmp_path: Path) -> None:
    levels = {name: STARTS["axes"]["training"]["levels"][name] for name in ("OST", "TST")}
    axes = {**STARTS["axes"], "training": {"levels": levels}}
    two = compute_findings(write_starts(tmp_path / "two", axes=axes, without=[]))
    four = compute_findings(write_starts(tmp_path / "four"))
    assert [replace(claim, cells=()) for claim in two.claims] == [replace(claim, cells=()) for claim in four.claims]
    assert two.interaction == four.interaction and two.effects == four.effects


def test_baselines_have_a_row_for_each_start(tmp_path: Path) -> None:
    record = write_starts(tmp_path)
    runs = list(record.plan.runs)
    for number, (training, features) in enumerate(
        [("TST", "pre-trained"), ("public", "pre-trained"), ("continued", "pre-trained"), (None, "untrained")]
    ):
        levels = {"stem": "patchify", **({"training": training} if training else {}), "fraction": "0.1", "seed": "0"}
        levels["features"] = features
        runs.append(PlannedRun(f"baselines-{number:08x}", BASELINES, "common.evaluation probe", "x", (), levels, None))
        write_run(tmp_path / "runs" / runs[-1].id, {"metrics": {"test_knn_top1": 70.0 + number}})
    page = page_of(read_runs(replace(record.plan, runs=tuple(runs)), tmp_path))
    rows = {tuple(row[:3]): row[4] for row in page.tables.baselines().rows}
    assert rows == {
        ("pre-trained", "patchify stem", "two-stage training (TST)"): "70.0",
        ("pre-trained", "patchify stem", "public weights"): "71.0",
        ("pre-trained", "patchify stem", "continued pre-training"): "72.0",
        ("untrained", "patchify stem", "–"): "73.0",
    }
