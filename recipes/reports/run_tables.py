"""Tables common to all reports: status of the runs, metrics of the earlier stages, cost of the arms.

A table is plain text in rows and columns; both templates lay it out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from recipes.reports.formatting import capital, crash_kind
from recipes.reports.results import RunRecord, StudyRecord

EARLIER_STAGE_METRICS = {
    "knn_top1_untrained": "k-NN untrained, %",
    "knn_top1": "k-NN, %",
    "teacher_entropy": "teacher entropy",
    "kl": "KL",
    "feature_rank": "feature rank",
}
"""Metrics shown for a run that others start from, where its result has them, with their titles."""
MOST_OPEN_ROWS = 40
"""Most rows of a table that a page shows at once."""
NOTHING = "–"
"""Cell of a value that is missing or does not apply."""


@dataclass(frozen=True)
class Table:
    """A table of text; the first `num_names` columns hold names, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1

    @property
    def is_long(self) -> bool:
        """Return whether a page folds the table away."""
        return len(self.rows) > MOST_OPEN_ROWS


class RunTables:
    """The tables about the runs of one study."""

    def __init__(self, study: StudyRecord, title: Callable[[str], str]) -> None:
        """Take the record of a study's folder, and a function that formats the name of an axis or a level."""
        self.study, self.title = study, title

    def costs(self, costs: pd.DataFrame) -> Table:
        """Return the cost of each arm, as `arm_costs` gives it: seconds, amortized earlier stages, MACs, images, throughput."""
        axes = [axis for axis in self.study.level_names if axis in costs]
        numbers = [
            "Runs",
            "Seconds per run",
            "Earlier stages, s",
            "Shared by",
            "Amortized total, s",
            "Standalone total, s",
            "GMACs",
            "GMACs of earlier stages",
            "Images",
            "Images/s",
        ]
        rows = [
            [
                *self.titles({axis: cost[axis] for axis in axes}, axes),
                str(cost["runs"]),
                f"{cost['seconds']:,.1f}",
                f"{cost['earlier_seconds']:,.1f}" if cost["shared_by"] else NOTHING,
                _shared(cost["shared_by"]) if cost["shared_by"] else NOTHING,
                f"{cost['total_seconds']:,.1f}",
                f"{cost['standalone_seconds']:,.1f}",
                _giga(cost["macs"]),
                _giga(cost["earlier_macs"]) if cost["shared_by"] else NOTHING,
                f"{cost['images']:,.0f}",
                f"{cost['images_per_second']:,.0f}",
            ]
            for cost in costs.to_dict("records")
        ]
        return Table([*self.heads(axes), *numbers], rows, len(axes))

    def statuses(self) -> Table:
        """Return the number of runs by stage and status."""
        counts = self._with_status().groupby(["stage", "status"], sort=False).size()
        return Table(["Stage", "Status", "Runs"], [[*key, str(count)] for key, count in counts.items()], 2)

    def failed_runs(self) -> Table:
        """Return the runs whose status is not `finished`: status, step and reason."""
        frame = self.study.frame
        failed = frame[frame["status"].notna() & (frame["status"] != "finished")]
        rows = [
            [run, f"{_words(row['status'])}{_kind(row['kind'])}", f"{row['step']:,}", row["reason"]]
            for run, row in failed.iterrows()
        ]
        return Table(["Run", "Status", "Step", "Reason"], rows, 4)

    def earlier_stages(self) -> Table:
        """Return the status of each run of an earlier stage, with its k-NN accuracy and that of the untrained network."""
        names = [stage.name for stage in self.study.plan.study.stages[:-1]]
        frame = self._with_status()
        runs = frame[frame["stage"].isin(names) & frame["step"].notna()]
        axes = [axis for axis in self.study.axes if runs[axis].notna().any()]
        keys = [key for key in EARLIER_STAGE_METRICS if key in runs and runs[key].notna().any()]
        rows = [
            [*self.titles(row, axes), *(_number(row[key]) for key in keys), row["status"]] for _, row in runs.iterrows()
        ]
        return Table([*self.heads(axes), *(EARLIER_STAGE_METRICS[key] for key in keys), "Status"], rows, len(axes))

    def metrics(self, axes: Sequence[str]) -> Table:
        """Return the mean of every metric of the last stage, by the levels of `axes`."""
        cells = self.study.cells
        usable = cells[cells["is_usable"]]
        names = [name for name in self.study.metric_names if usable[name].notna().any()]
        means = usable.groupby(list(axes), sort=False)[names].mean() if axes else usable[names].mean().to_frame().T
        rows = [
            [*map(self.level, axes, levels if len(axes) > 1 else [levels]), *map(_number, row)]
            for levels, row in zip(means.index, means.to_numpy(), strict=True)
        ]
        return Table([*self.heads(axes), *(name.replace("_", " ") for name in names)], rows, len(axes))

    def runs(self) -> Table:
        """Return every run with its status, metric and cost."""
        metric = self.study.plan.study.report.metric
        rows = [
            [
                run,
                row["status"],
                _number(row.get(metric)),
                _number(row["seconds"], ",.1f"),
                _number(row["images"], ","),
            ]
            for run, row in self._with_status().iterrows()
        ]
        return Table(["Run", "Status", metric.replace("_", " "), "Seconds", "Images"], rows, 2)

    def _with_status(self) -> pd.DataFrame:
        """Return the frame of the runs with the status in words, or the state of a run without a result."""
        frame = self.study.frame
        return frame.assign(status=frame["status"].map(_words, na_action="ignore").fillna(frame["state"]))

    def head(self, axis: str) -> str:
        """Return the column header of an axis."""
        return capital(axis)

    def heads(self, axes: Sequence[str]) -> list[str]:
        """Return the column headers of axes."""
        return [self.head(axis) for axis in axes]

    def level(self, axis: str, level: str) -> str:
        """Return the cell of a level of an axis."""
        return self.title(level)

    def titles(self, levels: Mapping[str, str], axes: Sequence[str]) -> list[str]:
        """Return the cells of the levels on `axes`, a dash where an axis does not apply."""
        return [self.level(axis, levels[axis]) if levels.get(axis) is not None else NOTHING for axis in axes]


def _shared(runs: float) -> str:
    """Return a mean number of runs as text."""
    return f"{runs:g} {'run' if runs == 1 else 'runs'}"


def _giga(macs: float) -> str:
    """Return MACs in 1e9 as text."""
    return _number(macs / 1e9, ",.1f")


def _number(value: float | None, form: str = ".2f") -> str:
    """Return a number as text, a dash where it is missing."""
    return NOTHING if value is None or pd.isna(value) else f"{value:{form}}"


def _words(status: str) -> str:
    """Return a status as words."""
    return status.replace("_", " ")


def _kind(kind: str) -> str:
    """Return the kind of a crash in parentheses, if there is one."""
    return f" ({crash_kind(kind)})" if kind else ""


def describe_status(run: RunRecord) -> str:
    """Return the status of a run with the kind of its crash, or its state if it has no result."""
    return f"{_words(run.result.status)}{_kind(run.result.kind)}" if run.result else run.state
