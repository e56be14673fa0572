"""Runs of a study that are not done or did not finish normally, by name."""

from collections.abc import Callable

import pandas as pd

from recipes.reports.formatting import crash_kind
from recipes.reports.results import StudyRecord
from recipes.run.runner import pluralize

MOST_NAMED = 3
"""Number of runs of a kind that are named; the table of failed runs has all of them."""


def incomplete_runs(study: StudyRecord, level: Callable[[str, str], str]) -> list[str]:
    """Return one line for each stage and kind of such runs, with the first few names; `level` formats a level of an axis."""
    frame = study.frame
    status = frame["status"].map(lambda name: str(name).replace("_", " "), na_action="ignore").fillna(frame["state"])
    kinds = frame["kind"].map(lambda kind: f" ({crash_kind(str(kind))})" if kind else "", na_action="ignore").fillna("")
    keys = pd.DataFrame({"stage": frame["stage"], "kind": status + kinds})[status != "finished"]
    return [
        f"{pluralize(len(own), f'{stage} run')} {kind}: {_names(frame.loc[own.index], study.level_names, level)}"
        for (stage, kind), own in keys.groupby(["stage", "kind"], sort=False)
    ]


def _names(runs: pd.DataFrame, axes: list[str], level: Callable[[str, str], str]) -> str:
    """Return the names of the first runs, and how many more there are."""
    names = [
        ", ".join(_level(axis, str(run[axis]), level) for axis in axes if not pd.isna(run[axis])) or str(name)
        for name, run in runs.head(MOST_NAMED).iterrows()
    ]
    return "; ".join(names) + (f"; and {len(runs) - len(names)} more" if len(runs) > len(names) else "")


def _level(axis: str, name: str, level: Callable[[str, str], str]) -> str:
    """Return the text of a level; a number is preceded by its axis."""
    text = level(axis, name)
    return f"{axis} {text}" if text[:1].isdigit() else text
