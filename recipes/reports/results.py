"""Content of a study folder: its plan, every run with its state and result, and all of them as one frame, a row per run."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.splits.fingerprint import DATA_FILE, FACTS, read_fingerprint
from common.json_text import to_json
from recipes.result import DIVERGED, RESULT_FIELDS, Result, read_result
from recipes.run.states import State, read_state
from recipes.study.plan import Cell, Plan, PlannedRun
from recipes.study.specification import RUN_COLUMNS
from recipes.study.stored_plan import read_plan

_INTEGERS = ("step", "images", "parameters", "train_images", "num_processes")


@dataclass(frozen=True)
class RunRecord:
    """A run of a plan with the contents of its folder; `result` is None until the run is done."""

    planned: PlannedRun
    folder: Path
    state: State
    result: Result | None

    @property
    def is_usable(self) -> bool:
        """Return whether the run has a result whose metrics count: it is done, and did not diverge."""
        return self.result is not None and self.result.is_usable


@dataclass(frozen=True)
class StudyRecord:
    """The contents of a study folder: its plan and every run by id."""

    plan: Plan
    folder: Path
    runs: Mapping[str, RunRecord]

    def of_stage(self, stage: str) -> list[RunRecord]:
        """Return the runs of a stage, in the order of the plan."""
        return [run for run in self.runs.values() if run.planned.stage == stage]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Return one row per run, in the order of the plan, with the run's id as index.

        Columns: stage; the level on each axis (None where an axis does not apply); state; the fields of its result, missing
        while there is none (seconds, images, ...); macs (planned), data (digest of the fingerprint of its images), starts_from;
        and every metric under its own name.
        """
        return _build_frame(self)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """Return one row per cell of the plan: the row of `frame` of its run of the last stage, with the cell's levels.

        The run's id is the column `run`. `is_usable` tells whether the run has a metric to report; `diverged` names the stage in
        which a run of the cell diverged, and is empty otherwise.
        """
        return _build_cells(self)

    @property
    def axes(self) -> list[str]:
        """Return the names of the axes."""
        return [axis.name for axis in self.plan.study.axes]

    @property
    def level_names(self) -> list[str]:
        """Return the names of the axes, and what else distinguishes runs: the features of a baseline."""
        return list(dict.fromkeys([*self.axes, *(name for run in self.plan.runs for name in run.levels)]))

    @property
    def metric_names(self) -> list[str]:
        """Return the names of all metrics of the runs, sorted, but those that are names of axes."""
        names = {name for run in self.runs.values() if run.result for name in run.result.metrics}
        return sorted(names - set(self.level_names))

    @property
    def last_stage(self) -> str:
        """Return the name of the stage whose results are reported."""
        return self.plan.study.stages[-1].name

    def final_run(self, cell: Cell) -> RunRecord:
        """Return the run whose metric is that of the cell."""
        return self.runs[cell.runs[self.last_stage]]

    def value(self, cell: Cell, metric: str) -> float | None:
        """Return the metric of a cell, or None if its run is not done, crashed, or has no such metric."""
        result = self.final_run(cell).result
        return result.metrics.get(metric) if result and result.is_usable else None


def read_study(folder: Path) -> StudyRecord:
    """Return everything that a report needs from a study folder."""
    return read_runs(read_plan(folder), folder)


def read_runs(plan: Plan, folder: Path) -> StudyRecord:
    """Return the contents of the run folders of `plan` under `folder`."""
    runs = {}
    for planned in plan.runs:
        run_folder = folder / "runs" / planned.id
        state = read_state(run_folder)
        result = read_result(run_folder) if state == "done" else None
        runs[planned.id] = RunRecord(planned, run_folder, state, result)
    return StudyRecord(plan, folder, runs)


def _build_frame(study: StudyRecord) -> pd.DataFrame:
    """Return one row per run; see `StudyRecord.frame`."""
    rows = []
    for run in study.runs.values():
        planned, result = run.planned, run.result
        row: dict[str, Any] = {"run": planned.id, "stage": planned.stage, "state": run.state}
        row |= dict.fromkeys(study.level_names) | dict(planned.levels)
        row |= {name: getattr(result, name, None) for name in RESULT_FIELDS}
        row |= {"macs": planned.macs, "data_digest": _data_digest(run), "starts_from": planned.needs}
        rows.append((dict(result.metrics) if result else {}) | row)
    metrics = study.metric_names
    frame = pd.DataFrame(rows, columns=["run", "stage", *study.level_names, *RUN_COLUMNS[2:], *metrics], dtype=object)
    numbers = dict.fromkeys(("seconds", "images_per_second", "macs", *metrics), "float64")
    return frame.set_index("run").astype({**dict.fromkeys(_INTEGERS, "Int64"), **numbers})


def _data_digest(run: RunRecord) -> str | None:
    """Return a short hash of the fingerprint of a run's images; None if the run has none."""
    found = read_fingerprint(run.folder / DATA_FILE) if run.result else None
    if found is None:
        return None
    compared = {name: part for name, part in found.items() if name not in FACTS}
    return hashlib.blake2b(to_json(compared, sort_keys=True).encode(), digest_size=6).hexdigest()


def _build_cells(study: StudyRecord) -> pd.DataFrame:
    """Return one row per cell; see `StudyRecord.cells`."""
    frame = study.frame
    names = [cell.runs[study.last_stage] for cell in study.plan.cells]
    own = frame.loc[names].drop(columns=study.level_names).reset_index()
    levels = pd.DataFrame([dict(cell.levels) for cell in study.plan.cells], columns=study.axes, dtype=object)
    status = frame["status"].to_dict()
    diverged = [
        next((stage for stage, run in cell.runs.items() if status[run] == DIVERGED), None) for cell in study.plan.cells
    ]
    usable = [study.runs[name].is_usable for name in names]
    return pd.concat([levels, own], axis=1).assign(diverged=diverged, is_usable=usable)


def write_csv(study: StudyRecord) -> str:
    """Return the frame of the runs as CSV: one line per run."""
    return str(study.frame.reset_index().to_csv(index=False, lineterminator="\n"))
