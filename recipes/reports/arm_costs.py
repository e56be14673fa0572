"""Cost of a study: seconds, images and MACs by arm, with the amortized cost of the earlier stages that an arm starts from."""

from collections.abc import Mapping, Sequence

import pandas as pd

from recipes.reports.results import StudyRecord
from recipes.study.specification import BASELINES

MACS, HOURS = "standalone_macs", "standalone_device_hours"
"""Columns of `arm_costs` with what a run costs by itself: its own, plus those of the stages it starts from, in full."""
CellCosts = Mapping[frozenset[tuple[str, str]], Mapping[str, float]]
"""The columns of `arm_costs` by the levels of a cell, without the repeats."""


def arm_costs(study: StudyRecord, axes: Sequence[str]) -> pd.DataFrame:
    """Return the mean cost of a run for every combination of levels of `axes`, over the completed runs of the last stage.

    Columns: the axes; runs; seconds, images, images_per_second, macs of a run (macs as planned, missing where unknown);
    earlier_seconds and earlier_macs of the stages that it starts from, 0 without any; shared_by, the number of runs that start
    from the same earlier run, 0 without one; amortized_seconds, the earlier stages divided among them; total_seconds with these;
    standalone_seconds with the earlier stages in full, as if no other run shared them; standalone_macs and standalone_device_hours
    (seconds times processes) likewise.
    """
    frame, cells = study.frame, study.cells
    done = cells[cells["status"].notna()].drop_duplicates([*axes, "run"])
    starts = done["starts_from"]
    sharing = frame.loc[frame["stage"] != BASELINES, "starts_from"].value_counts()
    hours = device_hours(frame)
    done = done.assign(
        hours=done["run"].map(hours).astype("float64"),
        earlier_hours=starts.map(_with_earlier(study, hours.fillna(0.0))).astype("float64"),
        earlier_seconds=starts.map(_with_earlier(study, frame["seconds"].fillna(0.0))),
        earlier_macs=starts.map(_with_earlier(study, frame["macs"])).where(starts.notna(), 0.0),
        shared_by=starts.map(sharing),
    )
    groups = done.groupby(list(axes), sort=False, dropna=False) if axes else done.assign(all=0).groupby("all")
    names = ["seconds", "images", "earlier_seconds", "shared_by", "hours", "earlier_hours"]
    missing = {"earlier_seconds": 0.0, "shared_by": 0.0, "earlier_hours": 0.0}
    costs = groups[names].mean().astype("float64").fillna(missing)
    costs["macs"] = groups["macs"].agg(lambda values: values.mean(skipna=False))
    costs["earlier_macs"] = groups["earlier_macs"].agg(lambda values: values.mean(skipna=False))
    costs["images_per_second"] = groups["images"].sum() / groups["seconds"].sum().clip(lower=1e-9)
    costs["amortized_seconds"] = (costs["earlier_seconds"] / costs["shared_by"].where(costs["shared_by"] > 0)).fillna(
        0.0
    )
    costs["total_seconds"] = costs["seconds"] + costs["amortized_seconds"]
    costs["standalone_seconds"] = costs["seconds"] + costs["earlier_seconds"]
    costs["standalone_macs"] = costs["macs"] + costs["earlier_macs"]
    costs["standalone_device_hours"] = costs.pop("hours") + costs.pop("earlier_hours")
    return costs.assign(runs=groups.size()).reset_index(drop=not axes)


def cell_costs(study: StudyRecord, axes: Sequence[str]) -> CellCosts:
    """Return the cost of a run of every cell (`arm_costs`), whose levels are those of `axes`."""
    rows = arm_costs(study, axes).to_dict("records")
    return {
        frozenset((axis, row[axis]) for axis in axes): {str(name): value for name, value in row.items()} for row in rows
    }


def cost_of(costs: CellCosts, levels: Mapping[str, str], column: str) -> float | None:
    """Return a cost of the cell at `levels`; None where it is unknown."""
    row = costs.get(frozenset(levels.items()))
    return None if row is None or pd.isna(row[column]) else float(row[column])


def device_hours(frame: pd.DataFrame) -> "pd.Series[float]":
    """Return the device-hours of every run: seconds times processes; missing while it has no result."""
    return (frame["seconds"] * frame["num_processes"].astype("float64") / 3600).astype("float64")


def spent_macs(study: StudyRecord) -> "pd.Series[float]":
    """Return, for each run, the planned MACs of the stages that it starts from, directly or through others; 0 without any."""
    totals = _with_earlier(study, study.frame["macs"])
    return study.frame["starts_from"].map(totals).where(study.frame["starts_from"].notna(), 0.0).astype("float64")


def stage_seconds(study: StudyRecord) -> dict[str, float]:
    """Return the seconds of every stage, and of the baselines if there are any, summed over their completed runs."""
    seconds = study.frame.groupby("stage")["seconds"].sum()
    names = [*(stage.name for stage in study.plan.study.stages), *([BASELINES] if BASELINES in seconds else [])]
    return {name: float(seconds.get(name, 0.0)) for name in names}


def _with_earlier(study: StudyRecord, values: "pd.Series[float]") -> "pd.Series[float]":
    """Return, for each run, its value plus those of all runs it starts from, directly or through others."""
    totals: dict[str, float] = {}
    for name, value in values.items():  # a plan lists a run after the one it starts from
        start = study.runs[str(name)].planned.needs
        totals[str(name)] = float(value) + (totals[start] if start else 0.0)
    return pd.Series(totals, dtype="float64")
