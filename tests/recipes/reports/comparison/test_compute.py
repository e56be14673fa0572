"""Accuracy over compute and curves of the last stage: what a run spent counts its earlier stages, and no diverged run is drawn."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_studies import SCATTER, comparison_study, page_of, write_comparison
from table_studies import RunSpec

from common.figures import Figure
from recipes.reports.arm_costs import HOURS, MACS, cost_of
from recipes.reports.comparison.compute import over_macs, unit_of
from recipes.reports.comparison.curve_figures import set_log_ticks
from recipes.reports.comparison.figures import level_series
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.section_figures import section_figures
from recipes.reports.comparison.stage_curves import LOSS, over, read_stage_curves, select, shown_panels, spread
from recipes.reports.report import write_pages
from recipes.reports.results import read_runs

PANEL = {"stem": "conv", "fraction": "0.1"}


@pytest.fixture
def page(tmp_path: Path) -> ComparisonPage:
    """Return a page whose pre-trainings have 800 MACs and the runs of the last stage 300, one of which diverged."""

    def value(at: Mapping[str, str]) -> RunSpec:
        if at["stem"] == "conv" and at["training"] == "OST" and at["seed"] == "1" and at["fraction"] == "0.1":
            return {"crash": 97, "curve": True}
        return {"value": 90.0 + SCATTER[at["seed"]], "curve": True}

    record = write_comparison(comparison_study(fractions=(0.1, 1.0)), tmp_path, value)
    macs = {"pretrain": 800.0, "finetune": 300.0}
    runs = tuple(replace(run, macs=macs[run.stage]) for run in record.plan.runs)
    return page_of(read_runs(replace(record.plan, runs=runs), tmp_path))


def test_a_cell_costs_one_run_with_its_earlier_stages_in_full(page: ComparisonPage) -> None:
    one, two = ({**PANEL, "training": training} for training in ("OST", "TST"))
    costs = page.sections.costs
    assert [cost_of(costs, levels, MACS) for levels in (one, two)] == [300.0, 1100.0]
    assert cost_of(costs, two, HOURS) == pytest.approx((40 + 5 + 90 / 50) / 3600)  # the pre-training is not divided
    assert cost_of(costs, {**PANEL, "training": "none"}, MACS) is None


def test_curves_over_macs_begin_where_the_pretraining_ends(page: ComparisonPage) -> None:
    curves = page.sections.curves_over_macs
    two = select(curves[curves["name"] == "validation_top1"], **PANEL, training="TST", seed="0")
    assert two["macs"].tolist() == [800 + 300 * step / 300 for step in range(30, 301, 30)]
    one = select(curves, **PANEL, training="OST", seed="0")
    assert one["macs"].max() == 300


def test_values_of_runs_without_known_macs_are_left_out(page: ComparisonPage) -> None:
    runs = tuple(replace(run, macs=None) if run.stage == "pretrain" else run for run in page.study.plan.runs)
    study = read_runs(replace(page.study.plan, runs=runs), page.study.folder)
    assert set(over_macs(study, page.sections.curves)["training"]) == {"OST"}


def test_curves_have_the_levels_of_their_cells_and_none_of_a_diverged_run(page: ComparisonPage) -> None:
    curves = read_stage_curves(page.study, page.findings)
    assert set(curves["name"]) == {LOSS, "validation_top1"}
    assert set(select(curves, **PANEL, training="OST")["seed"]) == {"0", "2"}
    assert set(select(curves, **PANEL, training="TST")["seed"]) == {"0", "1", "2"}


def test_a_run_that_lacks_a_position_has_the_value_between_its_neighbors(page: ComparisonPage) -> None:
    own = select(page.sections.curves, **PANEL, training="TST")
    own = own[own["name"] == "validation_top1"]
    first = own["run"].iloc[0]
    kept = own[~((own["run"] == first) & own["step"].isin([30, 90]))]
    table = over(kept, "step")
    assert table[first].isna().tolist() == [True] + [False] * 9  # nothing is extrapolated
    neighbors = table[first][[60, 120]]
    assert table[first][90] == pytest.approx(neighbors.mean())


def test_figures_and_headings_of_compute_and_curves_are_on_the_page(
    page: ComparisonPage, draw_only: Callable[..., None]
) -> None:
    draw_only("compute", "curves")
    write_pages(page.study)
    names = ("compute_macs", "compute_hours", "compute_curves", "curves_loss", "curves_validation")
    assert all((page.study.folder / "figures" / f"{name}.png").exists() for name in names)
    for name in ("report.html", "report.md"):
        text = (page.study.folder / name).read_text()
        assert "Top-1 accuracy over compute" in text and "Curves of finetune" in text
        assert "A point in the middle of a curve is not a run of that length" in text
        assert "Curves are shown, not judged." in text
        assert text.count("Everything in these sections is exploratory") == 1


def test_evenly_spaced_items_include_both_ends() -> None:
    assert spread(["a", "b", "c"], 4) == ["a", "b", "c"]
    assert spread(list("abcdefgh"), 3) == ["a", "e", "h"]


def test_units_of_macs() -> None:
    assert [unit_of(macs)[1] for macs in (2.0, 1e9, 9.9e11, 3e12)] == ["MMACs", "GMACs", "GMACs", "TMACs"]


def test_compute_that_differs_little_has_ticks() -> None:
    for low, high in ((258.6, 323.3), (0.0279, 0.0437), (0.9, 31.0)):
        axes = Figure().subplots()
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        set_log_ticks(axes)
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert 2 <= len(ticks) <= 6


def test_a_figure_says_how_many_of_many_panels_and_amounts_it_shows(tmp_path: Path) -> None:
    stems = ("patchify", "conv", *(f"stem{number}" for number in range(5)))
    study = comparison_study(fractions=(0.1, 0.2, 0.5, 1.0), stems=stems, num_seeds=2)
    page = page_of(write_comparison(study, tmp_path, lambda at: {"value": 90.0 + SCATTER[at["seed"]], "curve": True}))
    captions = {name: caption for name, _, caption in section_figures(page, level_series(study))}
    assert captions["compute_hours"].endswith(" Shown are 6 of 7 panels.")
    assert captions["curves_loss"].endswith(" Shown are 4 of 7 panels and 3 of 4 levels of {x_name}.")
    assert [panel["stem"] for panel in shown_panels(page.findings, 4)] == ["patchify", "stem0", "stem2", "stem4"]
