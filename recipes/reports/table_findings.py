"""Owns what a study found beside a printed table: its rows, ours and the paper's value of each, and its crashes.

A row is a combination of the levels of all axes but the repeats', and in a distribution but that of the draws. Its repeats are
its runs. A row stands as a crash where at least half of the runs that ended crashed, in whatever stage: then it is below
every value. Otherwise it stands as the mean of the others.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from recipes.reports.results import RunRecord, StudyRecord, read_at_share
from recipes.reports.statistics import Interval, student_interval
from recipes.study.plan import Cell
from recipes.study.published import CRASH, PrintedTable, PrintedValue, as_number, load_printed
from recipes.study.specification import Study, TableReading

NEAR = 2.0
"""Points below a row's best within which a draw counts as good, in a distribution."""


@dataclass(frozen=True)
class Crash:
    """A run that diverged, the stage it did so in, and its evidence."""

    stage: str
    step: int
    kind: str
    reason: str


@dataclass(frozen=True)
class Score:
    """A metric of a row: ours by repeat with the interval of the mean, and the printed value."""

    points: Mapping[str, float]
    interval: Interval
    printed: PrintedValue
    doubtful: bool


@dataclass(frozen=True)
class Row:
    """One row of the table; `runs` are the last stage's usable ones by repeat, `waiting` the repeats not done yet."""

    columns: Mapping[str, Any]
    scores: Mapping[str, Score]
    runs: Mapping[str, RunRecord]
    crashes: Mapping[str, Crash]
    collapses: Mapping[str, str]
    waiting: tuple[str, ...]
    draws: Mapping[str, float]
    """In a distribution: the metric of every draw, 0 for one that crashed."""

    @property
    def crashed(self) -> bool:
        """Tell whether the row stands as a crash; the draws of a distribution count one by one instead."""
        return not self.draws and len(self.crashes) > 0 and len(self.crashes) >= len(self.runs)

    def standing(self, column: str) -> float | None:
        """Return the row's value for comparing rows: -inf for a crash, None where nothing is measured."""
        mean = self.scores[column].interval.mean
        return -math.inf if self.crashed else None if math.isnan(mean) else mean

    def printed_standing(self, column: str) -> float | None:
        """Return the printed value for comparing rows: -inf for a crash, None where there is none to rely on."""
        score = self.scores[column]
        return None if score.doubtful or score.printed is None else standing_of(score.printed)


@dataclass(frozen=True)
class TableFindings:
    """All that a report says of a table, before it is put in words."""

    reading: TableReading
    printed: PrintedTable | None
    rows: tuple[Row, ...]
    repeats: tuple[str, ...]
    epochs_read: Mapping[str, tuple[tuple[int, int], ...]]
    """For a metric after a share of the epochs: the (epoch read, epochs of the run) there are."""

    @property
    def columns(self) -> list[str]:
        """Return the columns that the rows have."""
        return list(dict.fromkeys(name for row in self.rows for name in row.columns))

    @property
    def varied(self) -> list[str]:
        """Return the columns in which rows differ."""
        return [name for name in self.columns if len({repr(row.columns.get(name)) for row in self.rows}) > 1]

    @property
    def main(self) -> str:
        """Return the first printed column: the one of the figure."""
        return next(iter(self.reading.metrics))

    @property
    def is_distribution(self) -> bool:
        """Tell whether the rows are distributions over draws."""
        return self.reading.figure.kind == "distribution"

    def last(self, row: Row) -> Row:
        """Return the row that differs from `row` in the figure's column alone, which has its last value there."""
        over = self.reading.figure.over or ""
        group = next(rows for _, rows in self.groups([over]) if any(row is one for one in rows))
        return sorted_by(group, over)[-1]

    def groups(self, without: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], list[Row]]]:
        """Yield (columns, rows) for every setting of the columns but those in `without`."""
        seen: dict[str, tuple[Mapping[str, Any], list[Row]]] = {}
        for row in self.rows:
            rest = {name: value for name, value in row.columns.items() if name not in without}
            seen.setdefault(repr(rest), (rest, []))[1].append(row)
        yield from seen.values()


def sorted_by(rows: Sequence[Row], column: str) -> list[Row]:
    """Return rows by their value in a column where all are numbers, otherwise as they are."""
    numbers = {id(row): as_number(row.columns.get(column)) for row in rows}
    if any(number is None for number in numbers.values()):
        return list(rows)
    return sorted(rows, key=lambda row: numbers[id(row)] or 0.0)


def standing_of(value: float | str) -> float:
    """Return a printed value as a number that orders rows: a crash is below everything."""
    return -math.inf if isinstance(value, str) else value


def find_table(study: StudyRecord) -> TableFindings:
    """Return the findings of a study's folder, from the runs that are done."""
    reading = study.plan.study.reading
    assert isinstance(reading, TableReading)
    printed = load_printed(reading.table) if reading.table else None
    drawn = reading.figure.over if reading.figure.kind == "distribution" else None
    groups: dict[tuple[str, ...], dict[str, Cell]] = {}
    inner = [axis for axis in dict.fromkeys((drawn, reading.repeats)) if axis is not None]
    for cell in study.plan.cells:
        key = tuple(level for axis, level in cell.levels.items() if axis not in inner)
        groups.setdefault(key, {})["/".join(cell.levels[axis] for axis in inner if axis in cell.levels)] = cell
    epochs: dict[str, set[tuple[int, int]]] = {}
    rows = tuple(_row(study, reading, printed, cells, epochs) for cells in groups.values())
    repeats = next((tuple(axis.levels) for axis in study.plan.study.axes if axis.name == reading.repeats), ("",))
    return TableFindings(reading, printed, rows, repeats, {name: tuple(sorted(seen)) for name, seen in epochs.items()})


def _row(
    study: StudyRecord,
    reading: TableReading,
    printed: PrintedTable | None,
    cells: Mapping[str, Cell],
    epochs: dict[str, set[tuple[int, int]]],
) -> Row:
    """Return the row whose repeats are `cells`; note in `epochs` where a metric was read on the way."""
    crashes = {name: crash for name, cell in cells.items() if (crash := _crash(study, cell))}
    runs = {
        name: run
        for name, cell in cells.items()
        if name not in crashes and (run := study.final_run(cell)).result is not None
    }
    collapses = {name: verdict for name, cell in cells.items() if (verdict := _collapse(study, cell))}
    columns = _columns(study.plan.study, reading, next(iter(cells.values())).levels)
    beside = printed.find(columns, reading.metrics) if printed else None
    scores: dict[str, Score] = {}
    draws: dict[str, float] = {}
    for column, metric in reading.metrics.items():
        points = {name: value for name, run in runs.items() if (value := _value(run, metric, epochs)) is not None}
        if reading.figure.kind == "distribution":
            draws = draws or {**points, **dict.fromkeys(crashes, 0.0)}
            points = _shares_near_best({**points, **dict.fromkeys(crashes, 0.0)})
        scores[column] = Score(
            points,
            student_interval(list(points.values())),
            beside.value(column) if beside else None,
            column in beside.doubtful if beside else False,
        )
    waiting = tuple(name for name in cells if name not in crashes and name not in runs)
    return Row(columns, scores, runs, crashes, collapses, waiting, draws)


def _columns(study: Study, reading: TableReading, levels: Mapping[str, str]) -> dict[str, Any]:
    """Return what the table prints of a row, without what the draws of a distribution set."""
    columns = study.columns(levels)
    for axis in study.axes:
        if reading.figure.kind == "distribution" and axis.name == reading.figure.over:
            drawn = axis.columns.get(levels[axis.name], {axis.name: None})
            columns = {name: value for name, value in columns.items() if name not in drawn}
    return columns


def _chain(study: StudyRecord, cell: Cell) -> list[RunRecord]:
    """Return a cell's runs in the order of the stages."""
    return [study.runs[cell.runs[stage.name]] for stage in study.plan.study.stages if stage.name in cell.runs]


def _crash(study: StudyRecord, cell: Cell) -> Crash | None:
    """Return the first crash among a cell's runs: nothing that starts from it counts."""
    for run in _chain(study, cell):
        if run.result and run.result.verdict == CRASH:
            return Crash(run.planned.stage, run.result.step, run.result.kind, run.result.reason)
    return None


def _collapse(study: StudyRecord, cell: Cell) -> str | None:
    """Return the verdict of a cell's first run that is done and neither finished nor crashed."""
    verdicts = [run.result.verdict for run in _chain(study, cell) if run.result]
    return next((verdict for verdict in verdicts if verdict not in ("finished", CRASH)), None)


def _value(run: RunRecord, metric: str, epochs: dict[str, set[tuple[int, int]]]) -> float | None:
    """Return a run's metric; of one told by layers, the mean over the layers; after a share of the epochs, that value."""
    assert run.result is not None
    name, _, share = metric.partition("@")
    if share:
        found = read_at_share(run, name, float(share))
        if found is None:
            return None
        epochs.setdefault(metric, set()).add((found.epoch, found.epochs))
        return found.value
    if name in run.result.metrics:
        return run.result.metrics[name]
    layers = layer_values(run, name)
    return float(np.mean(layers)) if layers else None


def layer_values(run: RunRecord, metric: str) -> list[float]:
    """Return `<metric>_00`, `<metric>_01`, ... of a run, as many as there are."""
    metrics: Mapping[str, float] = run.result.metrics if run.result else {}
    values: list[float] = []
    while f"{metric}_{len(values):02d}" in metrics:
        values.append(metrics[f"{metric}_{len(values):02d}"])
    return values


def _shares_near_best(draws: Mapping[str, float]) -> dict[str, float]:
    """Return by draw 100 where it lies within NEAR points of the best, otherwise 0: their mean is a share in per cent."""
    best = max(draws.values(), default=0.0)
    return {name: 100.0 * (value >= best - NEAR) for name, value in draws.items()}
