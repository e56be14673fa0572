"""Tables of a comparison: the metric by arm, the paired differences, the label savings."""

import math

from recipes.reports.comparison.estimator import Effect, Estimate
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.formatting import capital, conclusion, mean_and_bounds, p_text, signed, signed_distinctly
from recipes.reports.results import StudyRecord
from recipes.reports.run_tables import RunTables, Table

NOT_CONVERGED = "†"
"""Mark of an arm that twice the epochs improve by a validation point or more."""


class ComparisonTables(RunTables):
    """The tables of one comparison."""

    def __init__(self, study: StudyRecord, findings: Findings, words: ComparisonWords) -> None:
        """Take the record of a study's folder, its findings, and the wording."""
        super().__init__(study, words.title)
        self.findings, self.words = findings, words
        self.repeats = next(list(axis.levels) for axis in study.plan.study.axes if axis.name == findings.spec.repeats)

    def accuracies(self) -> Table:
        """Return the metric of every arm at every x: mean and interval."""
        findings, main = self.findings, self.findings.main.axis
        rows = [
            [*self.titles({**panel, main: level}, findings.arm_axes), *map(self._mean, arms)]
            for panel in findings.panels
            for level in dict.fromkeys(arm.levels[main] for arm in findings.arms)
            if (arms := findings.arm(panel, level))
        ]
        header = [*self.heads(findings.arm_axes), *map(self.words.labels, findings.x)]
        return Table(header, rows, len(findings.arm_axes))

    def differences(self, effect: Effect) -> Table:
        """Return every difference of an effect: mean, interval, each repeat, conclusion."""
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
        """Return, for every panel, the amount of labels with which the base arm matches the other arm at `report.saving_at`."""
        main, words = self.findings.main, self.words
        axes = list(self.findings.panels[0]) if self.findings.panels else []
        rows = [
            [
                *self.titles(panel, axes),
                words.labels(self.findings.saving_x),
                words.short_saving(saving) if saving else "not measured",
                words.saving_bounds(saving) if saving else "–",
                words.saving_conclusion(panel, saving) if saving else "–",
            ]
            for panel, saving in self.findings.savings
        ]
        header = [f"{main.other} with", f"matches {main.base} with", "95% CI", f"{main.other}"]
        return Table([*self.heads(axes), *header], rows, len(axes) + 1)

    def claims(self) -> Table:
        """Return the declared claims: estimate, interval, adjusted p-value, outcome."""
        findings, words = self.findings, self.words
        main = findings.main
        amounts = "all amounts" if len(findings.x) > 1 else words.labels(findings.x[0])
        names = {
            "effect": f"{main.other} − {main.base}, {amounts}",
            "saving": f"{main.other} − {main.base}, {words.labels(findings.saving_x)}",
        }
        if len(findings.effects) > 1:
            second = findings.effects[1]
            names["alternative"] = f"{second.other} with {main.base} − {second.base} with {main.other}"
        if findings.starts is not None:
            for name, (base, other) in findings.starts.pairs.items():
                of_base = " with ".join(reversed([level for axis, level in base.items() if axis in findings.arm_axes]))
                of_base = of_base if name == "start" else base[main.axis]
                names[name] = f"{other[main.axis]} − {of_base}, {amounts}"
        rows = []
        for claim in findings.claims:
            found, panel = claim.interval, words.panel(claim.levels)
            known = [
                signed_distinctly(found.mean, words.metric.digits),
                words.confidence(found).removeprefix("95% CI "),
            ]
            estimate = ["–", "–"] if math.isnan(found.mean) else known
            adjusted = (
                "–" if math.isnan(claim.p_value) else p_text(claim.p_value).removeprefix("p = ").removeprefix("p ")
            )
            rows.append(
                [names[claim.name] + (f" ({panel})" if panel else ""), *estimate, adjusted, claim.outcome.value]
            )
        return Table(["Claim", "Estimate", "95% CI", "Adjusted p", "Outcome"], rows, 1)

    def divergences(self) -> Table:
        """Return the rate of divergence of every cell in which a run diverged, with Wilson's interval."""
        axes = [*self.findings.arm_axes, self.findings.spec.x]
        rows = [
            [
                *self.titles(each.levels, axes),
                f"{each.diverged} of {each.runs}",
                "{:.0f}% to {:.0f}%".format(*each.interval),
            ]
            for each in self.findings.divergences
        ]
        return Table([*self.heads(axes), "Diverged", "95% CI"], rows, len(axes))

    def head(self, axis: str) -> str:
        """Return the column header of an axis; the x axis has a name of its own."""
        return capital(self.words.spec.x_name) if axis == self.words.spec.x else super().head(axis)

    def level(self, axis: str, level: str) -> str:
        """Return the cell of a level; an x is formatted as everywhere in the report."""
        return self.words.format_x(float(level)) if axis == self.words.spec.x else super().level(axis, level)

    def _difference(self, estimate: Estimate) -> list[str]:
        """Return the cells of a difference: mean, interval, repeats, conclusion."""
        interval = estimate.interval
        digits = self.words.metric.digits
        bounds = self.words.confidence(interval).removeprefix("95% CI ") if interval.is_known else "–"
        repeats = [signed(estimate.points[name], digits) if name in estimate.points else "–" for name in self.repeats]
        mean = "–" if math.isnan(interval.mean) else signed_distinctly(interval.mean, digits)
        return [mean, bounds, *repeats, conclusion(interval).replace("repeat", self.findings.spec.repeats)]

    def _mean(self, arm: Estimate) -> str:
        """Return the mean of an arm, with the number of repeats where some are missing and a mark where it has not converged."""
        missing = f" ({len(arm.points)} of {len(self.repeats)})" if 0 < len(arm.points) < len(self.repeats) else ""
        mark = NOT_CONVERGED if self.findings.has_converged(arm.levels) is False else ""
        return mean_and_bounds(arm.interval, self.words.metric.digits) + mark + missing
