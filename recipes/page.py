"""Owns what stands on a report's page beside its tables and figures: the answer, cards, notes, how to run it again."""

import math
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from recipes.captions import NOTES, fill
from recipes.cost import ArmCost, arm_costs, stage_seconds
from recipes.findings import Effect, Findings, find
from recipes.results import StudyRecord, read_num_classes, read_surroundings
from recipes.runner import counted, in_words
from recipes.sentences import Words, capital, signed, verdict, within_95
from recipes.statistics import CONFIDENCE, Saving
from recipes.study import shown
from recipes.tables import Tables


@dataclass(frozen=True)
class Card:
    """A finding at a glance: what, how much, its interval, and the verdict with its tone (up, down, or none)."""

    title: str
    number: str
    interval: str
    verdict: str
    tone: str


class Page:
    """The content of a study's report."""

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from a study's folder as it was read."""
        self.study = study
        self.name, self.question = study.plan.study.name, study.plan.study.question
        self.findings: Findings = find(study)
        self.words = Words(self.findings)
        self.tables = Tables(study, self.findings, self.words)
        self.costs: Sequence[ArmCost] = arm_costs(study, self.findings.arm_axes)

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

    def warnings(self) -> list[str]:
        """Return what to know first: runs that are not done, and runs that did not end as they should."""
        results = [run.result for run in self.study.runs.values() if run.result]
        said = []
        if len(results) < len(self.study.runs):
            said.append(f"{len(results)} of {len(self.study.runs)} runs are done; the others are not in these numbers.")
        ends = Counter(result.verdict.replace("_", " ") for result in results if result.verdict != "finished")
        if ends:
            told = ", ".join(f"{count} {verdict}" for verdict, count in ends.items())
            said.append(f"Not every run finished: {told}. See “How the runs ended” before you rely on an average.")
        return said

    def facts(self) -> list[str]:
        """Return the study's size in a few words each."""
        plan = self.study.plan
        sizes = [f"{len(axis.levels)} {axis.name}" for axis in plan.study.axes]
        return [f"{len(plan.runs)} runs", " × ".join(sizes), self._time()]

    def cost_sentence(self) -> str:
        """Return the time the whole study took, by stage."""
        parts = [f"{in_words(value)} of {name}" for name, value in stage_seconds(self.study).items()]
        return f"All runs together: {self._time()} ({' and '.join(parts)}), one after the other."

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
        return [*reading.notes, *self._chance(), *standing]

    def commands(self) -> list[str]:
        """Return the commands that make this page again, and one of its runs by itself."""
        plan = self.study.plan
        extra = plan.study.mapping.get("set", {})
        words = [shlex.quote(f"{key}={value}") for key, value in extra.items()]
        folder = shown(self.study.folder)
        run = " ".join(["python -m recipes run", plan.study.source, *words, "--out", shlex.quote(folder)])
        last = plan.runs[-1]
        arguments = " ".join(map(shlex.quote, last.arguments(self.study.folder / "runs")))
        return [
            run,
            f"python -m recipes report {shlex.quote(folder)}",
            f"accelerate launch -m {last.package} {arguments}",
        ]

    def surroundings(self) -> list[tuple[str, str]]:
        """Return versions, hardware and the state of the code; where runs differ, the most frequent first."""
        found = read_surroundings(self.study)
        return [(key, "; ".join(values)) for key, values in found.items() if key != "command" and len(values) <= 4]

    def study_file(self) -> str:
        """Return the study as YAML, with what the command line set."""
        return str(yaml.safe_dump(dict(self.study.plan.study.mapping), sort_keys=False, allow_unicode=True, width=100))

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

    def _chance(self) -> list[str]:
        """Return what guessing would reach, where the exported networks tell their number of classes."""
        classes = read_num_classes(self.study)
        return [f"Guessing among {classes} classes gives about {100 / classes:.3g}%."] if classes else []

    def _time(self) -> str:
        """Return the seconds of all runs in words."""
        return f"{in_words(sum(stage_seconds(self.study).values()))} of computing"
