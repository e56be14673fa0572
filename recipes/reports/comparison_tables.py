"""Owns the tables of a comparison: the metric by arm, the paired differences, the label savings."""

from recipes.reports.findings import Effect, Estimate, Findings
from recipes.reports.results import StudyRecord
from recipes.reports.sentences import Words, capital, mean_and_half, signed, verdict
from recipes.reports.tables import RunTables, Table


class ComparisonTables(RunTables):
    """The tables of one comparison."""

    def __init__(self, study: StudyRecord, findings: Findings, words: Words) -> None:
        """Take a study's folder as it was read, what was found in it, and how to write it."""
        super().__init__(study, words.title)
        self.findings, self.words = findings, words
        self.repeats = next(list(a.levels) for a in study.plan.study.axes if a.name == findings.reading.repeats)

    def accuracies(self) -> Table:
        """Return the metric of every arm at every point of the curve, mean and half-width."""
        findings, main = self.findings, self.findings.main.axis
        rows = [
            [*self.titles({**panel, main: level}, findings.arm_axes), *map(self._mean, findings.arm(panel, level))]
            for panel in findings.panels
            for level in dict.fromkeys(arm.levels[main] for arm in findings.arms)
        ]
        header = [*self.heads(findings.arm_axes), *map(self.words.labels, findings.over)]
        return Table(header, rows, len(findings.arm_axes))

    def differences(self, effect: Effect) -> Table:
        """Return every paired difference of an effect: mean, interval, each repeat, verdict."""
        over = self.findings.reading.over
        axes = [axis for axis in effect.one_by_one[0].levels if axis != over]
        heads = [
            *self.heads(axes),
            capital(self.words.reading.over_name),
            f"{effect.other} − {effect.base}",
            "95% interval",
        ]
        rows = [
            [*self.titles(one.levels, axes), self.words.over(float(one.levels[over])), *self._difference(one)]
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
                *self.titles(panel, axes),
                words.over(one.fraction),
                words.equal(one),
                words.bounds(one),
                words.factor(one),
            ]
            for panel, savings in self.findings.savings
            for one in savings
        ]
        heads = [f"{main.other} with", f"equals {main.base} with", "95% interval", f"{main.other} needs"]
        return Table([*self.heads(axes), *heads], rows, len(axes) + 1)

    def head(self, axis: str) -> str:
        """Return an axis as a column's head: that of the curve by its name."""
        return capital(self.words.reading.over_name) if axis == self.words.reading.over else super().head(axis)

    def level(self, axis: str, level: str) -> str:
        """Return a level as a cell: a point of the curve's axis as the report writes it."""
        return self.words.over(float(level)) if axis == self.words.reading.over else super().level(axis, level)

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
