"""Training curves of the last stage: the training loss and the validation metric of every run, with the levels of its cell."""

from collections.abc import Sequence

import pandas as pd

from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.findings import Findings
from recipes.reports.metrics import validation_metric
from recipes.reports.results import StudyRecord
from recipes.reports.run_files import read_curves

MOST_VALUES = 80
"""Number of values of a curve up to which all of them are read: few, so that the page stays small."""
LOSS = "loss"
"""Training loss in metrics.jsonl."""


def read_stage_curves(study: StudyRecord, findings: Findings) -> pd.DataFrame:
    """Return the curves of the runs of the last stage that finished, one row per value.

    Columns: run, epoch, step, name (`LOSS` or the validation metric), value, and the levels of the run's cell. A run of several
    cells has rows for each.
    """
    cells = study.cells
    used = cells[(cells["status"] == "finished") & cells["is_usable"]]
    runs = [study.runs[name] for name in dict.fromkeys(used["run"])]
    curves = read_curves(runs, [LOSS, validation_metric(findings.spec.metric)], most_values=MOST_VALUES)
    return curves.merge(used[[*study.axes, "run"]], on="run")


def select(curves: pd.DataFrame, **levels: str) -> pd.DataFrame:
    """Return the rows at these levels."""
    for axis, level in levels.items():
        curves = curves[curves[axis] == level]
    return curves


def over(curves: pd.DataFrame, position: str) -> pd.DataFrame:
    """Return the finite values of one metric with the column `position` as index and one column per run.

    A run that lacks a position has the value between its neighbors there, and none before its first or after its last one.
    """
    table = curves.dropna(subset=[position, "value"]).pivot_table(index=position, columns="run", values="value")
    return table.interpolate("index", limit_area="inside")


def spread(items: Sequence[str], most: int) -> list[str]:
    """Return all items, or so many evenly spaced ones, the first and the last included."""
    if len(items) <= most:
        return list(items)
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def shown_panels(findings: Findings, most: int) -> list[Levels]:
    """Return the panels of a study that a figure shows: all, or so many evenly spaced ones."""
    return [findings.panels[int(number)] for number in spread([str(n) for n in range(len(findings.panels))], most)]
