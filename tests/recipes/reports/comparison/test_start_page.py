"""Page of a study with further starts: which training from scratch they are compared with, and where the arms are listed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, page_of
from starts_study import accuracy, starts_mapping, write_starts

from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.starts import Chosen
from recipes.reports.report import write_pages
from recipes.reports.results import StudyRecord, read_runs
from recipes.study.choices import Candidate, Choice, Choices


def with_choices(record: StudyRecord, metrics: Mapping[tuple[str, str], float]) -> StudyRecord:
    """Return a study with choices whose metric is given by (stem, training), otherwise 50."""
    arms = dict.fromkeys(
        (cell.levels["stem"], cell.levels["training"], cell.levels["fraction"]) for cell in record.plan.cells
    )
    choices = tuple(
        Choice(
            levels={"stem": stem, "training": training, "fraction": fraction},
            settings={"finetune.train.epochs": 40},
            length=1.0,
            metric=metrics.get((stem, training), 50.0),
            candidates=(Candidate(length=1.0, epochs=40, metric=50.0),),
            gain=0.1,
            converged=True,
        )
        for stem, training, fraction in arms
    )
    found = Choices(
        command="tune", digest="0" * 16, match="compute", metric="validation_subset_top1", seeds=(100,), choices=choices
    )
    return read_runs(replace(record.plan, choices=found), record.folder)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> ComparisonPage:
    """Return the page of the study of four starts, with predictions."""
    return page_of(write_starts(tmp_path_factory.mktemp("study"), with_report=True, images=60))


def test_tuning_runs_choose_the_training_from_scratch(tmp_path: Path) -> None:
    record = with_choices(
        write_starts(tmp_path, with_report=True),
        {("patchify", "OST"): 60.0, ("patchify", "public"): 99.0, ("conv", "OST"): 59.0},
    )
    found = page_of(record)
    starts = found.findings.starts
    assert starts is not None and starts.scratch == {"stem": "patchify", "training": "OST"}
    assert starts.chosen is Chosen.BY_TUNING and found.findings.claims[0].levels == {"stem": "patchify"}
    assert (
        "The training from scratch that a start is compared with is patchify stem, one-stage training (OST): the tuning runs' "
        "validation images prefer it; their seeds are not reported; test images do not choose it."
    ) in found.answer()


def test_without_tuning_the_validation_images_of_the_reported_runs_choose_and_test_images_do_not(
    tmp_path: Path,
) -> None:
    def value(at: Mapping[str, str]) -> Any:
        validation = 90.0 if (at["stem"], at["training"]) == ("patchify", "OST") else 50.0
        return {"value": accuracy(at), "metrics": {"validation_top1": validation}}

    found = page_of(write_starts(tmp_path, with_report=True, values=value)).findings.starts
    assert found is not None and found.scratch == {"stem": "patchify", "training": "OST"}
    assert (found.chosen, found.metric) == (Chosen.BY_RUNS, "validation_top1")


def test_an_arm_that_lacks_runs_is_not_chosen(tmp_path: Path) -> None:
    def value(at: Mapping[str, str]) -> Any:
        is_gone = (at["stem"], at["training"], at["fraction"]) == ("conv", "TST", "0.1")
        return {"crash": 9} if is_gone else accuracy(at)

    found = page_of(write_starts(tmp_path, with_report=True, values=value)).findings.starts
    assert found is not None and found.scratch == {"stem": "patchify", "training": "TST"}


def test_other_effects_are_those_of_the_compared_levels(page: ComparisonPage) -> None:
    assert page.findings.missing == 0
    stem = page.findings.effects[1]
    assert {each.levels["training"] for each in stem.by_setting} == {"OST", "TST"}
    assert stem.pooled.interval.mean == pytest.approx(1.0, abs=0.5)


def test_every_figure_and_table_of_arms_has_the_starts(page: ComparisonPage) -> None:
    figures = {name: fig for name, fig, _ in comparison_figures(page)}
    lines = [line.get_label() for line in figures["accuracy"].axes[0].get_lines()]
    assert {"public weights", "continued pre-training"} <= set(lines)
    assert {"confusion_1_start", "confusion_1_continued", "compute_hours"} <= set(figures)
    assert [row[1] for row in page.tables.costs(page.costs).rows].count("public weights") == 1
    titles = [each.title for each in page.sections.classes]
    assert titles[2:] == [
        "patchify stem, public weights against conv stem, two-stage training (TST), 100% (1,000 labels)",
        "continued pre-training against public weights, 100% (1,000 labels)",
    ]
    assert list(page.sections.classes[2].classes.header[2:5]) == [
        "TST with conv",
        "public with patchify",
        "public with patchify − TST with conv",
    ]


@pytest.mark.usefixtures("without_figures")
def test_what_is_skipped_and_the_sizing_are_on_the_page(tmp_path: Path) -> None:
    mapping = starts_mapping(with_report=True)
    mapping["report"]["skipped"] = ["msn: timm:x is not in the local cache and cannot be downloaded."]
    sizing = [{"key": "model.patch_size", "value": 4, "reason": "images of 32 px give 64 tokens"}]
    record = write_starts(tmp_path, report=mapping["report"], sizing=sizing)
    write_pages(record)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        first = text[: text.index("Declared claims</h2>" if name.endswith("html") else "## Declared claims")]
        assert "msn: timm:x is not in the local cache and cannot be downloaded." in first
        assert "How the study was sized" in text and "images of 32 px give 64 tokens" in text
        assert "Start from public weights" in first


def test_claims_of_a_start_depend_on_its_own_runs(tmp_path: Path) -> None:
    def value(at: Mapping[str, str]) -> Any:
        return {"crash": 9} if at["training"] == "public" else 80 + SCATTER[at["seed"]]

    found = page_of(write_starts(tmp_path, with_report=True, values=value))
    assert found.recommendation.sentence().startswith(
        "Not enough evidence yet: all runs of patchify stem, public weights diverged; make them converge first"
    )


def test_missing_results_of_the_second_start_are_named(tmp_path: Path) -> None:
    def value(at: Mapping[str, str]) -> Any:
        return {"waiting": True} if (at["training"], at["seed"]) == ("continued", "2") else accuracy(at)

    text = page_of(write_starts(tmp_path, with_report=True, values=value)).recommendation.sentence()
    assert text.startswith("Start from public weights: it outperforms the best training from scratch")
    assert text.endswith("; results of starting from continued pre-training are missing.")
