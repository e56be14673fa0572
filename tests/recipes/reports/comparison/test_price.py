"""Cost per point: device-hours of a run, and the labels saved weighed against them only where their number is stated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, comparison_study, page_of, write_comparison

from common.errors import UserError
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.price import Weighing, point_costs, weighings
from recipes.reports.comparison.price_words import amount
from recipes.reports.report import write_pages
from recipes.study.report_specification import Price

PRICE = {"label": 0.05, "device_hour": 1.5, "currency": "EUR"}
ACCURACY = {"0.1": 80.0, "0.25": 88.0, "1": 96.0}


def study_page(folder: Path, gain: float, **report: Any) -> ComparisonPage:
    """Return a page whose two-stage arm is `gain` points better; a pre-training takes 40 s, a run of the last stage about 7 s."""

    def value(at: Mapping[str, str]) -> float:
        return ACCURACY[at["fraction"]] + gain * (at["training"] == "TST") + SCATTER[at["seed"]]

    return page_of(write_comparison(comparison_study(**report), folder, value))


@pytest.fixture
def page(tmp_path: Path) -> ComparisonPage:
    """Return a page with prices, on which two-stage training saves labels."""
    return study_page(tmp_path, 4.0, price=PRICE)


def test_saved_labels_are_weighed_against_the_device_hours_of_one_run(page: ComparisonPage) -> None:
    first, _ = weighings(page.findings, page.words, page.sections.costs)
    saving = page.findings.savings[0][1]
    assert saving is not None and first.labels == pytest.approx(saving.equal - 100)
    assert first.hours == pytest.approx((40 + (84 - 84) / 50) / 3600, rel=1e-3)  # the rest is the same at 84%
    middle, low, high = first.hours_per_label
    assert low < middle < high and middle == pytest.approx(first.hours / first.labels)


@pytest.mark.usefixtures("without_figures")
def test_the_page_gives_the_break_even_in_the_currency_of_the_study(page: ComparisonPage) -> None:
    write_pages(page.study)
    for name in ("report.html", "report.md"):
        text = (page.study.folder / name).read_text()
        assert "Prices of the study: 0.05 EUR per label, 1.5 EUR per device-hour." in text
        assert "at the study&#39;s prices it pays" in text or "at the study's prices it pays" in text
        assert "It pays if a label costs more than 0.000" in text
        assert "OST, EUR" in text
    header, row = page.sections.price_table.header, page.sections.price_table.rows[0]
    assert row[header.index("OST, EUR")] == "5"  # 100 labels; the seconds cost 0.003


def test_a_break_even_between_the_bounds_is_open() -> None:
    each = Weighing({}, 100.0, 50.0, 200.0, 10.0)
    assert each.hours_per_label == (0.1, 0.05, 0.2)
    low, high = each.gain(Price(0.1, 1.0, "USD"))
    assert (low, high) == (pytest.approx(-5.0), pytest.approx(10.0))


@pytest.mark.parametrize(
    ("label", "outcome"), [(0.05, "it pays (a"), (0.000287, "whether it pays is open (a"), (1e-5, "it does not pay (a")]
)
def test_the_outcome_takes_the_interval_of_the_saving(label: float, outcome: str, tmp_path: Path) -> None:
    page = study_page(tmp_path, 4.0, price={"label": label, "device_hour": 1.5})
    assert sum(f"at the study's prices {outcome} gain of" in each for each in page.sections.price_sentences()) == 2


def test_an_arm_that_costs_more_of_both_is_never_cheaper(tmp_path: Path) -> None:
    sentences = study_page(tmp_path, -4.0, price=PRICE, saving_at=0.25).sections.price_sentences()
    assert any("more: at no price is it cheaper than one-stage training (OST)." in each for each in sentences)


def test_nothing_is_weighed_where_no_saving_is_stated(tmp_path: Path) -> None:
    page = study_page(tmp_path, 0.0)
    sentences = page.sections.price_sentences()
    assert weighings(page.findings, page.words, page.sections.costs) == []
    assert "No number of saved labels is stated, so there is nothing to weigh against the device-hours." in sentences
    assert any("Set report.price, such as {label: 0.05" in each for each in sentences)
    assert not any("pays" in each for each in sentences)


def test_extra_hours_per_point_are_given_only_for_a_significant_gain(page: ComparisonPage, tmp_path: Path) -> None:
    gained = point_costs(page.findings, page.sections.costs)
    assert gained[0].per_point(higher_is_better=True) == pytest.approx(gained[0].extra / 4.0)
    none = study_page(tmp_path / "none", 0.0)
    values = [each.per_point(higher_is_better=True) for each in point_costs(none.findings, none.sections.costs)]
    assert all(value != value for value in values)
    assert {row[-1] for row in none.sections.price_table.rows} == {"–"}


@pytest.mark.parametrize(
    ("price", "message"),
    [
        ({"label": 0, "device_hour": 1.5}, "report.price.label: 0.0 must be a price above 0."),
        ({"label": 0.05}, "report.price.device_hour"),
        ({"label": 0.05, "hour": 1.5}, "report.price.hour"),
    ],
)
def test_invalid_prices_are_named_before_anything_runs(price: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        comparison_study(price=price)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (0.0133, "0.0133"), (-2.5, "−2.5"), (100.0, "100"), (float("nan"), "–")],
)
def test_amounts_have_three_significant_digits(value: float, text: str) -> None:
    assert amount(value) == text
