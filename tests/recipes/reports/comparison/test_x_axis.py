"""The x axis of a comparison: amounts of labels, or the levels of any other key, of which one may be 0."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, comparison_mapping, comparison_study, page_of, write_comparison

from common.errors import UserError
from common.figures import Figure
from recipes.reports.comparison.figures import draw_curves, draw_differences, level_series
from recipes.reports.comparison.x_axis import XAxis
from recipes.reports.report import write_pages
from recipes.study.study_file import build_study

DECAYS = {"decay": {"key": "finetune.optim.weight_decay", "values": [0, 0.05, 0.3]}}


def value(levels: Mapping[str, str]) -> float:
    """Return an accuracy that rises with the weight decay."""
    return 80 + 10 * float(levels["decay"]) + 3 * (levels["training"] == "TST") + SCATTER[levels["seed"]]


def decay_study(**report: Any) -> Any:
    """Return a study over weight decays."""
    return comparison_study(fractions=(1.0,), axes=DECAYS, x="decay", x_name="weight decay", **report)


def test_a_study_over_another_key_than_labels_is_not_about_labels(
    tmp_path: Path, draw_only: Callable[..., None]
) -> None:
    """Its page said how many "labels" a weight decay saved, and named a decay of 0.05 as 5% of them."""
    draw_only("accuracy", "differences", "labels")
    page = write_pages(write_comparison(decay_study(), tmp_path, value, images=200))
    text = (tmp_path / "report.md").read_text()
    assert [claim.name for claim in page.findings.claims] == ["effect", "alternative"]
    assert page.tables.accuracies().header[-3:] == ["weight decay 0", "weight decay 0.05", "weight decay 0.3"]
    assert "averaged over 3 levels of weight decay" in text
    assert "label" not in text.replace("Look at them for wrong labels, too.", "") and "5%:" not in text


def test_a_level_of_0_is_on_a_linear_axis(tmp_path: Path) -> None:
    record = write_comparison(decay_study(), tmp_path, value)
    page = page_of(record)
    drawn = (
        draw_curves(page.findings, page.words, level_series(record.plan.study)),
        draw_differences(page.findings, page.words),
    )
    for figure in drawn:
        assert isinstance(figure, Figure)
        for axes in figure.axes:
            assert axes.get_xscale() == "linear"
            assert axes.get_xticks().tolist() == [0, 0.05, 0.3]
            low, high = axes.get_xlim()
            assert low < 0 and high > 0.3
            points = [x for line in axes.lines for x in line.get_xdata() if list(line.get_xdata()) != [0, 1]]  # axhline
            assert all(low < x < high for x in points)


def test_neighbors_are_dodged_by_the_same_distance_in_the_figure() -> None:
    logarithmic, linear = XAxis([0.1, 1.0]), XAxis([0.0, 0.5, 1.0])
    assert logarithmic.dodged(0.1, 0.05) == pytest.approx(0.105) and logarithmic.dodged(1.0, -0.05) == pytest.approx(
        0.95
    )
    assert {round(linear.dodged(x, 0.05) - x, 9) for x in linear.levels} == {0.02}
    assert XAxis([0.0]).dodged(0.0, 0.05) > 0


def test_saving_at_needs_amounts_of_labels() -> None:
    mapping = comparison_mapping(fractions=(1.0,), axes=DECAYS, x="decay", saving_at=0.05)
    with pytest.raises(UserError, match=r"report\.saving_at = 0\.05: no level of decay changes the number of labels"):
        build_study(mapping, "known.yaml")


def shots_study(values: list[Any], key: str = "finetune.data.images_per_class", **changes: Any) -> Any:
    """Return a study over another amount than a fraction."""
    shots = {"shots": {"key": key, "values": values}}
    return comparison_study(fractions=(1.0,), axes=shots, x="shots", x_name="shots", **changes)


def test_one_image_per_class_is_no_fraction(tmp_path: Path) -> None:
    """It was 100%."""
    record = write_comparison(shots_study([1]), tmp_path, lambda levels: {"value": 80.0, "train_images": 10})
    assert page_of(record).words.labels("1") == "1 (10 labels)"


def test_levels_with_as_many_images_are_no_amounts_of_labels(tmp_path: Path) -> None:
    """Data sets of one size, such as degrees of a corruption, were amounts of labels that could be saved."""
    study = shots_study([0, 1, 2], key="finetune.data.source")
    record = write_comparison(study, tmp_path, lambda levels: 80.0 + float(levels["shots"]))
    page = page_of(record)
    assert [claim.name for claim in page.findings.claims] == ["effect", "alternative"] and not page.findings.savings


def test_levels_of_0_whose_labels_are_not_known_have_no_logarithm(tmp_path: Path) -> None:
    """Their report ended in a traceback."""

    def run(levels: Mapping[str, str]) -> dict[str, Any]:
        return {"value": 80.0 + float(levels["shots"]), "train_images": 5 if levels["shots"] == "1" else 6}

    page = page_of(write_comparison(shots_study([0, 1, 2], key="finetune.data.source"), tmp_path, run))
    assert [saving for _, saving in page.findings.savings] == [None, None]
    assert "label savings are not measured, because the numbers of labels are not known" in " ".join(page.answer())


def test_levels_of_one_number_are_refused() -> None:
    with pytest.raises(UserError, match=r"report\.x: 2 levels of shots are 0\.1\. Remove all but one"):
        shots_study(["0.1", "0.10"], key="finetune.data.fraction")
