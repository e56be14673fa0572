"""Page of a comparison: the answer, cards and notes around its tables and figures."""

import math

from recipes.reports.arm_costs import arm_costs
from recipes.reports.captions import NOTES, fill
from recipes.reports.comparison_findings import Effect, Findings, compute_findings
from recipes.reports.comparison_tables import ComparisonTables
from recipes.reports.comparison_words import Words, capital, conclusion, signed, within_95
from recipes.reports.page import Card, Page
from recipes.reports.results import StudyRecord
from recipes.reports.statistics import CONFIDENCE, Saving
from recipes.run.runner import pluralize


class ComparisonPage(Page):
    """Content of the report of a study that compares levels of its axes."""

    template = "comparison"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from the record of a study's folder."""
        self.findings: Findings = compute_findings(study)
        self.words = Words(self.findings)
        self.tables = ComparisonTables(study, self.findings, self.words)
        super().__init__(study, arm_costs(study, self.findings.arm_axes))

    def answer(self) -> list[str]:
        """Return the sentences that answer the question."""
        words, main = self.words, self.findings.main
        best = [
            words.saving(panel, saving)
            for panel, savings in self.findings.savings
            if (saving := words.best_saving(savings))
        ]
        sentences = words.pooled(main), words.by_setting(main), *best, words.effects_comparison()
        return [sentence for sentence in sentences if sentence]

    def second_answer(self) -> list[str]:
        """Return the sentences about the second compared axis, and which of the two has the larger effect."""
        if len(self.findings.effects) < 2:
            return []
        second = self.findings.effects[1]
        sentences = self.words.pooled(second), self.words.by_setting(second), self.words.effects_comparison()
        return [sentence for sentence in sentences if sentence]

    def cards(self) -> list[Card]:
        """Return the summary cards: the main effect, the label savings, the other effects."""
        first, *others = [self._effect_card(effect) for effect in self.findings.effects]
        best = [(panel, self.words.best_saving(savings)) for panel, savings in self.findings.savings]
        return [
            first,
            *(self._saving_card(self.words.panel(panel), saving) for panel, saving in best if saving),
            *others,
        ]

    def notes(self) -> list[str]:
        """Return how to read the numbers: the notes of the study, then those of every comparison."""
        spec, settings = self.findings.spec, len(self.findings.main.by_setting)
        repeats = next(axis for axis in self.study.plan.study.axes if axis.name == spec.repeats)
        keys = sorted({key for level in repeats.levels.values() for key in level})
        words = {"repeats": spec.repeats, "x_name": spec.x_name, "base": self.findings.main.base}
        numbers = {
            "count": pluralize(len(repeats.levels), spec.repeats),
            "settings": settings,
            "false_alarms": settings * (1 - CONFIDENCE),
        }
        fixed = [fill(note, keys=" and ".join(keys), **words, **numbers) for note in NOTES]
        return [*spec.notes, *self.chance_level(), *fixed]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped: those of the arms, then the x axis."""
        return [*self.findings.arm_axes, self.findings.spec.x]

    def _effect_card(self, effect: Effect) -> Card:
        """Return the card of an averaged effect."""
        interval = effect.pooled.interval
        number = "–" if math.isnan(interval.mean) else f"{signed(interval.mean)} points"
        title = f"{effect.other} minus {effect.base}, averaged"
        tone = {1: "up", -1: "down", 0: ""}[interval.sign]
        return Card(capital(title), number, within_95(interval), conclusion(interval), tone)

    def _saving_card(self, panel: str, saving: Saving) -> Card:
        """Return the card of a label saving."""
        main, words = self.findings.main, self.words
        tone = "up" if saving.low > saving.fraction else "down" if saving.high < saving.fraction else ""
        result = {"up": "needs fewer labels", "down": "needs more labels", "": "no significant saving"}[tone]
        title = f"Labels for the same accuracy{', ' + panel if panel else ''}"
        equation = f"{main.other} {words.format_x(saving.fraction)} = {main.base} {words.equal(saving)}"
        return Card(title, words.factor(saving), f"{equation}, {words.saving_interval(saving)}", result, tone)
