"""Tables of a comparison: the metric by arm, the paired differences, the label savings."""

from recipes.reports.comparison_findings import Effect, Estimate, Findings
from recipes.reports.comparison_words import Words, capital, conclusion, mean_and_half, signed
from recipes.reports.results import StudyRecord
from recipes.reports.tables import RunTables, Table


class ComparisonTables(RunTables):
    """The tables of one comparison."""

    def __init__(self, study: StudyRecord, findings: Findings, words: Words) -> None:
        """Take the record of a study's folder, its findings, and the wording."""
        super().__init__(study, words.title)
        self.findings, self.words = findings, words
        self.repeats = next(list(axis.levels) for axis in study.plan.study.axes if axis.name == findings.spec.repeats)

    def accuracies(self) -> Table:
        """Return the metric of every arm at every x: mean and half-width."""
        findings, main = self.findings, self.findings.main.axis
        rows = [
            [*self.titles({**panel, main: level}, findings.arm_axes), *map(self._mean, findings.arm(panel, level))]
            for panel in findings.panels
            for level in dict.fromkeys(arm.levels[main] for arm in findings.arms)
        ]
        header = [*self.heads(findings.arm_axes), *map(self.words.labels, findings.x)]
        return Table(header, rows, len(findings.arm_axes))

    def differences(self, effect: Effect) -> Table:
        """Return every paired difference of an effect: mean, interval, each repeat, conclusion."""
        x = self.findings.spec.x
        axes = [axis for axis in effect.by_setting[0].levels if axis != x]
        header = [
            *self.heads(axes),
            capital(self.words.spec.x_name),
            f"{effect.other} − {effect.base}",
            "95% CI",
        ]
        rows = [
            [
                *self.titles(estimate.levels, axes),
                self.words.format_x(float(estimate.levels[x])),
                *self._difference(estimate),
            ]
            for estimate in effect.by_setting
        ]
        repeats = [f"{self.findings.spec.repeats} {name}" for name in self.repeats]
        return Table([*header, *repeats, "Conclusion"], rows, len(axes) + 1)

    def savings(self) -> Table:
        """Return, for every fraction of labels of one arm, the fraction at which the other arm matches it."""
        main, words = self.findings.main, self.words
        axes = list(self.findings.panels[0]) if self.findings.panels else []
        rows = [
            [
                *self.titles(panel, axes),
                words.format_x(saving.fraction),
                words.equal(saving),
                words.bounds(saving),
                words.factor(saving),
            ]
            for panel, savings in self.findings.savings
            for saving in savings
        ]
        header = [f"{main.other} with", f"matches {main.base} with", "95% CI", f"{main.other} needs"]
        return Table([*self.heads(axes), *header], rows, len(axes) + 1)

    def head(self, axis: str) -> str:
        """Return the column header of an axis; the x axis has a name of its own."""
        return capital(self.words.spec.x_name) if axis == self.words.spec.x else super().head(axis)

    def level(self, axis: str, level: str) -> str:
        """Return the cell of a level; an x is formatted as everywhere in the report."""
        return self.words.format_x(float(level)) if axis == self.words.spec.x else super().level(axis, level)

    def _difference(self, estimate: Estimate) -> list[str]:
        """Return the cells of a difference: mean, interval, repeats, conclusion."""
        interval = estimate.interval
        bounds = f"{signed(interval.low)} to {signed(interval.high)}" if interval.is_known else "–"
        repeats = [signed(estimate.points[name]) if name in estimate.points else "–" for name in self.repeats]
        return [signed(interval.mean) if estimate.points else "–", bounds, *repeats, conclusion(interval)]

    def _mean(self, arm: Estimate) -> str:
        """Return the mean of an arm, with the number of repeats where some are missing."""
        missing = f" ({len(arm.points)} of {len(self.repeats)})" if 0 < len(arm.points) < len(self.repeats) else ""
        return mean_and_half(arm.interval) + missing
