"""The first screen of a page besides its answers: cost and device, runs that failed or are missing, title, contents, landmarks."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from comparison_studies import comparison_study, write_comparison

from recipes.__main__ import main
from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.contents import find_contents
from recipes.reports.incomplete_runs import incomplete_runs
from recipes.reports.report import render, write_report
from recipes.reports.results import read_study
from recipes.study.plan import PlannedRun


def page_of(folder: Path) -> ComparisonPage:
    """Return the page content of the study in `folder`."""
    return ComparisonPage(read_study(folder))


def overwrite(folder: Path, run: PlannedRun, name: str = "result.json", **facts: object) -> None:
    """Change a file of a run."""
    path = folder / "runs" / run.id / name
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_cost_is_given_by_stage_and_with_the_device(study_folder: Path) -> None:
    page = page_of(study_folder)
    assert page.spent() == "7 min of compute (2 min pretrain, 5 min finetune) on A processor, 2 cores"
    for run in page.study.plan.runs:
        overwrite(study_folder, run, "environment.json", device="A GPU")
    assert page_of(study_folder).spent().endswith(" on A GPU")


def test_all_runs_finished(study_folder: Path) -> None:
    page = page_of(study_folder)
    assert incomplete_runs(page.study, page.tables.level) == []
    assert "- Failures: none: all 54 runs finished." in render(page, {})["report.md"]


def test_runs_that_failed_or_are_missing_are_named(study_folder: Path, run_of: Callable[..., PlannedRun]) -> None:
    run = run_of("finetune", stem="conv", training="OST", fraction="0.1", seed="1")
    overwrite(study_folder, run, status="diverged", kind="non_finite", reason="a loss of nan")
    for fraction in ("0.1", "0.25", "0.5", "1"):
        waiting = run_of("finetune", stem="conv", training="TST", fraction=fraction, seed="2")
        shutil.rmtree(study_folder / "runs" / waiting.id)
    page = page_of(study_folder)
    assert incomplete_runs(page.study, page.tables.level) == [
        "1 finetune run diverged (non-finite): conv stem, one-stage training (OST), fraction 10%, seed 1",
        "4 finetune runs waiting: conv stem, two-stage training (TST), fraction 10%, seed 2; conv stem, two-stage training (TST), "
        "fraction 25%, seed 2; conv stem, two-stage training (TST), fraction 50%, seed 2; and 1 more",
    ]
    texts = render(page, {})
    assert "conv stem, one-stage training (OST), fraction 10%, seed 1. 4 finetune runs waiting" in texts["report.html"]
    assert "conv stem, one-stage training (OST), fraction 10%, seed 1. 4 finetune runs waiting" in texts["report.md"]


@pytest.mark.usefixtures("without_figures")
def test_title_is_the_recommendation(study_folder: Path) -> None:
    page = write_report(study_folder)
    assert isinstance(page, ComparisonPage)
    text = (study_folder / "report.html").read_text()
    sentence = page.recommendation.sentence()
    assert f"<title>known: {sentence}</title>" in text and f"<h1>{sentence}</h1>" in text
    assert (study_folder / "report.md").read_text().startswith(f"# known: {sentence}\n")


@pytest.mark.usefixtures("without_figures")
def test_command_prints_the_recommendation_first(study_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(study_folder)]) == 0
    page = page_of(study_folder)
    printed = capsys.readouterr().out.strip().splitlines()
    expected = [*page.advice(), page.words.headline()]
    assert printed[: len(expected)] == expected


def test_figure_of_the_first_screen_is_not_repeated(study_folder: Path, draw_only: Callable[..., None]) -> None:
    draw_only("accuracy")
    write_report(study_folder)
    html, markdown = ((study_folder / f"report.{kind}").read_text() for kind in ("html", "md"))
    assert html.count("Top-1 accuracy over fraction of the labels. Lines connect") == 1 + html.count(
        'aria-label="Top-1 accuracy over fraction of the labels. Lines connect'
    )
    assert markdown.count("](figures/accuracy.png)") == 1
    assert markdown.index("](figures/accuracy.png)") < markdown.index("## Declared claims")


def test_a_metric_that_no_run_has_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    """The page said that no pair of runs is complete, although all of them were."""
    record = write_comparison(comparison_study(metric="test_topl"), tmp_path, lambda at: 90.0)
    warning = ComparisonPage(record).warnings()[0]
    assert warning.startswith("No run of finetune has the metric test_topl. Did you mean test_top1? They have ")
    known = write_comparison(comparison_study(), tmp_path / "known", lambda at: 90.0)
    assert ComparisonPage(known).warnings() == []


def test_caption_of_one_amount_of_labels_mentions_no_lines(tmp_path: Path) -> None:
    record = write_comparison(comparison_study(fractions=(1.0,)), tmp_path, lambda at: 90.0)
    captions = {name: text for name, _, text in comparison_figures(ComparisonPage(record))}
    start = "Top-1 accuracy with the only fraction of the labels of the study. Large marks are means, bars are 95%"
    assert captions["accuracy"].startswith(start)


def test_an_earlier_run_that_serves_one_run_is_shared_by_1_run(tmp_path: Path) -> None:
    page = ComparisonPage(write_comparison(comparison_study(fractions=(1.0,)), tmp_path, lambda at: 90.0))
    table = page.tables.costs(page.costs)
    shared = table.header.index("Shared by")
    assert {row[shared] for row in table.rows} == {"–", "1 run"}


def test_tables_have_captions_and_scopes(study_folder: Path) -> None:
    html = render(page_of(study_folder), {})["report.html"]
    assert (
        html.count("<table>") == html.count("<caption>") == html.count('<div class="scroll" tabindex="0" role="region"')
    )
    assert html.count("<thead>") + 1 == html.count("<caption>")  # that of the environment has no header
    assert '<th scope="row" class="name">conv stem</th>' in html and '<th scope="col" class="name">Stem</th>' in html


def test_page_has_landmarks(study_folder: Path) -> None:
    html = render(page_of(study_folder), {})["report.html"]
    landmarks = "<main>", '<nav id="contents" aria-label="Contents">', "<footer>", '<html lang="en">'
    assert [html.count(each) for each in (*landmarks, '<a class="skip" href="#contents">')] == [1] * 5


def test_contents_are_the_headings_with_unique_anchors() -> None:
    found = find_contents(
        "<section>\n<h2>A &amp; <i>b</i>, 10%</h2><p>1</p></section>\n<section><h2>A b 10</h2></section>"
        "<section><h2>−</h2></section>"
    )
    assert [(entry.anchor, str(entry.heading)) for entry in found.entries] == [
        ("section-a-b-10", "A &amp; <i>b</i>, 10%"), ("section-a-b-10-2", "A b 10"), ("section-page", "−"),
    ]  # fmt: skip
    assert found.html.startswith(
        '<section aria-label="A &amp; b, 10%">\n<h2 id="section-a-b-10">A &amp; <i>b</i>, 10%</h2><p>1</p>'
    )
    assert all(found.html.count(f'id="{entry.anchor}"') == 1 for entry in found.entries)


def test_runs_whose_machines_chose_unlike_precisions_are_named(study_folder: Path) -> None:
    runs = [run for run in page_of(study_folder).study.plan.runs if run.stage == "finetune"]
    for run in runs:
        overwrite(study_folder, run, "environment.json", chosen_precision="bf16")
    assert page_of(study_folder).warnings() == []
    overwrite(study_folder, runs[0], "environment.json", chosen_precision="fp32")
    (sentence,) = page_of(study_folder).warnings()
    chosen = f"(bf16 in {len(runs) - 1}, fp32 in 1)"
    assert sentence.startswith(f"train.precision=auto chose differently for the runs of finetune {chosen}")
