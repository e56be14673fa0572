"""Content common to all report pages: size of the study, missing runs, cost, commands to reproduce it, environment."""

import shlex
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from common.yaml_text import dump_yaml
from recipes.reports.arm_costs import stage_seconds
from recipes.reports.results import StudyRecord
from recipes.reports.run_files import read_environment, read_num_classes
from recipes.run.runner import format_duration
from recipes.study.plan import format_value
from recipes.study.specification import display_path


@dataclass(frozen=True)
class Card:
    """A summary card: title, number, interval, and conclusion with its tone (up, down, or none)."""

    title: str
    number: str
    interval: str
    conclusion: str
    tone: str


class Page(ABC):
    """The part of a report's content that does not depend on the kind of report."""

    template: ClassVar[str]
    """Name of the templates of the page, without extension."""

    def __init__(self, study: StudyRecord, costs: pd.DataFrame) -> None:
        """Take the record of a study's folder, and the costs of its arms (`arm_costs`)."""
        self.study, self.costs = study, costs
        self.name, self.question = study.plan.study.name, study.plan.study.question

    @abstractmethod
    def answer(self) -> list[str]:
        """Return the sentences that answer the question."""

    @abstractmethod
    def cards(self) -> list[Card]:
        """Return the summary cards."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Return how to read the numbers."""

    @abstractmethod
    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped."""

    def warnings(self) -> list[str]:
        """Return the warnings: runs that are not done, and runs that did not finish normally."""
        statuses = self.study.frame["status"].dropna()
        warnings = []
        if len(statuses) < len(self.study.runs):
            warnings.append(
                f"{len(statuses)} of {len(self.study.runs)} runs are done; these numbers do not include the others."
            )
        failed = statuses[statuses != "finished"].str.replace("_", " ").value_counts(sort=False)
        if len(failed):
            counts = ", ".join(f"{count} {status}" for status, count in failed.items())
            warnings.append(f"Not every run finished: {counts}. See “Status of the runs” before relying on an average.")
        return warnings

    def facts(self) -> list[str]:
        """Return the size of the study, in a few short phrases."""
        plan = self.study.plan
        sizes = [f"{axis.name} ({len(axis.levels)})" for axis in plan.study.axes]
        return [f"{len(plan.runs)} runs", " × ".join(sizes), self._time()]

    def cost_sentence(self) -> str:
        """Return the total time of the study, by stage."""
        parts = [f"{format_duration(value)} of {name}" for name, value in stage_seconds(self.study).items()]
        return f"Total over all runs: {self._time()} ({' and '.join(parts)}), if run sequentially."

    def commands(self) -> list[str]:
        """Return the commands that reproduce the study, this page, and a single run."""
        plan = self.study.plan
        mapping, folder = plan.study.mapping, display_path(self.study.folder)
        words = [f"{key}={format_value(value)}" for key, value in mapping.get("set", {}).items()]
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

    def environment(self) -> list[tuple[str, str]]:
        """Return versions, hardware and the state of the code; where runs differ, the most frequent value first."""
        environment = read_environment(self.study)
        return [
            (key, "; ".join(values)) for key, values in environment.items() if key != "command" and len(values) <= 4
        ]

    def study_file(self) -> str:
        """Return the study as YAML, including the overrides of the command line."""
        return dump_yaml(dict(self.study.plan.study.mapping), width=100)

    def chance_level(self) -> list[str]:
        """Return the accuracy at chance level, if the exported networks give their number of classes."""
        classes = read_num_classes(self.study)
        return [f"Chance level is about {100 / classes:.3g}% ({classes} classes)."] if classes else []

    def _time(self) -> str:
        """Return the total time of all runs as text."""
        return f"{format_duration(sum(stage_seconds(self.study).values()))} of compute"
