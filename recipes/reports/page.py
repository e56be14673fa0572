"""Owns what every report's page says of its study: size, what is not done, cost, how to run it again, and where it ran."""

import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import yaml

from recipes.reports.cost import ArmCost, stage_seconds
from recipes.reports.results import StudyRecord, read_num_classes, read_surroundings
from recipes.run.runner import in_words
from recipes.study.plan import write_value
from recipes.study.specification import shown


@dataclass(frozen=True)
class Card:
    """A finding at a glance: what, how much, its interval, and the verdict with its tone (up, down, or none)."""

    title: str
    number: str
    interval: str
    verdict: str
    tone: str


class Page(ABC):
    """The part of a report's content that does not depend on how the study is read."""

    template: ClassVar[str]
    """Name of the templates that lay the page out."""

    def __init__(self, study: StudyRecord, costs: Sequence[ArmCost]) -> None:
        """Take a study's folder as it was read, and what its arms cost."""
        self.study, self.costs = study, costs
        self.name, self.question = study.plan.study.name, study.plan.study.question

    @abstractmethod
    def answer(self) -> list[str]:
        """Return the sentences that answer the question."""

    @abstractmethod
    def cards(self) -> list[Card]:
        """Return the findings at a glance."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Return how to read the numbers."""

    @abstractmethod
    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of every measure goes."""

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

    def commands(self) -> list[str]:
        """Return the commands that make this page again, and one of its runs by itself."""
        plan = self.study.plan
        mapping, folder = plan.study.mapping, shown(self.study.folder)
        words = [f"{key}={write_value(value)}" for key, value in mapping.get("set", {}).items()]
        words += ["--scale", mapping["scale"]] if "scale" in mapping else []
        words += ["--seeds", ",".join(map(str, mapping["seeds"]))] if "seeds" in mapping else []
        run = shlex.join(["python", "-m", "recipes", "run", plan.study.source, *words, "--out", folder])
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

    def chance(self) -> list[str]:
        """Return what guessing would reach, where the exported networks tell their number of classes."""
        classes = read_num_classes(self.study)
        return [f"Guessing among {classes} classes gives about {100 / classes:.3g}%."] if classes else []

    def _time(self) -> str:
        """Return the seconds of all runs in words."""
        return f"{in_words(sum(stage_seconds(self.study).values()))} of computing"
