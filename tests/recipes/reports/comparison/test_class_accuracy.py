"""Accuracy by class and confused classes, from the predictions of the declared arms."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from comparison_studies import comparison_study, page_of, write_comparison

from common.evaluation.predictions import Predictions, write_predictions
from common.figures import Text, figure_settings, text_bounds
from recipes.reports.comparison.arm_predictions import ArmPair
from recipes.reports.comparison.class_accuracy import (
    EXTREMES,
    MOST_PAIRS,
    class_rows,
    confused_pairs,
    confusion_matrix,
)
from recipes.reports.comparison.class_figures import draw_confusion
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.figure_style import STYLE
from recipes.reports.rendering import settle
from recipes.reports.report import write_pages

PER_CLASS = 20
Wrong = Callable[[Mapping[str, str]], Mapping[int, tuple[int, int]]]
"""Levels of a run -> by class, the class it is taken for, and how many of its first images are."""


def classes_page(
    folder: Path, num_classes: int, wrong: Wrong, *, per_class: int = PER_CLASS, names: Sequence[str] = ()
) -> ComparisonPage:
    """Return the page of a study whose runs are right except for what `wrong` says, with confidence 0.9 and 0.6."""
    record = write_comparison(comparison_study(fractions=(0.1, 1.0)), folder, lambda at: 90.0)
    target = np.repeat(np.arange(num_classes, dtype=np.int32), per_class)
    for run in record.of_stage("finetune"):
        predicted = target.copy()
        for true, (other, count) in wrong(run.planned.levels).items():
            predicted[np.flatnonzero(target == true)[:count]] = other
        classes = np.stack([predicted, (predicted + 1) % num_classes], axis=1).astype(np.int32)
        scores = np.where(predicted == target, 0.9, 0.6)
        predictions = Predictions(
            images=tuple(f"{number:04d}.png" for number in range(len(target))),
            target=target,
            prediction=predicted,
            metrics={"top1": "top1"},
            split="test",
            fingerprint="known",
            class_names=tuple(names or (f"class {number}" for number in range(num_classes))),
            classes=classes,
            scores=np.stack([scores, 1 - scores], axis=1).astype(np.float32),
        )
        write_predictions(run.folder / "predictions.parquet", predictions)
    return page_of(record)


def three_classes(at: Mapping[str, str]) -> Mapping[int, tuple[int, int]]:
    """OST takes 10 (5, 15 with other seeds) images of class 0 for class 2, TST 2 of class 1 for class 0."""
    return {0: (2, {"0": 10, "1": 5, "2": 15}[at["seed"]])} if at["training"] == "OST" else {1: (0, 2)}


@pytest.fixture
def pair(tmp_path: Path) -> ArmPair:
    """Return the arms at the smallest x."""
    return classes_page(tmp_path, 3, three_classes).sections.pairs[0]


def test_classes_come_by_their_difference_with_means_over_the_seeds(pair: ArmPair) -> None:
    rows = class_rows(pair)
    assert [row.name for row in rows] == ["class 0", "class 1", "class 2"]
    assert [(row.base.mean, row.other.mean, row.difference.mean) for row in rows] == [
        (pytest.approx(50.0), 100.0, pytest.approx(50.0)),
        (100.0, pytest.approx(90.0), pytest.approx(-10.0)),
        (100.0, 100.0, 0.0),
    ]


def test_intervals_cover_seeds_and_images_of_the_class(pair: ArmPair) -> None:
    first, second, third = class_rows(pair)
    assert first.difference.low < 50 - 4.3 * (100 * np.std([0.5, 0.75, 0.25], ddof=1) / 3**0.5) / 2
    assert second.other.high <= 100.0 and second.other.low < 90.0
    assert third.base.low < 100.0 == third.base.high  # all right says little about other images


def test_a_class_with_few_images_has_no_interval(tmp_path: Path) -> None:
    pair = classes_page(tmp_path, 3, lambda at: {0: (1, 2)}, per_class=5).sections.pairs[0]
    assert all(not row.base.is_known and not row.difference.is_known for row in class_rows(pair))
    assert class_rows(pair)[0].base.mean == pytest.approx(60.0)


def test_confusion_is_the_mean_over_the_seeds_in_percent_of_the_true_class(pair: ArmPair) -> None:
    assert confusion_matrix(pair.base).tolist() == [[50.0, 0.0, 50.0], [0.0, 100.0, 0.0], [0.0, 0.0, 100.0]]
    assert [(each.true, each.predicted, each.base, each.other) for each in confused_pairs(pair)] == [
        ("class 0", "class 2", 50.0, 0.0),
        ("class 1", "class 0", 0.0, 10.0),
    ]


def test_many_classes_are_cut_to_both_ends_and_their_confusion_to_a_table(
    tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    def wrong(at: Mapping[str, str]) -> Mapping[int, tuple[int, int]]:
        is_other = at["training"] == "TST"
        return {number: (number + 1, number % 10 + 1) for number in range(30 * is_other, 30 + 9 * is_other)}

    page = classes_page(tmp_path, 40, wrong)
    rows = class_rows(page.sections.pairs[0])
    assert len(rows) == 2 * EXTREMES
    gains = [row.difference.mean for row in rows]
    assert gains == sorted(gains, reverse=True) and gains[0] == pytest.approx(50.0) and gains[-1] < 0
    draw_only("confusion")
    write_pages(page.study)
    assert not list((tmp_path / "figures").glob("confusion_*"))
    text = (tmp_path / "report.md").read_text()
    assert "The 10 classes of 40 that gain most and the 10 that lose most are shown." in text
    assert len(page.sections.classes[0].pairs.rows) == MOST_PAIRS  # type: ignore[union-attr]
    assert "The most confused pairs of classes:" in text


@pytest.mark.usefixtures("without_figures")
def test_names_of_classes_are_text_in_both_forms(tmp_path: Path) -> None:
    """Markdown took `<unk>` for HTML, which shows nothing; `|` ends a cell."""
    write_pages(classes_page(tmp_path, 3, three_classes, names=["<unk>", "a|b", "5 < 6"]).study)
    markdown, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert r"| \<unk> |" in markdown and r"| a\|b |" in markdown and "| 5 < 6 |" in markdown
    assert "<unk>" not in re.sub(r"\\<unk>", "", markdown) and "<unk>" not in page and "&lt;unk&gt;" in page


def test_few_classes_have_a_heat_map_at_both_ends_of_x(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only("confusion")
    page = classes_page(tmp_path, 3, three_classes)
    write_pages(page.study)
    assert {path.name for path in (tmp_path / "figures").glob("confusion_*.png")} == {
        "confusion_0_1.png",
        "confusion_1.png",
    }
    assert "Accuracy by class" in (tmp_path / "report.html").read_text()


def test_titles_of_the_heat_maps_are_on_the_canvas(tmp_path: Path) -> None:
    """Two classes with names that are written upright once cut them: square cells take all of the height."""
    pair = classes_page(tmp_path, 2, lambda at: {0: (1, 3)}).sections.pairs[0]
    fig = draw_confusion(pair, ("one-stage training (OST)", "two-stage training (TST)"))
    assert fig is not None
    settle(fig)
    with figure_settings(STYLE):
        fig.draw_without_rendering()
        titles = [text for text in fig.findobj(Text) if "training" in text.get_text()]
        assert len(titles) == 2
        assert all(text_bounds(fig, title).y1 <= fig.bbox.height for title in titles)


@pytest.mark.usefixtures("without_figures")
def test_there_is_no_section_without_predictions_of_the_same_images(tmp_path: Path) -> None:
    page = classes_page(tmp_path, 3, three_classes)
    for run in page.study.of_stage("finetune"):
        if run.planned.levels["seed"] == "1":
            (run.folder / "predictions.parquet").unlink()
    assert page_of(page.study).sections.pairs == []
    write_pages(page.study)
    assert "Accuracy by class" not in (tmp_path / "report.md").read_text()
