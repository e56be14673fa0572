"""Tables common to all reports: status of the runs, metrics of the earlier stages, cost of the arms.

A table is plain text in rows and columns; both templates lay it out.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.arm_costs import ArmCost
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


@dataclass(frozen=True)
class Table:
    """A table of text; the first `num_names` columns hold names, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1


class RunTables:
    """The tables about the runs of one study."""

    def __init__(self, study: StudyRecord, title: Callable[[str], str]) -> None:
        """Take the record of a study's folder, and a function that formats the name of an axis or a level."""
        self.study, self.title = study, title

    def costs(self, costs: Sequence[ArmCost]) -> Table:
        """Return the cost of each arm: seconds, amortized earlier stages, images and throughput."""
        axes = list(costs[0].levels) if costs else []
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
                *self.titles(cost.levels, axes),
                str(cost.runs),
                f"{cost.seconds:,.1f}",
                f"{cost.earlier_seconds:,.1f}" if cost.shared_by else "–",
                f"{cost.shared_by:g} runs" if cost.shared_by else "–",
                f"{cost.total_seconds:,.1f}",
                f"{cost.standalone_seconds:,.1f}",
                _giga(cost.macs),
                _giga(cost.earlier_macs) if cost.shared_by else "–",
                f"{cost.images:,.0f}",
                f"{cost.images_per_second:,.0f}",
            ]
            for cost in costs
        ]
        return Table([*self.heads(axes), *numbers], rows, len(axes))

    def statuses(self) -> Table:
        """Return the number of runs by stage and status."""
        counts = Counter((run.planned.stage, _status(run)) for run in self.study.runs.values())
        return Table(["Stage", "Status", "Runs"], [[*key, str(count)] for key, count in counts.items()], 2)

    def failed_runs(self) -> Table:
        """Return the runs whose status is not `finished`: status, step and reason."""
        rows = [
            [run.planned.id, describe_status(run), f"{run.result.step:,}", run.result.reason]
            for run in self.study.runs.values()
            if run.result and run.result.status != "finished"
        ]
        return Table(["Run", "Status", "Step", "Reason"], rows, 4)

    def earlier_stages(self) -> Table:
        """Return the status of each run of an earlier stage, with its k-NN accuracy and that of the untrained network."""
        names = [stage.name for stage in self.study.plan.study.stages[:-1]]
        runs = [run for run in self.study.runs.values() if run.planned.stage in names and run.result]
        axes = list(dict.fromkeys(axis for run in runs for axis in run.planned.levels))
        keys = [key for key in EARLIER_STAGE_METRICS if any(run.result and key in run.result.metrics for run in runs)]
        rows = [
            [*self.titles(run.planned.levels, axes), *(_metric(run, key) for key in keys), _status(run)] for run in runs
        ]
        return Table([*self.heads(axes), *(EARLIER_STAGE_METRICS[key] for key in keys), "Status"], rows, len(axes))

    def metrics(self, axes: Sequence[str]) -> Table:
        """Return the mean of every metric of the last stage, by the levels of `axes`."""
        groups: dict[tuple[str, ...], list[RunRecord]] = {}
        for cell in self.study.plan.cells:
            run = self.study.final_run(cell)
            if run.result and run.result.is_usable:
                groups.setdefault(tuple(cell.levels[axis] for axis in axes), []).append(run)
        names = sorted({n for runs in groups.values() for run in runs if run.result for n in run.result.metrics})
        rows = [
            [*map(self.level, axes, levels), *(_mean_metric(runs, name) for name in names)]
            for levels, runs in groups.items()
        ]
        return Table([*self.heads(axes), *(name.replace("_", " ") for name in names)], rows, len(axes))

    def runs(self) -> Table:
        """Return every run with its status, metric and cost."""
        metric = self.study.plan.study.report.metric
        rows = [
            [run.planned.id, _status(run), _metric(run, metric)]
            + ([f"{run.result.seconds:,.1f}", f"{run.result.images:,}"] if run.result else ["–", "–"])
            for run in self.study.runs.values()
        ]
        return Table(["Run", "Status", metric.replace("_", " "), "Seconds", "Images"], rows, 2)

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
        return [self.level(axis, levels[axis]) if axis in levels else "–" for axis in axes]


def _giga(macs: float | None) -> str:
    """Return MACs in 1e9 as text."""
    return "–" if macs is None else f"{macs / 1e9:,.1f}"


def _metric(run: RunRecord, name: str) -> str:
    """Return a metric of a run as text."""
    return f"{run.result.metrics[name]:.2f}" if run.result and name in run.result.metrics else "–"


def describe_status(run: RunRecord) -> str:
    """Return the status of a run, with the kind of its crash."""
    kind = f" ({crash_kind(run.result.kind)})" if run.result and run.result.kind else ""
    return _status(run) + kind


def _status(run: RunRecord) -> str:
    """Return the status of a run, or its state if it has no result."""
    return run.result.status.replace("_", " ") if run.result else run.state


def _mean_metric(runs: Sequence[RunRecord], name: str) -> str:
    """Return the mean of a metric over runs as text."""
    values = [run.result.metrics[name] for run in runs if run.result and name in run.result.metrics]
    return f"{np.mean(values):.2f}" if values else "–"
