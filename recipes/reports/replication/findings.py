"""Findings of a study compared with a published table: the rows with our values and the paper's.

A row is a combination of the levels of all axes except the repeats (and, in a distribution, except the draws). Its runs are
the repeats. A row counts as diverged if at least half of its runs that ended diverged, in any stage: it then ranks below every
value, as a crash in the paper does. Otherwise its value is the mean of the other runs. In a distribution the draws are what is
sampled: the value of a draw is the mean over its repeats, of which one that diverged counts as 0.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipes.reports.estimates import cell_mean
from recipes.reports.replication.row_values import (
    NEAR_BEST_METRIC,
    ColumnValues,
    mean_by_draw,
    near_best_cell,
    read_column,
)
from recipes.reports.replication.row_values import layer_values as layer_values
from recipes.reports.replication.rows import Crash, Score
from recipes.reports.replication.rows import Row as Row
from recipes.reports.replication.rows import sorted_by as sorted_by
from recipes.reports.results import RunRecord, StudyRecord
from recipes.reports.run_files import read_num_classes
from recipes.reports.statistics import student_interval
from recipes.result import DIVERGED
from recipes.study.plan import Cell
from recipes.study.published import PublishedTable, load_published_table
from recipes.study.report_specification import TableReportSpec
from recipes.study.scales import PAPER_SCALE
from recipes.study.specification import Study


@dataclass(frozen=True)
class TableFindings:
    """Everything that a report states about a table, as numbers."""

    spec: TableReportSpec
    published: PublishedTable | None
    rows: tuple[Row, ...]
    repeats: tuple[str, ...]
    values: Mapping[str, ColumnValues]
    """The values of the runs by column."""
    scale: str | None
    num_classes: int | None
    shared_starts: tuple[str, ...]
    """Earlier stages of which several repeats of a row start from the same run, or from the same published weights."""

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

    @property
    def is_paper_scale(self) -> bool:
        """Return whether our values and the published ones are on the same data: their differences have a meaning."""
        return self.scale in (None, PAPER_SCALE)

    @property
    def epochs_read(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Return, for each metric after a fraction of the epochs, every (epoch read, epochs of the run)."""
        read = {self.spec.metrics[column]: values.epochs_read for column, values in self.values.items()}
        return {metric: epochs for metric, epochs in read.items() if epochs}

    def covers_images(self, column: str) -> bool:
        """Return whether the intervals of a column cover the sampling of test images."""
        return any(row.scores[column].interval.images for row in self.rows)

    def chance(self, column: str) -> float | None:
        """Return the value of an uninformative prediction, for which a run that diverged counts; None if unknown."""
        return None if self.is_distribution else self.values[column].metric.chance(self.num_classes)

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
    usable = [study.final_run(cell) for cell in study.plan.cells if not _crash(study, cell)]
    values = {column: read_column(usable, metric) for column, metric in spec.metrics.items()}
    rows = tuple(_row(study, spec, published, cells, values) for cells in groups.values())
    repeats = next((tuple(axis.levels) for axis in study.plan.study.axes if axis.name == spec.repeats), ("",))
    shared = () if draws else tuple(dict.fromkeys(_shared_starts(study, groups.values())))
    return TableFindings(
        spec, published, rows, repeats, values, study.plan.study.scale, read_num_classes(study), shared
    )


def _row(
    study: StudyRecord,
    spec: TableReportSpec,
    published: PublishedTable | None,
    cells: Mapping[str, Cell],
    values: Mapping[str, ColumnValues],
) -> Row:
    """Return the row whose repeats are `cells`."""
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
    draw_of = {name: cell.levels.get(spec.figure.x or "", name) for name, cell in cells.items()}
    for column, own in values.items():
        found, metric = own.cell(runs), own.metric
        if spec.figure.kind == "distribution":
            all_draws = mean_by_draw({**(found.points if found else {}), **dict.fromkeys(crashes, 0.0)}, draw_of)
            draws = draws or all_draws
            found, metric = near_best_cell(all_draws), NEAR_BEST_METRIC
        scores[column] = Score(
            found,
            cell_mean(found, metric, own.image_weight) if found else student_interval([]),
            published_row.value(column) if published_row else None,
            column in published_row.doubtful if published_row else False,
            metric,
            own.image_weight,
        )
    waiting = tuple(name for name in cells if name not in crashes and name not in runs)
    diverged_draws = frozenset(draw_of[name] for name in crashes) & draws.keys()
    return Row(columns, scores, runs, crashes, collapses, waiting, draws, diverged_draws)


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
    """Return the first run of a cell that diverged; runs that start from it do not count."""
    for run in _chain(study, cell):
        if run.result and run.result.status == DIVERGED:
            return Crash(run.planned.stage, run.result.step, run.result.kind)
    return None


def _collapse(study: StudyRecord, cell: Cell) -> str | None:
    """Return the status of the first completed run of a cell that neither finished nor diverged."""
    statuses = [run.result.status for run in _chain(study, cell) if run.result]
    return next((status for status in statuses if status not in ("finished", DIVERGED)), None)


def _shared_starts(study: StudyRecord, groups: Iterable[Mapping[str, Cell]]) -> Iterator[str]:
    """Yield the earlier stages of which several repeats of a row start from one run, or from published weights."""
    plan = study.plan.study
    weights = {stage.name for stage in plan.stages if stage.published}
    for cells in groups:
        start = plan.start_of(plan.stages[-1], next(iter(cells.values())).levels)
        if start in weights and start is not None:
            yield start
        for stage in plan.stages[:-1]:
            runs = [cell.runs[stage.name] for cell in cells.values() if stage.name in cell.runs]
            if len(set(runs)) < len(runs):
                yield stage.name
