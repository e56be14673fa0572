"""Reading of a study folder: every run with its state, result and curves; and the CSV of all runs."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.config import flatten
from common.errors import UserError
from common.files import path_exists
from common.yaml_text import reason_of
from recipes.result import Result, read_result
from recipes.run.states import State, read_state
from recipes.study.plan import Cell, Plan, PlannedRun, read_plan


@dataclass(frozen=True)
class RunRecord:
    """A run of a plan with the contents of its folder; `result` is None until the run is done."""

    planned: PlannedRun
    folder: Path
    state: State
    result: Result | None


@dataclass(frozen=True)
class StudyRecord:
    """The contents of a study folder: its plan and every run by id."""

    plan: Plan
    folder: Path
    runs: Mapping[str, RunRecord]

    def of_stage(self, stage: str) -> list[RunRecord]:
        """Return the runs of a stage, in the order of the plan."""
        return [run for run in self.runs.values() if run.planned.stage == stage]

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


def read_curves(run: RunRecord, names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Return (epoch, value) pairs by name from a run's metrics.jsonl; incomplete lines are skipped, null is NaN."""
    curves: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    path = run.folder / "metrics.jsonl"
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path_exists(path) else []:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("epoch"), int | float):
            continue
        for name in names:
            value = math.nan if name in entry and entry[name] is None else entry.get(name)
            if isinstance(value, int | float):
                curves[name].append((float(entry["epoch"]), float(value)))
    return curves


@dataclass(frozen=True)
class IntermediateValue:
    """A metric during training: its value after `epoch` of `epochs`."""

    value: float
    epoch: int
    epochs: int


def read_at_fraction(run: RunRecord, metric: str, fraction: float) -> IntermediateValue | None:
    """Return the metric of a run at the evaluated epoch closest to `fraction` of its epochs; None if it was never evaluated."""
    points = read_curves(run, [metric])[metric]
    if not points:
        return None
    config = run.folder / "config.yaml"
    epochs = _read_epochs(config) if path_exists(config) else int(max(epoch for epoch, _ in points))
    epoch, value = min(points, key=lambda point: abs(point[0] - fraction * epochs))
    return IntermediateValue(value, int(epoch), epochs)


def _read_epochs(config: Path) -> int:
    """Return `train.epochs` of a run's config.yaml."""
    try:
        return int(yaml.safe_load(config.read_text(encoding="utf-8"))["train"]["epochs"])
    except (ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{config}: not the recipe of a run ({reason_of(error)}). Delete this file: the report does without it."
        ) from error


def read_environment(study: StudyRecord) -> dict[str, list[str]]:
    """Return the entries of the runs' environment.json (versions, hardware, code): values by key, most frequent first."""
    counts_by_key: dict[str, dict[str, int]] = {}
    for run in study.runs.values():
        path = run.folder / "environment.json"
        if run.result is None or not path_exists(path):
            continue
        for key, value in flatten(_read_object(path)).items():
            counts = counts_by_key.setdefault(key, {})
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            counts[text] = counts.get(text, 0) + 1
    return {key: sorted(counts, key=lambda text: -counts[text]) for key, counts in counts_by_key.items()}


def read_num_classes(study: StudyRecord) -> int | None:
    """Return the number of classes of the exported networks of the last stage, or None if there is no export."""
    for run in study.of_stage(study.last_stage):
        path = run.folder / "export" / "config.json"
        if path_exists(path):
            classes = _read_object(path).get("num_classes")
            return classes if isinstance(classes, int) and classes > 0 else None
    return None


def _read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that the report can do without; raise UserError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: damaged ({error}). Delete this file: the report does without it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: damaged (not a mapping). Delete this file: the report does without it.")
    return content


def write_csv(study: StudyRecord) -> str:
    """Return one line per run: id, stage, levels, state, status, cost and every metric."""
    axes = [axis.name for axis in study.plan.study.axes]
    metrics = sorted({name for run in study.runs.values() if run.result for name in run.result.metrics})
    columns = [
        *axes,
        "state",
        "status",
        "kind",
        "step",
        "reason",
        "seconds",
        "images",
        "images_per_second",
        "parameters",
    ]
    buffer = io.StringIO()
    header = ["run", "stage", *columns, "train_images", "num_processes", "starts_from", *metrics]
    writer = csv.DictWriter(buffer, header, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for run in study.runs.values():
        line: dict[str, Any] = {"run": run.planned.id, "stage": run.planned.stage, "state": run.state}
        line |= {**run.planned.levels, "starts_from": run.planned.needs or ""}
        if run.result:
            line |= {**vars(run.result), **run.result.metrics}
        writer.writerow(line)
    return buffer.getvalue()
