"""Owns the page of a comparison, beside its tables and figures: the answer, cards, notes."""

import math

from recipes.reports.captions import NOTES, fill
from recipes.reports.comparison_tables import ComparisonTables
from recipes.reports.cost import arm_costs
from recipes.reports.findings import Effect, Findings, find
from recipes.reports.page import Card, Page
from recipes.reports.results import StudyRecord
from recipes.reports.sentences import Words, capital, signed, verdict, within_95
from recipes.reports.statistics import CONFIDENCE, Saving
from recipes.run.runner import counted


class ComparisonPage(Page):
    """The content of the report of a study that compares levels of its axes."""

    template = "comparison"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from a study's folder as it was read."""
        self.findings: Findings = find(study)
        self.words = Words(self.findings)
        self.tables = ComparisonTables(study, self.findings, self.words)
        super().__init__(study, arm_costs(study, self.findings.arm_axes))

    def answer(self) -> list[str]:
        """Return the sentences that answer the question."""
        words, main = self.words, self.findings.main
        best = [words.saving(panel, one) for panel, all_ in self.findings.savings if (one := words.best_saving(all_))]
        return [sentence for sentence in (words.pooled(main), words.one_by_one(main), *best, words.duel()) if sentence]

    def second_answer(self) -> list[str]:
        """Return the sentences about the second compared axis, and which of the two matters more."""
        if len(self.findings.effects) < 2:
            return []
        second = self.findings.effects[1]
        said = [self.words.pooled(second), self.words.one_by_one(second), self.words.duel()]
        return [sentence for sentence in said if sentence]

    def cards(self) -> list[Card]:
        """Return the findings at a glance: the main effect, the label savings, the other effects."""
        first, *others = [self._effect_card(effect) for effect in self.findings.effects]
        best = [(panel, self.words.best_saving(savings)) for panel, savings in self.findings.savings]
        return [first, *(self._saving_card(self.words.panel(panel), one) for panel, one in best if one), *others]

    def notes(self) -> list[str]:
        """Return how to read the numbers: what the study says of itself, then what holds for every report."""
        reading, settings = self.findings.reading, len(self.findings.main.one_by_one)
        repeats = next(axis for axis in self.study.plan.study.axes if axis.name == reading.repeats)
        keys = sorted({key for level in repeats.levels.values() for key in level})
        words = {"repeats": reading.repeats, "over_name": reading.over_name, "base": self.findings.main.base}
        numbers = {
            "count": counted(len(repeats.levels), reading.repeats),
            "settings": settings,
            "false_alarms": settings * (1 - CONFIDENCE),
        }
        standing = [fill(note, keys=" and ".join(keys), **words, **numbers) for note in NOTES]
        return [*reading.notes, *self.chance(), *standing]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of every measure goes: an arm's, then the curve's."""
        return [*self.findings.arm_axes, self.findings.reading.over]

    def _effect_card(self, effect: Effect) -> Card:
        """Return the card of an effect's average."""
        interval = effect.pooled.interval
        number = "–" if math.isnan(interval.mean) else f"{signed(interval.mean)} points"
        title = f"{effect.other} minus {effect.base}, averaged"
        tone = {1: "up", -1: "down", 0: ""}[interval.sign]
        return Card(capital(title), number, within_95(interval), verdict(interval), tone)

    def _saving_card(self, panel: str, saving: Saving) -> Card:
        """Return the card of one label saving."""
        main, words = self.findings.main, self.words
        tone = "up" if saving.low > saving.fraction else "down" if saving.high < saving.fraction else ""
        told = {"up": "labels saved", "down": "labels lost", "": "no saving distinguishable"}[tone]
        title = f"Labels for the same accuracy{', ' + panel if panel else ''}"
        equation = f"{main.other} {words.over(saving.fraction)} = {main.base} {words.equal(saving)}"
        return Card(title, words.factor(saving), f"{equation}, {words.saving_interval(saving)}", told, tone)
