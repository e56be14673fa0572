"""What accuracy costs in compute: MACs and device-hours of the cells, and validation curves over the MACs spent so far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from recipes.reports.arm_costs import CellCosts, cost_of, spent_macs
from recipes.reports.comparison.estimator import Estimate, Levels
from recipes.reports.comparison.findings import Findings
from recipes.reports.results import StudyRecord

UNITS = ((1e18, "EMACs"), (1e15, "PMACs"), (1e12, "TMACs"), (1e9, "GMACs"), (1e6, "MMACs"))
"""Units of MACs, the largest first."""


@dataclass(frozen=True)
class Spent:
    """A cell's mean with what one of its runs cost, in all of its stages."""

    estimate: Estimate
    amount: float


def spent_by_arm(
    findings: Findings, costs: CellCosts, panel: Levels, column: str, names: Sequence[str]
) -> Mapping[str, list[Spent]]:
    """Return the measured cells of each level of the main axis in a panel, by x; cells of unknown cost are left out."""
    found: dict[str, list[Spent]] = {}
    for name in names:
        for estimate in findings.arm(panel, name):
            amount = cost_of(costs, estimate.levels, column)
            if estimate.points and amount is not None and amount > 0:
                found.setdefault(name, []).append(Spent(estimate, amount))
    return found


def unit_of(macs: float) -> tuple[float, str]:
    """Return the unit in which a number of MACs has at least one digit before the point."""
    return next((unit for unit in UNITS if macs >= unit[0]), UNITS[-1])


def over_macs(study: StudyRecord, curves: pd.DataFrame) -> pd.DataFrame:
    """Return curves with the column `macs`: those of the earlier stages, plus the run's own up to each value's step.

    A run's MACs are as planned, in equal parts for each of its steps. Values of runs whose MACs are unknown are left out.
    """
    frame = study.frame
    steps, own = frame["step"].astype("float64"), frame["macs"]
    earlier, own, steps = (
        values.reindex(curves["run"]).to_numpy("float64") for values in (spent_macs(study), own, steps)
    )
    spent = earlier + own * curves["step"] / steps
    return curves.assign(macs=spent).dropna(subset=["macs"])
