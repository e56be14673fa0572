"""The report compared with a published table: page, Markdown and CSV have the values of the run folders and of the paper."""

import csv
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from table_studies import TABLE1, row_axis, seed_axis, table1_outcome, table1_study, table_study, write_study

from recipes.reports.rendering import to_svg
from recipes.reports.replication.figures import table_figures
from recipes.reports.replication.page import TablePage
from recipes.reports.report import page_of, render, write_pages
from recipes.reports.results import StudyRecord
from recipes.study.report_specification import Figure, Pair
from recipes.study.specification import Axis

Texts = tuple[str, str]
"""Page and Markdown of a report as plain text."""


def texts(page: str, markdown: str) -> Texts:
    """Return the page of a report without its tags, and its Markdown."""
    text = re.sub(r"<(style|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"<[^>]+>", "|", text)), markdown


def rendered(study: StudyRecord) -> tuple[TablePage, Texts]:
    """Return the page of a study and its texts, without drawing figures."""
    page = page_of(study)
    assert isinstance(page, TablePage)
    return page, texts(*render(page, {}).values())


def has_cells(report: Texts, *entries: str) -> bool:
    """Return whether both the page and the Markdown have a table row with these cells."""
    page, markdown = report
    wanted = r"[|\s]+".join(map(re.escape, entries))
    return bool(re.search(wanted, page) and re.search(wanted, markdown))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the report of table 1, written once for the module."""
    place = tmp_path_factory.mktemp("table") / "study"
    write_pages(write_study(table1_study(), place, table1_outcome))
    return place


@pytest.fixture
def report(folder: Path) -> Texts:
    """Return the texts of the report of table 1."""
    return texts((folder / "report.html").read_text(), (folder / "report.md").read_text())


def test_every_row_has_our_value_and_the_papers_with_their_ranks_instead_of_the_difference(report: Texts) -> None:
    conv = "conv stem", "0.0005", "AdamW", "5", "93.0 (91.8 to 94.1)", "81.6"
    assert has_cells(report, *conv, "1–7", "3", "3")
    assert has_cells(report, "patchify stem", "0.001", "AdamW", "5", "2 of 3 diverged", "crash", "1–8", "7–8", "3")
    assert has_cells(report, "conv stem", "0.001", "AdamW", "0", "92.0 (90.8 to 93.1)", "crash", "1–8", "7–8", "3")
    assert has_cells(
        report, "patchify stem", "0.001", "SAM", "5", "89.0 (81.9 to 93.5), 1 of 3 diverged", "79.6", "1–8", "6", "3"
    )


def test_nothing_subtracts_the_papers_values_from_ours_at_another_scale(report: Texts) -> None:
    for text in report:
        assert "ours − paper" not in text and "not meaningful" not in text and "paper +" not in text


def test_differences_from_the_paper_stay_at_the_papers_scale(tmp_path: Path) -> None:
    page, report = rendered(write_study(table1_study(scale="imagenet1k"), tmp_path, table1_outcome))
    assert has_cells(report, "conv stem", "0.0005", "AdamW", "5", "93.0 (91.8 to 94.1)", "81.6", "+11.4", "3")
    assert has_cells(
        report, "patchify stem", "0.001", "AdamW", "5", "2 of 3 diverged", "crash", "diverged as in the paper", "3"
    )
    assert has_cells(report, "the conv stem beats patchify at lr 5e-4", "+1.8", "+3.0")
    assert "paper +1.8" in page.answer()[0] and "hold here (" in page.words.headline()


@pytest.mark.parametrize(("scale", "panels"), [("digits", 2), ("imagenet1k", 1)])
def test_published_values_share_an_axis_with_ours_only_at_the_papers_scale(
    scale: str, panels: int, tmp_path: Path
) -> None:
    study = table1_study(scale=scale)
    page, _ = rendered(
        write_study(study, tmp_path, lambda stage, levels: {"value": 79.0 + 0.4 * int(levels["row"][3:])})
    )
    figures = {name: (fig, caption) for name, fig, caption in table_figures(page)}
    fig, caption = figures["table_top1"]
    assert len(fig.axes) == panels
    assert ("they are of other data" in caption) is (panels == 2)


@pytest.mark.parametrize(("scale", "is_drawn"), [("digits", False), ("imagenet1k", True)])
def test_published_curve_is_drawn_only_at_the_papers_scale(scale: str, is_drawn: bool, tmp_path: Path) -> None:
    axes, figure, spec = KINDS["curve"]
    page, _ = rendered(write_study(table_study(axes, figure, scale=scale, **spec), tmp_path, kind_run))
    _, fig, caption = next(iter(table_figures(page)))
    drawn = [value for line in fig.axes[0].get_lines() for value in np.asarray(line.get_ydata(), float).tolist()]
    assert (67.8 in drawn) is is_drawn and ("thin and hollow" in caption) is is_drawn


def test_crashes_are_listed_with_stage_kind_and_step(report: Texts) -> None:
    row = "patchify stem, lr 0.001, AdamW, warm-up 5"
    assert has_cells(report, row, "diverged", "finetune", "non-finite loss", "97, 97", "2 of 3", "0, 2")


def test_divergence_of_each_row_is_beside_the_papers_crash(report: Texts) -> None:
    assert has_cells(report, "patchify stem, lr 0.001, AdamW, warm-up 5", "2 of 3", "21% to 94%", "crash")
    assert has_cells(report, "conv stem, lr 0.001, AdamW, warm-up 0", "0 of 3", "0% to 56%", "crash")
    assert has_cells(report, "patchify stem, lr 0.001, SAM, warm-up 5", "1 of 3", "6% to 79%", "79.6")


def test_claims_are_listed_with_interval_and_adjusted_p_value(report: Texts) -> None:
    assert has_cells(
        report, "the conv stem beats patchify at lr 5e-4", "81.6 vs. 79.8", "+3.0", "+2.0 to +4.0", "0.0053", "holds"
    )
    tolerates = "the conv stem tolerates lr 1e-3, patchify crashes"
    assert has_cells(report, tolerates, "81.9 vs. crash", "94.0 vs. diverged in 2 of 3", "–", "0.44", "inconclusive")
    assert has_cells(report, "the conv stem needs a warm-up", "81.9 vs. crash", "+2.0")


def test_answer_comes_first_with_the_agreement(report: Texts) -> None:
    for text in report:
        headline = "Of the paper's 4 claims, 2 hold at scale digits (the conv stem beats patchify at lr 5e-4; "
        assert headline in text[:400]
        assert "Of the 27 pairs of rows that the paper orders, 24 have the same order here" in text
        assert "Diverged runs: where the paper has a crash (2 rows) 2 of 6 (patchify stem, lr 0.001" in text
        assert "Where the paper has a value (6 rows) 1 of 18 (patchify stem, lr 0.001, SAM, warm-up 5: 1 of 3)." in text


def test_figures_are_inline_in_the_page_and_files_for_the_markdown(folder: Path) -> None:
    page, markdown = (folder / "report.html").read_text(), (folder / "report.md").read_text()
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", markdown)
    names = ["table_top1", "curves_finetune_validation_top1", "curves_finetune_loss", "cost"]
    assert links == [f"figures/{name}.png" for name in names]
    assert all((folder / link).read_bytes().startswith(b"\x89PNG") for link in links)
    assert page.count('class="figure-wide"') == page.count('class="figure-narrow"') == len(names)
    assert page.count("<svg") == 2 * len(names)
    assert not re.findall(r"#[0-9a-f]{6}\b", "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL)))
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    for table in re.findall(r"(?:^\|.*\n)+", markdown, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_csv_has_a_line_for_each_run_with_the_kind_of_its_crash(folder: Path) -> None:
    with (folder / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 24 and [line["kind"] for line in lines].count("non_finite_loss") == 3


def test_page_of_a_study_without_results(tmp_path: Path) -> None:
    page, report = rendered(write_study(table1_study(), tmp_path, lambda stage, levels: {"waiting": True}))
    assert page.words.headline() == "No row of this table has been measured yet."
    assert has_cells(report, "patchify stem", "0.0005", "AdamW", "5", "–", "79.8", "–")
    assert "0 of 24 runs are done" in page.warnings()[-1]
    assert list(table_figures(page)) == []


def test_page_of_an_incomplete_study(tmp_path: Path) -> None:
    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, Any]:
        is_waiting = levels["row"] > "row04" or (levels["row"] == "row00" and levels["seed"] == "2")
        return {"waiting": True} if is_waiting else table1_outcome(stage, levels)

    page, report = rendered(write_study(table1_study(), tmp_path, run_of))
    assert (
        page.words.headline()
        == "Of the paper's 4 claims, 2 are inconclusive at scale digits and 2 are not measured; 3 seeds in all would settle "
        "one of them if its estimate holds."
    )
    assert has_cells(
        report, "patchify stem", "0.0005", "AdamW", "5", "89.8 (85.3 to 93.0)", "79.8", "1–5", "3", "2 of 3"
    )
    assert has_cells(report, "conv stem", "0.001", "SAM", "5", "–", "81.7", "–", "–")
    assert any(sentence.startswith("Not measured yet: the conv stem tolerates lr 1e-3") for sentence in page.answer())


def test_page_of_a_study_in_which_every_run_crashed(tmp_path: Path) -> None:
    page, report = rendered(write_study(table1_study(), tmp_path, lambda stage, levels: {"crash": 3}))
    assert "All 24 runs diverged, in the 2 rows with a crash in the paper and in all others." in page.answer()
    assert page.words.headline() == "All 24 runs diverged: none of the paper's 4 claims can be tested."
    assert has_cells(report, "conv stem", "0.001", "SAM", "5", "all 3 diverged", "81.7", "2", "3")


def test_doubtful_values_have_a_mark_and_a_footnote(tmp_path: Path) -> None:
    rows = [{"stem": stem, "lr": 0.0016} for stem in ("1Proj+1BN+1ReLU", "1Proj")]
    study = table_study(
        [row_axis(rows), seed_axis(2)],
        Figure("rows"),
        table="scaled_relu_table4",
        metrics={"msmt17_rank1": "test_top1"},
    )
    _, report = rendered(write_study(study, tmp_path, lambda stage, levels: {"value": 70.0 + int(levels["seed"])}))
    assert has_cells(report, "1Proj+1BN+1ReLU", "70.5 (63.8 to 76.4)", "71.5†", "2")
    for text in report:
        assert "† The published value looks like an error of the text recognition" in text
        assert "Identical in all rows: lr 0.0016." in text
        assert "Only 2 seeds: the intervals are wide, and no difference counts as significant." in text


STEMS = Axis("stem", {"patchify": {"s": 0}, "conv": {"s": 1}})
EPOCHS = Axis("epochs", {str(epochs): {"e": epochs} for epochs in (50, 100, 400)})
OPTIMIZERS = Axis("optimizer", {"sgd": {"o": 0}, "adamw": {"o": 1}})
FRACTIONS = Axis("fraction", {"0.1": {"f": 0.1}, "0.5": {"f": 0.5}, "1": {"f": 1.0}})
TRAINING = Axis("training", {"TST": {"t": 1}, "OST": {"t": 0}})
DRAWS = Axis("draw", {str(n): {"d": n} for n in range(6)}, {str(n): {"lr": n} for n in range(6)})


def kind_run(stage: str, levels: Mapping[str, str]) -> Mapping[str, Any]:
    """Return a run of the studies below: accuracy grows with longer training, conv is above patchify, one run crashes."""
    if levels.get("draw") == "3" or (levels.get("fraction"), levels.get("training")) == ("0.5", "OST"):
        return {"crash": 7, "curve": False}
    gain = (
        float(levels.get("epochs", "0")) / 100 + 3 * (levels.get("stem") == "conv") + 2 * float(levels.get("draw", "0"))
    )
    layers = {f"similarity_{number:02d}": 0.3 + 0.02 * number for number in range(5)}
    return {"value": 80 + gain + 0.4 * int(levels["seed"]), "metrics": layers, "curve": False}


KINDS = {
    "curve": ([TRAINING, FRACTIONS, seed_axis(2)], Figure("curve", x="fraction"), {"table": "scaled_relu_table7"}),
    "layers": ([STEMS, seed_axis(2)], Figure("layers"), {"metrics": {"similarity": "similarity"}}),
    "distribution": ([STEMS, DRAWS, seed_axis(1)], Figure("distribution", x="draw", panels="stem"), {}),
    "gap": ([STEMS, EPOCHS, seed_axis(2)], Figure("gap", x="epochs", panels="stem"), {}),
    "gap_of_names": ([STEMS, OPTIMIZERS, seed_axis(2)], Figure("gap", x="optimizer"), {}),
    "rows_in_groups": ([STEMS, OPTIMIZERS, seed_axis(2)], Figure("rows", panels="optimizer"), {}),
}
LINES = {
    "curve": [("TST", "0.5", "80.2 (77.5 to 82.6)", "79.0", "2", "2"), ("OST", "0.5", "all 2 diverged", "–", "–", "2")],
    "layers": [("position embedding", "0.320 ± 0.000", "0.320 ± 0.000"), ("block 3", "0.380 ± 0.000", "0.380 ± 0.000")],
    "distribution": [("conv stem", "6", "93.0", "86.0", "17%", "33%", "33%", "1")],
    "gap": [("conv stem", "3.5 ± 1.2", "–", "3.0 ± 1.2", "–"), ("conv stem", "100", "84.2 (81.5 to 86.6)", "2")],
    "gap_of_names": [("patchify stem", "0.0 ± 1.2", "–")],
    "rows_in_groups": [("conv stem", "AdamW", "83.2 (80.5 to 85.6)", "2")],
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_figure_has_a_table_and_a_figure(kind: str, tmp_path: Path) -> None:
    axes, figure, spec = KINDS[kind]
    page, report = rendered(write_study(table_study(axes, figure, **spec), tmp_path, kind_run))
    assert all(has_cells(report, *line) for line in LINES[kind]), report[1]
    figures = {name: fig for name, fig, _ in table_figures(page)}
    assert list(figures) == [f"table_{'top1' if figure.kind == 'rows' else figure.kind}", "cost"]
    assert to_svg(figures[list(figures)[0]], kind, "").startswith("<svg")


def test_distribution_over_several_seeds_counts_draws_in_table_figure_and_notes(tmp_path: Path) -> None:
    figure = Figure("distribution", x="draw", panels="stem")
    page, report = rendered(write_study(table_study([STEMS, DRAWS, seed_axis(3)], figure), tmp_path, kind_run))
    assert has_cells(report, "conv stem", "6", "93.4", "86.4", "17%", "33%", "33%", "1")
    drawn, *_ = (to_svg(fig, name, "") for name, fig, _ in table_figures(page))
    assert "conv stem: best error 6.6, median 13.6 (1 of 6 diverged)" in drawn
    for text in report:
        assert "with 95% confidence intervals over the draws. The value of a draw is the mean over its seeds" in text
        assert "confidence intervals over 3 seeds" not in text


def test_footnote_gives_the_epoch_of_a_metric_during_training(tmp_path: Path) -> None:
    study = table_study([STEMS, seed_axis(2)], Figure("rows"), metrics={"top1_epoch5": "validation_top1@0.25"})
    _, report = rendered(write_study(study, tmp_path, lambda stage, levels: {"value": 80.0}))
    assert all("Validation top1 after 25% of the epochs: read after epoch 4 of 20." in text for text in report)


def test_report_is_reproducible(tmp_path: Path) -> None:
    study = table_study([STEMS, seed_axis(2)], Figure("rows"))
    reports = [write_pages(write_study(study, tmp_path / name, kind_run)).study.folder for name in ("one", "two")]
    for name in ("report.html", "report.md", "results.csv", "figures/table_top1.png"):
        one, two = ((folder / name).read_bytes() for folder in reports)
        assert one == two.replace(str(reports[1]).encode(), str(reports[0]).encode())


def test_text_of_a_study_is_escaped(tmp_path: Path) -> None:
    pair = Pair("<b>a | b</b>", TABLE1[0], TABLE1[1])
    study = table_study([row_axis(TABLE1[:2]), seed_axis(2)], Figure("rows"), pairs=(pair,))
    page = page_of(write_study(study, tmp_path, lambda stage, levels: {"value": 80.0 + int(levels["row"][3:])}))
    files = render(page, {})
    assert "&lt;b&gt;a | b&lt;/b&gt;" in files["report.html"] and r"\<b>a \| b\</b>" in files["report.md"]
