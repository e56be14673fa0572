"""The table of docs/scale.md follows from the plans, the rate and the price that the page states."""

import pytest
from planned_studies import planned

from recipes.study.cost import RunCosts
from recipes.study.scales import PAPER_SCALE, load_scale
from recipes.study.specification import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scale.md").read_text(encoding="utf-8")
MACS_PER_SECOND, PRICE, NODE, CLUSTER = 80e12, 2.5, 8, 32
"""Rate of a GPU, US dollars for an hour of it, GPUs of a node and of a cluster of four."""
ROWS = {
    cells[0].strip("` "): cells[1:]
    for cells in (row.strip("|").split("|") for row in PAGE.splitlines())
    if len(cells) == 7
}
STUDIES = [name for name in ROWS if name.startswith(("scaled_relu", "early_conv"))]


def expected(macs: float, num_runs: int) -> list[str]:
    """Return the cells of a study's row."""
    hours = macs / MACS_PER_SECOND / 3600
    days = [
        f"{hours / 24 / gpus:.2g}" if hours / 24 / gpus < 10 else f"{hours / 24 / gpus:.0f}"
        for gpus in (1, NODE, CLUSTER)
    ]
    return [str(num_runs), f"{hours:.0f}", *days, f"{hours * PRICE:,.0f}"]


@pytest.mark.parametrize("name", STUDIES)
def test_a_row_follows_from_the_plan(name: str) -> None:
    """MACs of all runs of the study with one seed, at the papers' scale."""
    plan, costs = planned(name, PAPER_SCALE), RunCosts(load_scale(PAPER_SCALE))
    found = expected(sum(costs.of(run).macs for run in plan.runs), len(plan.runs))
    assert [cell.strip() for cell in ROWS[name]] == found


def test_the_page_states_its_assumptions() -> None:
    """The constants of the test are those that the page names."""
    assert len(STUDIES) > 5
    for words in ("80e12 MACs per second", "$2.50", "8 GPUs", "32 GPUs"):
        assert words in PAGE
