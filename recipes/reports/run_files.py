"""What reports read from run folders beside results: training curves, environment, number of classes."""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from common.config import flatten
from common.errors import UserError
from common.files import path_exists
from common.yaml_text import read_dumped, reason_of
from recipes.reports.results import RunRecord, StudyRecord


def read_curves(runs: Iterable[RunRecord], names: Sequence[str], *, most_values: int | None = None) -> pd.DataFrame:
    """Return the metrics `names` of the runs' metrics.jsonl, one row per value: run, epoch, step, name, value.

    Null is NaN; incomplete lines are skipped; of several values at an epoch each has its row, in the order of the file. Of a
    metric with more than `most_values` values in a run, about as many evenly spaced ones are read, the last one included.
    """
    rows = [row for run in runs for row in _read_curve(run, names, most_values)]
    curves = pd.DataFrame(rows, columns=["run", "epoch", "step", "name", "value"])
    return curves.astype(dict.fromkeys(("epoch", "step", "value"), "float64"))


def _lines_with(path: Path, names: Sequence[str], most: int | None) -> Iterator[str]:
    """Yield the lines that mention one of the names, in their order; of a name with more than `most`, evenly spaced ones."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path_exists(path) else []
    chosen: set[int] = set()
    for name in names:
        found = [number for number, line in enumerate(lines) if f'"{name}"' in line]
        stride = max(1, -(-len(found) // most)) if most else 1
        chosen.update(found[::-1][::stride])
    yield from (lines[number] for number in sorted(chosen))


def _read_curve(
    run: RunRecord, names: Sequence[str], most: int | None
) -> Iterator[tuple[str, float, float, str, float]]:
    """Yield (run, epoch, step, name, value) for the metrics of a run."""
    for line in _lines_with(run.folder / "metrics.jsonl", names, most):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("epoch"), int | float):
            continue
        step = entry.get("step")
        place = run.planned.id, float(entry["epoch"]), float(step) if isinstance(step, int | float) else math.nan
        for name in names:
            value = math.nan if name in entry and entry[name] is None else entry.get(name)
            if isinstance(value, int | float):
                yield *place, name, float(value)


CHOSEN_PRECISION = "chosen_precision"
"""Entry of environment.json (`common.training.run`, which imports torch): what `train.precision: auto` chose."""


@dataclass(frozen=True)
class IntermediateValue:
    """A metric during training: its value after `epoch` of `epochs`."""

    value: float
    epoch: int
    epochs: int


def read_at_fraction(run: RunRecord, metric: str, fraction: float) -> IntermediateValue | None:
    """Return the metric of a run at the evaluated epoch closest to `fraction` of its epochs; None if it was never evaluated."""
    curve = read_curves([run], [metric])
    evaluated = list(zip(curve["epoch"], curve["value"], strict=True))
    if not evaluated:
        return None
    config = run.folder / "config.yaml"
    epochs = _read_epochs(config) if path_exists(config) else int(max(epoch for epoch, _ in evaluated))
    epoch, value = min(evaluated, key=lambda point: abs(point[0] - fraction * epochs))
    return IntermediateValue(value, int(epoch), epochs)


def _read_epochs(config: Path) -> int:
    """Return `train.epochs` of a run's config.yaml."""
    try:
        return int(read_dumped(config.read_text(encoding="utf-8"))["train"]["epochs"])
    except (ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{config}: not the recipe of a run ({reason_of(error)}). Delete this file: the report does without it."
        ) from error


def read_environment(study: StudyRecord) -> dict[str, list[str]]:
    """Return the entries of the runs' environment.json (versions, hardware, code): values by key, most frequent first."""
    counts_by_key: dict[str, dict[str, int]] = {}
    for _, environment in _environments(study):
        for key, value in flatten(environment).items():
            counts = counts_by_key.setdefault(key, {})
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            counts[text] = counts.get(text, 0) + 1
    return {key: sorted(counts, key=lambda text: -counts[text]) for key, counts in counts_by_key.items()}


def _environments(study: StudyRecord) -> Iterator[tuple[RunRecord, dict[str, Any]]]:
    """Yield the runs that are done and have an environment.json, with its content."""
    for run in study.runs.values():
        path = run.folder / "environment.json"
        if run.result is not None and path_exists(path):
            yield run, _read_object(path)


def chosen_precisions(study: StudyRecord) -> dict[str, dict[str, int]]:
    """Return how many runs of each stage have which precision, among those whose recipe left the choice to their machine."""
    counts: dict[str, dict[str, int]] = {}
    for run, environment in _environments(study):
        if isinstance(chosen := environment.get(CHOSEN_PRECISION), str):
            of_stage = counts.setdefault(run.planned.stage, {})
            of_stage[chosen] = of_stage.get(chosen, 0) + 1
    return counts


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
