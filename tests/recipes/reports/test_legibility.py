"""Figures of large studies: no two texts overlap and none leaves the canvas, wide and narrow; the page stays small."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import pytest
from comparison_studies import SCATTER, comparison_study, write_comparison
from table_studies import RunSpec, row_axis, seed_axis, table_study, write_study

from common.figures import Bounds, Figure, Text, figure_settings, text_bounds
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.figure_style import STYLE, WIDTH, figure, legend_above, narrow_layout
from recipes.reports.rendering import compact_path, is_of_narrow_width, settle, to_pdf
from recipes.reports.replication.page import TablePage
from recipes.reports.report import page_figures, write_pages
from recipes.study.report_specification import Figure as FigureSpec

STEMS = ("patchify", "conv", *(f"{number}Conv+{number}BN+{number}ReLU+1Proj" for number in range(1, 9)))
RATES, OPTIMIZERS = (1e-4, 3e-4, 5e-4, 1e-3, 2e-3), ("adamw", "sam")
ROWS: Sequence[Mapping[str, Any]] = tuple(
    {"stem": stem, "lr": rate, "optimizer": name} for stem in STEMS for rate in RATES for name in OPTIMIZERS
)
SLACK = 0.5
"""Pixels of 1/100 inch by which bounds may touch."""


def drawn_texts(fig: Figure) -> Iterator[Text]:
    """Yield every text of a figure that is drawn."""
    hidden: set[int] = set()
    for axes in fig.axes:
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(tick) for tick in axis._update_ticks()}  # type: ignore[attr-defined]
            for tick in (*axis.majorTicks, *axis.minorTicks):
                hidden |= {id(tick.label2)} | (set() if id(tick) in drawn else {id(tick.label1)})
    for text in fig.findobj(Text):
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip() and id(text) not in hidden:
            yield text


def problems(fig: Figure) -> list[str]:
    """Return the texts of a figure that overlap or leave the canvas."""
    with figure_settings(STYLE):
        fig.draw_without_rendering()
        placed: list[tuple[str, Bounds]] = [(text.get_text(), text_bounds(fig, text)) for text in drawn_texts(fig)]
    width, height = fig.bbox.width, fig.bbox.height
    found = [
        f"outside: {text!r}"
        for text, box in placed
        if box.x0 < -SLACK or box.y0 < -SLACK or box.x1 > width + SLACK or box.y1 > height + SLACK
    ]
    for (one, a), (other, b) in itertools.combinations(placed, 2):
        if min(a.x1, b.x1) - max(a.x0, b.x0) > SLACK and min(a.y1, b.y1) - max(a.y0, b.y0) > SLACK:
            found.append(f"overlap: {one!r} and {other!r}")
    return found


def check(page: ComparisonPage | TablePage, *, narrow: bool) -> dict[str, Figure]:
    """Lay all figures of a page out, and check their texts; return the figures."""
    with narrow_layout() if narrow else nullcontext():
        figures = {name: fig for name, fig, _ in page_figures(page)}
    for name, fig in figures.items():
        assert is_of_narrow_width(fig) == narrow
        settle(fig)
        assert problems(fig) == [], name
    return figures


@pytest.fixture(scope="module")
def ten_stems(tmp_path_factory: pytest.TempPathFactory) -> ComparisonPage:
    """Return the page of a comparison with ten stems, and curves of their pre-training."""

    def value(at: Mapping[str, str]) -> float:
        return 80 + 15 * float(at["fraction"]) + SCATTER[at["seed"]] + 0.7 * len(at["stem"])

    study = comparison_study(stems=STEMS, fractions=(0.01, 0.1, 0.11, 0.25, 0.5, 1.0))
    record = write_comparison(study, tmp_path_factory.mktemp("stems"), value)
    for run in record.of_stage("pretrain"):
        lines = [
            {"epoch": epoch, "knn_top1": 50 + epoch, "kl": 2 - epoch / 20, "feature_rank": 9} for epoch in range(30)
        ]
        (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return ComparisonPage(record)


@pytest.fixture(scope="module")
def hundred_rows(tmp_path_factory: pytest.TempPathFactory) -> TablePage:
    """Return the page of a table of a hundred rows, some of which crash."""

    def run(stage: str, levels: Mapping[str, str]) -> RunSpec:
        row, seed = int(levels["row"][3:]), int(levels["seed"])
        crashes = row % 7 == 0 or (row % 5 == 0 and seed == 0)
        return {"crash": 97, "curve": False} if crashes else {"value": 80 + row / 10 + seed, "curve": False}

    study = table_study([row_axis(ROWS), seed_axis(2)], FigureSpec("rows"))
    return TablePage(write_study(study, tmp_path_factory.mktemp("rows"), run))


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_ten_stems_are_legible(ten_stems: ComparisonPage, narrow: bool) -> None:
    figures = check(ten_stems, narrow=narrow)
    assert {"accuracy", "differences", "labels", "effects", "cost", "learning_pretrain"} <= set(figures)
    assert len(figures["accuracy"].axes) == 10


def test_the_page_of_ten_stems_is_one_small_file_with_described_figures(ten_stems: ComparisonPage) -> None:
    write_pages(ten_stems.study)
    folder = ten_stems.study.folder
    html = (folder / "report.html").read_bytes()
    assert len(html) < 2_000_000
    pictures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert pictures == {path.stem for path in (folder / "figures").glob("*.pdf")}
    descriptions = dict(re.findall(r'<desc id="([\w-]+)-description">([^<]*)</desc>', html.decode()))
    assert set(descriptions) == pictures | {f"{name}-narrow" for name in pictures}
    first = ten_stems.findings.arms[0]
    number = f"{first.interval.mean:.1f} ({first.interval.low:.1f} to {first.interval.high:.1f})"
    assert f"patchify stem, one-stage training (OST), 1%: {number}." in descriptions["accuracy"]
    assert "more values are in the tables of this page." in descriptions["accuracy"]
    assert all(re.search(r"\d", text) for text in descriptions.values())
    assert html.count(b"aria-describedby=") == len(descriptions)


@pytest.mark.embedded_fonts
def test_files_embed_their_fonts_and_have_no_date(ten_stems: ComparisonPage) -> None:
    name, fig, _ = next(page_figures(ten_stems))
    settle(fig)
    content = to_pdf(fig)
    assert content.startswith(b"%PDF") and b"/FontFile2" in content and b"/Type3" not in content
    assert b"CreationDate" not in content and content == to_pdf(fig)
    assert name == "accuracy"


def test_compact_paths_are_within_a_tenth_of_a_point() -> None:
    path = "M 10.04 20.06 \nL 10.52 19.94 \nL 10.51 19.93 \nL -3 19.5 \nz\nM 1 2 \nL 3.333 4.444"
    assert compact_path(path, 1) == "m10 20.1l.5-.2-13.5-.4zm-9-18.1l2.3 2.4"


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_a_hundred_rows_are_legible(hundred_rows: TablePage, narrow: bool) -> None:
    figures = check(hundred_rows, narrow=narrow)
    names = [text for text in drawn_texts(figures["table_top1"]) if "Conv" in text.get_text()]
    assert len(names) >= 80


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_a_legend_of_ten_long_entries_wraps(narrow: bool) -> None:
    with narrow_layout() if narrow else nullcontext(), figure(WIDTH, 4.0, 2) as (fig, panels):
        for number in range(10):
            panels[0].plot(
                [1, 2], [number, number], label=f"{STEMS[number]} with a name of many words, number {number}"
            )
        panels[1].plot([1, 2], [0, 9])
        panels[0].set_title("a title that is far longer than the panel which it belongs to, " * 2)
        panels[1].set_title("another title that is far longer than the panel which it belongs to")
        legend_above(fig, panels[0])
    settle(fig)
    assert problems(fig) == []


def test_the_check_finds_overlaps_and_clipped_texts() -> None:
    with figure(WIDTH, 4.0, 1) as (fig, (axes,)):
        axes.text(0.5, 0.5, "one")
        axes.text(0.5, 0.5, "other")
        fig.text(0.9, 0.2, "a text that ends far beyond the canvas")
    settle(fig)
    assert {problem.split(":")[0] for problem in problems(fig)} == {"outside", "overlap"}
