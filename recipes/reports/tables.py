"""Owns the tables that every report has: how the runs ended, what the earlier stages reached, what the arms cost.

A table is plain text in rows and columns, that both templates lay out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.cost import ArmCost
from recipes.reports.results import RunRecord, StudyRecord
from recipes.reports.sentences import capital, crash_kind

BEFORE = {
    "knn_top1_untrained": "k-NN untrained, %",
    "knn_top1": "k-NN, %",
    "teacher_entropy": "teacher entropy",
    "kl": "KL",
    "feature_rank": "feature rank",
}
"""What is told of a run that others start from, where its result has it, and its title."""


@dataclass(frozen=True)
class Table:
    """A table of text; the first `num_names` columns are names, the others numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    num_names: int = 1


class RunTables:
    """The tables about the runs of one study."""

    def __init__(self, study: StudyRecord, title: Callable[[str], str]) -> None:
        """Take a study's folder as it was read, and how to write the name of an axis or a level."""
        self.study, self.title = study, title

    def costs(self, costs: Sequence[ArmCost]) -> Table:
        """Return what each arm cost: seconds, the share of the stage before, images and rate."""
        axes = list(costs[0].levels) if costs else []
        numbers = [
            "Runs",
            "Seconds of a run",
            "Stage before, s",
            "Shared by",
            "Run with its share, s",
            "Alone, s",
            "Images",
            "Images/s",
        ]
        rows = [
            [
                *self.titles(cost.levels, axes),
                str(cost.runs),
                f"{cost.seconds:,.1f}",
                f"{cost.before_seconds:,.1f}" if cost.shared_by else "–",
                f"{cost.shared_by:g} runs" if cost.shared_by else "–",
                f"{cost.total_seconds:,.1f}",
                f"{cost.alone_seconds:,.1f}",
                f"{cost.images:,.0f}",
                f"{cost.images_per_second:,.0f}",
            ]
            for cost in costs
        ]
        return Table([*self.heads(axes), *numbers], rows, len(axes))

    def verdicts(self) -> Table:
        """Return how many runs of each stage ended how."""
        ends = [(run.planned.stage, _verdict(run)) for run in self.study.runs.values()]
        counts = {end: ends.count(end) for end in dict.fromkeys(ends)}
        return Table(["Stage", "Verdict", "Runs"], [[*end, str(count)] for end, count in counts.items()], 2)

    def casualties(self) -> Table:
        """Return the runs that ended otherwise than `finished`: verdict, step and reason."""
        rows = [
            [run.planned.id, ending_of(run), f"step {run.result.step:,}", run.result.reason]
            for run in self.study.runs.values()
            if run.result and run.result.verdict != "finished"
        ]
        return Table(["Run", "Verdict", "When", "Why"], rows, 4)

    def before(self) -> Table:
        """Return how each run of an earlier stage ended, with its k-NN accuracy beside the untrained network's."""
        names = [stage.name for stage in self.study.plan.study.stages[:-1]]
        runs = [run for run in self.study.runs.values() if run.planned.stage in names and run.result]
        axes = list(dict.fromkeys(axis for run in runs for axis in run.planned.levels))
        keys = [key for key in BEFORE if any(run.result and key in run.result.metrics for run in runs)]
        rows = [
            [*self.titles(run.planned.levels, axes), *(_metric(run, key) for key in keys), _verdict(run)]
            for run in runs
        ]
        return Table([*self.heads(axes), *(BEFORE[key] for key in keys), "Verdict"], rows, len(axes))

    def measures(self, axes: Sequence[str]) -> Table:
        """Return the mean of every measure of the last stage, by the levels of `axes`."""
        groups: dict[tuple[str, ...], list[RunRecord]] = {}
        for cell in self.study.plan.cells:
            run = self.study.final_run(cell)
            if run.result and run.result.is_usable:
                groups.setdefault(tuple(cell.levels[axis] for axis in axes), []).append(run)
        names = sorted({n for runs in groups.values() for run in runs if run.result for n in run.result.metrics})
        rows = [[*map(self.level, axes, at), *(_mean_metric(runs, n) for n in names)] for at, runs in groups.items()]
        return Table([*self.heads(axes), *(name.replace("_", " ") for name in names)], rows, len(axes))

    def runs(self) -> Table:
        """Return every run with its verdict, metric and cost."""
        metric = self.study.plan.study.reading.metric
        rows = [
            [run.planned.id, _verdict(run), _metric(run, metric)]
            + ([f"{run.result.seconds:,.1f}", f"{run.result.images:,}"] if run.result else ["–", "–"])
            for run in self.study.runs.values()
        ]
        return Table(["Run", "Verdict", metric.replace("_", " "), "Seconds", "Images"], rows, 2)

    def head(self, axis: str) -> str:
        """Return an axis as a column's head."""
        return capital(axis)

    def heads(self, axes: Sequence[str]) -> list[str]:
        """Return axes as column heads."""
        return [self.head(axis) for axis in axes]

    def level(self, axis: str, level: str) -> str:
        """Return a level of an axis as a cell."""
        return self.title(level)

    def titles(self, levels: Mapping[str, str], axes: Sequence[str]) -> list[str]:
        """Return the levels on `axes` as cells, a dash where an axis does not matter."""
        return [self.level(axis, levels[axis]) if axis in levels else "–" for axis in axes]


def _metric(run: RunRecord, name: str) -> str:
    """Return a metric of a run."""
    return f"{run.result.metrics[name]:.2f}" if run.result and name in run.result.metrics else "–"


def ending_of(run: RunRecord) -> str:
    """Return how a run ended, with the kind of a crash."""
    kind = f" ({crash_kind(run.result.kind)})" if run.result and run.result.kind else ""
    return _verdict(run) + kind


def _verdict(run: RunRecord) -> str:
    """Return how a run ended, or how far it is."""
    return run.result.verdict.replace("_", " ") if run.result else run.state


def _mean_metric(runs: Sequence[RunRecord], name: str) -> str:
    """Return a metric's mean over runs."""
    values = [run.result.metrics[name] for run in runs if run.result and name in run.result.metrics]
    return f"{np.mean(values):.2f}" if values else "–"
