"""Owns the tables of a report: plain text in rows and columns, that both templates lay out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recipes.cost import ArmCost
from recipes.findings import Effect, Estimate, Findings, Levels
from recipes.results import RunRecord, StudyRecord
from recipes.sentences import Words, capital, mean_and_half, signed, verdict

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


class Tables:
    """The tables of one study."""

    def __init__(self, study: StudyRecord, findings: Findings, words: Words) -> None:
        """Take a study's folder as it was read, what was found in it, and how to write it."""
        self.study, self.findings, self.words = study, findings, words
        self.repeats = next(list(a.levels) for a in study.plan.study.axes if a.name == findings.reading.repeats)

    def accuracies(self) -> Table:
        """Return the metric of every arm at every point of the curve, mean and half-width."""
        findings, main = self.findings, self.findings.main.axis
        rows = [
            [*self._titles({**panel, main: level}, findings.arm_axes), *map(self._mean, findings.arm(panel, level))]
            for panel in findings.panels
            for level in dict.fromkeys(arm.levels[main] for arm in findings.arms)
        ]
        header = [*self._heads(findings.arm_axes), *map(self.words.labels, findings.over)]
        return Table(header, rows, len(findings.arm_axes))

    def differences(self, effect: Effect) -> Table:
        """Return every paired difference of an effect: mean, interval, each repeat, verdict."""
        over = self.findings.reading.over
        axes = [axis for axis in effect.one_by_one[0].levels if axis != over]
        heads = [
            *self._heads(axes),
            capital(self.words.reading.over_name),
            f"{effect.other} − {effect.base}",
            "95% interval",
        ]
        rows = [
            [*self._titles(one.levels, axes), self.words.over(float(one.levels[over])), *self._difference(one)]
            for one in effect.one_by_one
        ]
        repeats = [f"{self.findings.reading.repeats} {name}" for name in self.repeats]
        return Table([*heads, *repeats, "Verdict"], rows, len(axes) + 1)

    def savings(self) -> Table:
        """Return for every share of labels of the one arm the share at which the other is as good."""
        main, words = self.findings.main, self.words
        axes = list(self.findings.panels[0]) if self.findings.panels else []
        rows = [
            [
                *self._titles(panel, axes),
                words.over(one.fraction),
                words.equal(one),
                words.bounds(one),
                words.factor(one),
            ]
            for panel, savings in self.findings.savings
            for one in savings
        ]
        heads = [f"{main.other} with", f"equals {main.base} with", "95% interval", f"{main.other} needs"]
        return Table([*self._heads(axes), *heads], rows, len(axes) + 1)

    def costs(self, costs: Sequence[ArmCost]) -> Table:
        """Return what each arm cost: seconds, the share of the stage before, images and rate."""
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
                *self._titles(cost.levels, self.findings.arm_axes),
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
        return Table([*self._heads(self.findings.arm_axes), *numbers], rows, len(self.findings.arm_axes))

    def verdicts(self) -> Table:
        """Return how many runs of each stage ended how."""
        ends = [(run.planned.stage, _verdict(run)) for run in self.study.runs.values()]
        counts = {end: ends.count(end) for end in dict.fromkeys(ends)}
        return Table(["Stage", "Verdict", "Runs"], [[*end, str(count)] for end, count in counts.items()], 2)

    def casualties(self) -> Table:
        """Return the runs that ended otherwise than `finished`: verdict, step and reason."""
        rows = [
            [run.planned.id, _verdict(run), f"step {run.result.step:,}", run.result.reason]
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
            [*self._titles(run.planned.levels, axes), *(_metric(run, key) for key in keys), _verdict(run)]
            for run in runs
        ]
        return Table([*self._heads(axes), *(BEFORE[key] for key in keys), "Verdict"], rows, len(axes))

    def measures(self) -> Table:
        """Return the mean of every measure of the last stage, by arm and point of the curve."""
        axes = [*self.findings.arm_axes, self.findings.reading.over]
        groups: dict[tuple[str, ...], list[RunRecord]] = {}
        for cell in self.study.plan.cells:
            run = self.study.final_run(cell)
            if run.result and run.result.is_usable:
                groups.setdefault(tuple(cell.levels[axis] for axis in axes), []).append(run)
        names = sorted({n for runs in groups.values() for run in runs if run.result for n in run.result.metrics})
        rows = [
            [*map(self.words.title, at[:-1]), self.words.over(float(at[-1])), *(_mean_metric(runs, n) for n in names)]
            for at, runs in groups.items()
        ]
        return Table([*self._heads(axes), *(name.replace("_", " ") for name in names)], rows, len(axes))

    def runs(self) -> Table:
        """Return every run with its verdict, metric and cost."""
        metric = self.findings.reading.metric
        rows = [
            [run.planned.id, _verdict(run), _metric(run, metric)]
            + ([f"{run.result.seconds:,.1f}", f"{run.result.images:,}"] if run.result else ["–", "–"])
            for run in self.study.runs.values()
        ]
        return Table(["Run", "Verdict", metric.replace("_", " "), "Seconds", "Images"], rows, 2)

    def _heads(self, axes: Sequence[str]) -> list[str]:
        """Return axes as column heads."""
        return [capital(self.words.reading.over_name if a == self.words.reading.over else a) for a in axes]

    def _titles(self, levels: Levels, axes: Sequence[str]) -> list[str]:
        """Return the titles of the levels on `axes`, a dash where an axis does not matter."""
        return [self.words.title(levels[axis]) if axis in levels else "–" for axis in axes]

    def _difference(self, one: Estimate) -> list[str]:
        """Return a difference's cells: mean, interval, repeats, verdict."""
        interval = one.interval
        bounds = f"{signed(interval.low)} to {signed(interval.high)}" if interval.is_known else "–"
        repeats = [signed(one.points[name]) if name in one.points else "–" for name in self.repeats]
        return [signed(interval.mean) if one.points else "–", bounds, *repeats, verdict(interval)]

    def _mean(self, arm: Estimate) -> str:
        """Return an arm's mean, and how many repeats it is of where some are missing."""
        missing = f" ({len(arm.points)} of {len(self.repeats)})" if 0 < len(arm.points) < len(self.repeats) else ""
        return mean_and_half(arm.interval) + missing


def _metric(run: RunRecord, name: str) -> str:
    """Return a metric of a run."""
    return f"{run.result.metrics[name]:.2f}" if run.result and name in run.result.metrics else "–"


def _verdict(run: RunRecord) -> str:
    """Return how a run ended, or how far it is."""
    return run.result.verdict.replace("_", " ") if run.result else run.state


def _mean_metric(runs: Sequence[RunRecord], name: str) -> str:
    """Return a metric's mean over runs."""
    values = [run.result.metrics[name] for run in runs if run.result and name in run.result.metrics]
    return f"{np.mean(values):.2f}" if values else "–"
