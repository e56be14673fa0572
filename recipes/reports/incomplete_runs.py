"""Runs of a study that are not done or did not finish normally, by name."""

from collections.abc import Callable, Iterable, Mapping

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
    titles = {axis: _titles(axis, map(str, frame[axis].dropna().unique()), level) for axis in study.level_names}
    return [
        f"{pluralize(len(own), f'{stage} run')} {kind}: {_names(frame.loc[own.index], titles)}"
        for (stage, kind), own in keys.groupby(["stage", "kind"], sort=False)
    ]


def _titles(axis: str, names: Iterable[str], level: Callable[[str, str], str]) -> dict[str, str]:
    """Return the text of each level of an axis; a number, or a text that levels share, is preceded by the axis."""
    texts = {name: level(axis, name) for name in names}
    if len(set(texts.values())) < len(texts):
        texts = {name: name for name in texts}
    is_named = len(set(texts.values()) & set(texts)) < len(texts) and not any(
        text[:1].isdigit() for text in texts.values()
    )
    return texts if is_named else {name: f"{axis} {text}" for name, text in texts.items()}


def _names(runs: pd.DataFrame, titles: Mapping[str, Mapping[str, str]]) -> str:
    """Return the names of the first runs, and how many more there are."""
    names = [
        ", ".join(of_axis[str(run[axis])] for axis, of_axis in titles.items() if not pd.isna(run[axis])) or str(name)
        for name, run in runs.head(MOST_NAMED).iterrows()
    ]
    return "; ".join(names) + (f"; and {len(runs) - len(names)} more" if len(runs) > len(names) else "")
