"""Findings of a study compared with a published table: the rows with our value and the paper's, and the crashes.

A row is a combination of the levels of all axes except the repeats (and, in a distribution, except the draws). Its runs are
the repeats. A row counts as a crash if at least half of its completed runs crashed, in any stage: it then ranks below every
value. Otherwise its value is the mean of the other runs.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.reports.results import RunRecord, StudyRecord
from recipes.reports.run_files import read_at_fraction
from recipes.reports.statistics import Interval, student_interval
from recipes.result import DIVERGED
from recipes.study.plan import Cell
from recipes.study.published import PublishedTable, PublishedValue, as_number, load_published_table
from recipes.study.specification import Study, TableReportSpec

NEAR_BEST = 2.0
"""Distance from a row's best draw, in points, within which a draw of a distribution counts as good."""


@dataclass(frozen=True)
class Crash:
    """A run that diverged: its stage, step and kind."""

    stage: str
    step: int
    kind: str


@dataclass(frozen=True)
class Score:
    """A metric of a row: our values by repeat with the interval of their mean, and the published value."""

    points: Mapping[str, float]
    interval: Interval
    published: PublishedValue
    doubtful: bool


@dataclass(frozen=True)
class Row:
    """One row of the table; `runs` are the usable runs of the last stage by repeat, `waiting` the repeats not done yet."""

    columns: Mapping[str, Any]
    scores: Mapping[str, Score]
    runs: Mapping[str, RunRecord]
    crashes: Mapping[str, Crash]
    collapses: Mapping[str, str]
    waiting: tuple[str, ...]
    draws: Mapping[str, float]
    """The metric of every draw of a distribution, 0 for a draw that crashed."""

    @property
    def crashed(self) -> bool:
        """Return whether the row counts as a crash; in a distribution, every draw counts individually instead."""
        return not self.draws and len(self.crashes) > 0 and len(self.crashes) >= len(self.runs)

    def rank_value(self, column: str) -> float | None:
        """Return the value that ranks the row: -inf for a crash, None if nothing is measured."""
        mean = self.scores[column].interval.mean
        return -math.inf if self.crashed else None if math.isnan(mean) else mean

    def published_rank_value(self, column: str) -> float | None:
        """Return the published value that ranks the row: -inf for a crash, None if it is missing or doubtful."""
        score = self.scores[column]
        return None if score.doubtful or score.published is None else rank_value_of(score.published)


@dataclass(frozen=True)
class TableFindings:
    """Everything that a report states about a table, as numbers."""

    spec: TableReportSpec
    published: PublishedTable | None
    rows: tuple[Row, ...]
    repeats: tuple[str, ...]
    epochs_read: Mapping[str, tuple[tuple[int, int], ...]]
    """For each metric after a fraction of the epochs, every (epoch read, epochs of the run)."""

    @property
    def columns(self) -> list[str]:
        """Return the columns of the rows."""
        return list(dict.fromkeys(name for row in self.rows for name in row.columns))

    @property
    def varied(self) -> list[str]:
        """Return the columns in which rows differ."""
        return [name for name in self.columns if len({repr(row.columns.get(name)) for row in self.rows}) > 1]

    @property
    def main(self) -> str:
        """Return the first metric column, which the figure shows."""
        return next(iter(self.spec.metrics))

    @property
    def is_distribution(self) -> bool:
        """Return whether the rows are distributions over draws."""
        return self.spec.figure.kind == "distribution"

    def last(self, row: Row) -> Row:
        """Return the row that has the last value in the figure's column and otherwise equals `row`."""
        x = self.spec.figure.x or ""
        group = next(rows for _, rows in self.groups([x]) if any(row is member for member in rows))
        return sorted_by(group, x)[-1]

    def groups(self, excluded: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], list[Row]]]:
        """Yield (columns, rows) for every setting of the columns except those in `excluded`."""
        groups: dict[str, tuple[Mapping[str, Any], list[Row]]] = {}
        for row in self.rows:
            rest = {name: value for name, value in row.columns.items() if name not in excluded}
            groups.setdefault(repr(rest), (rest, []))[1].append(row)
        yield from groups.values()


def sorted_by(rows: Sequence[Row], column: str) -> list[Row]:
    """Return rows sorted by their value in a column if all values are numbers, otherwise in their order."""
    numbers = {id(row): as_number(row.columns.get(column)) for row in rows}
    if any(number is None for number in numbers.values()):
        return list(rows)
    return sorted(rows, key=lambda row: numbers[id(row)] or 0.0)


def rank_value_of(value: float | str) -> float:
    """Return a published value as a number that ranks rows: -inf for a crash."""
    return -math.inf if isinstance(value, str) else value


def compute_table_findings(study: StudyRecord) -> TableFindings:
    """Return the findings of a study from its completed runs."""
    spec = study.plan.study.report
    assert isinstance(spec, TableReportSpec)
    published = load_published_table(spec.table) if spec.table else None
    draws = spec.figure.x if spec.figure.kind == "distribution" else None
    groups: dict[tuple[str, ...], dict[str, Cell]] = {}
    inner = [axis for axis in dict.fromkeys((draws, spec.repeats)) if axis is not None]
    for cell in study.plan.cells:
        key = tuple(level for axis, level in cell.levels.items() if axis not in inner)
        groups.setdefault(key, {})["/".join(cell.levels[axis] for axis in inner if axis in cell.levels)] = cell
    epochs: dict[str, set[tuple[int, int]]] = {}
    rows = tuple(_row(study, spec, published, cells, epochs) for cells in groups.values())
    repeats = next((tuple(axis.levels) for axis in study.plan.study.axes if axis.name == spec.repeats), ("",))
    return TableFindings(spec, published, rows, repeats, {name: tuple(sorted(read)) for name, read in epochs.items()})


def _row(
    study: StudyRecord,
    spec: TableReportSpec,
    published: PublishedTable | None,
    cells: Mapping[str, Cell],
    epochs: dict[str, set[tuple[int, int]]],
) -> Row:
    """Return the row whose repeats are `cells`; record in `epochs` at which epochs metrics during training were read."""
    crashes = {name: crash for name, cell in cells.items() if (crash := _crash(study, cell))}
    runs = {
        name: run
        for name, cell in cells.items()
        if name not in crashes and (run := study.final_run(cell)).result is not None
    }
    collapses = {name: status for name, cell in cells.items() if (status := _collapse(study, cell))}
    columns = _columns(study.plan.study, spec, next(iter(cells.values())).levels)
    published_row = published.find(columns, spec.metrics) if published else None
    scores: dict[str, Score] = {}
    draws: dict[str, float] = {}
    for column, metric in spec.metrics.items():
        points = {name: value for name, run in runs.items() if (value := _value(run, metric, epochs)) is not None}
        if spec.figure.kind == "distribution":
            draws = draws or {**points, **dict.fromkeys(crashes, 0.0)}
            points = _percent_near_best({**points, **dict.fromkeys(crashes, 0.0)})
        scores[column] = Score(
            points,
            student_interval(list(points.values())),
            published_row.value(column) if published_row else None,
            column in published_row.doubtful if published_row else False,
        )
    waiting = tuple(name for name in cells if name not in crashes and name not in runs)
    return Row(columns, scores, runs, crashes, collapses, waiting, draws)


def _columns(study: Study, spec: TableReportSpec, levels: Mapping[str, str]) -> dict[str, Any]:
    """Return the columns of a row in the table, excluding those set by the draws of a distribution."""
    columns = study.columns(levels)
    for axis in study.axes:
        if spec.figure.kind == "distribution" and axis.name == spec.figure.x:
            draw_columns = axis.columns.get(levels[axis.name], {axis.name: None})
            columns = {name: value for name, value in columns.items() if name not in draw_columns}
    return columns


def _chain(study: StudyRecord, cell: Cell) -> list[RunRecord]:
    """Return the runs of a cell in the order of the stages."""
    return [study.runs[cell.runs[stage.name]] for stage in study.plan.study.stages if stage.name in cell.runs]


def _crash(study: StudyRecord, cell: Cell) -> Crash | None:
    """Return the first crash among the runs of a cell; runs that start from it do not count."""
    for run in _chain(study, cell):
        if run.result and run.result.status == DIVERGED:
            return Crash(run.planned.stage, run.result.step, run.result.kind)
    return None


def _collapse(study: StudyRecord, cell: Cell) -> str | None:
    """Return the status of the first completed run of a cell that neither finished nor crashed."""
    statuses = [run.result.status for run in _chain(study, cell) if run.result]
    return next((status for status in statuses if status not in ("finished", DIVERGED)), None)


def _value(run: RunRecord, metric: str, epochs: dict[str, set[tuple[int, int]]]) -> float | None:
    """Return a metric of a run: the mean over layers if it is measured by layer; `name@fraction` is read during training."""
    assert run.result is not None
    name, _, fraction = metric.partition("@")
    if fraction:
        intermediate = read_at_fraction(run, name, float(fraction))
        if intermediate is None:
            return None
        epochs.setdefault(metric, set()).add((intermediate.epoch, intermediate.epochs))
        return intermediate.value
    if name in run.result.metrics:
        return run.result.metrics[name]
    layers = layer_values(run, name)
    return float(np.mean(layers)) if layers else None


def layer_values(run: RunRecord, metric: str) -> list[float]:
    """Return `<metric>_00`, `<metric>_01`, ... of a run, up to the first one missing."""
    metrics: Mapping[str, float] = run.result.metrics if run.result else {}
    values: list[float] = []
    while f"{metric}_{len(values):02d}" in metrics:
        values.append(metrics[f"{metric}_{len(values):02d}"])
    return values


def _percent_near_best(draws: Mapping[str, float]) -> dict[str, float]:
    """Return, for each draw, 100 if it is within NEAR_BEST points of the best, otherwise 0; their mean is a percentage."""
    best = max(draws.values(), default=0.0)
    return {name: 100.0 * (value >= best - NEAR_BEST) for name, value in draws.items()}
