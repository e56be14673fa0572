"""Content common to all report pages: size of the study, incomplete runs, cost, commands to reproduce it, environment."""

import shlex
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd

from common.errors import did_you_mean
from common.yaml_text import dump_yaml
from recipes.reports.arm_costs import stage_seconds
from recipes.reports.contents import Contents, find_contents
from recipes.reports.duplicate_words import DuplicateWords
from recipes.reports.duplicates import find_duplicates
from recipes.reports.incomplete_runs import MOST_NAMED, incomplete_runs
from recipes.reports.results import StudyRecord
from recipes.reports.run_files import chosen_precisions, read_environment, read_num_classes
from recipes.run.runner import format_duration
from recipes.study.command import run_command
from recipes.study.display import display_path
from recipes.study.report_specification import TableReportSpec

LEAD_FIGURES = ("accuracy", "table_")
"""Beginnings of the names of figures that show the result itself."""


@dataclass(frozen=True)
class Card:
    """An answer in a line: what is asked, the number, its interval, and the conclusion with its tone (up, down, or none)."""

    title: str
    number: str
    """Empty: there is none."""
    interval: str
    conclusion: str
    tone: str
    note: str = ""
    """What would settle it, if it is open."""


class Page(ABC):
    """The part of a report's content that does not depend on the kind of report."""

    template: ClassVar[str]
    """Name of the templates of the page, without extension."""

    def __init__(self, study: StudyRecord, costs: pd.DataFrame) -> None:
        """Take the record of a study's folder, and the costs of its arms (`arm_costs`)."""
        self.study, self.costs = study, costs
        self.name, self.question = study.plan.study.name, study.plan.study.question
        self.duplicates = DuplicateWords(find_duplicates(study))
        self.precisions = chosen_precisions(study)

    def advice(self) -> list[str]:
        """Return what to do and how sure that is, where a report recommends something."""
        return []

    @abstractmethod
    def answer(self) -> list[str]:
        """Return the sentences that answer the question."""

    @abstractmethod
    def cards(self) -> list[Card]:
        """Return the answers of the first screen, a line each."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Return how to read the numbers."""

    @abstractmethod
    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped."""

    def warnings(self) -> list[str]:
        """Return warnings: metrics that runs lack, runs that are not done or did not finish, test images that were trained on."""
        statuses = self.study.frame["status"].dropna()
        warnings = [*self._unknown_metrics(), *self._runs_without_metric()]
        if len(statuses) < len(self.study.runs):
            warnings.append(
                f"{len(statuses)} of {len(self.study.runs)} runs are done; these numbers do not include the others."
            )
        failed = statuses[statuses != "finished"].str.replace("_", " ").value_counts(sort=False)
        if len(failed):
            counts = ", ".join(f"{count} {status}" for status, count in failed.items())
            warnings.append(f"Not every run finished: {counts}. See “Status of the runs” before relying on an average.")
        for stage, by_precision in self.precisions.items():
            if len(by_precision) > 1:
                found = ", ".join(f"{precision} in {count}" for precision, count in sorted(by_precision.items()))
                warnings.append(
                    f"train.precision=auto chose differently for the runs of {stage} ({found}), on unlike machines: differences"
                    " between arms may be due to it. Name a precision."
                )
        return [*warnings, *filter(None, [self.duplicates.warning()])]

    def _unknown_metrics(self) -> Iterator[str]:
        """Yield a sentence for each reported metric that no usable run of the last stage has."""
        stage = self.study.last_stage
        known = {name for metrics in self._metrics_by_run().values() for name in metrics}
        for metric in self._reported_metrics():
            if known and not _has_metric(known, metric):
                yield (
                    f"No run of {stage} has the metric {metric}.{did_you_mean(metric, known)} They have"
                    f" {', '.join(sorted(known))}. Correct it in the section report: runs that are done are not repeated."
                )

    def _runs_without_metric(self) -> Iterator[str]:
        """Yield a sentence for each reported metric that some usable runs of the last stage lack, with the first of their names."""
        by_run = self._metrics_by_run()
        for metric in self._reported_metrics():
            lacking = [name for name, metrics in by_run.items() if not _has_metric(metrics, metric)]
            if lacking and len(lacking) < len(by_run):
                verbs = "lacks" if len(lacking) == 1 else "lack"
                more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
                yield (
                    f"{len(lacking)} of {len(by_run)} finished runs of {self.study.last_stage} {verbs} the metric {metric}, or its"
                    f" value is not finite: {', '.join(lacking[:MOST_NAMED])}{more}. What is done is not run again when the study"
                    " is resumed; delete the folder of a run to run it again."
                )

    def _reported_metrics(self) -> list[str]:
        """Return the metrics that the report is on."""
        spec = self.study.plan.study.report
        return list(dict.fromkeys(spec.metrics.values())) if isinstance(spec, TableReportSpec) else [spec.metric]

    def _metrics_by_run(self) -> dict[str, Collection[str]]:
        """Return the names of the metrics of every usable run of the last stage."""
        runs = self.study.of_stage(self.study.last_stage)
        return {run.planned.id: set(run.result.metrics) for run in runs if run.result and run.is_usable}

    def facts(self) -> list[str]:
        """Return the size of the study, in a few short phrases."""
        plan = self.study.plan
        stages = Counter(run.stage for run in plan.runs)
        parts = ", ".join(f"{count} {stage}" for stage, count in stages.items())
        return [f"{len(plan.runs)} runs" + (f" ({parts})" if len(stages) > 1 else ""), plan.study.size, self._time()]

    def incomplete(self, level: Callable[[str, str], str]) -> list[str]:
        """Return the runs that are not done or did not finish normally, by name; `level` formats a level of an axis."""
        return incomplete_runs(self.study, level)

    def skipped(self) -> list[str]:
        """Return what the study lacks, and why."""
        return []

    def lead_figure(self, figures: Iterable[str]) -> str:
        """Return the name of the first screen's figure among those there are; empty without one."""
        return next((name for name in figures if name.startswith(LEAD_FIGURES)), "")

    def contents(self, html: str) -> Contents:
        """Return the sections of the page, and its HTML with their anchors."""
        return find_contents(html)

    def spent(self) -> str:
        """Return the time of the study by stage, and the device."""
        parts = [f"{format_duration(value)} {name}" for name, value in stage_seconds(self.study).items()]
        of_stages = f" ({', '.join(parts)})" if len(parts) > 1 else ""
        return f"{self._time()}{of_stages} on {self._device()}" if self._device() else f"{self._time()}{of_stages}"

    def _device(self) -> str:
        """Return the device of most runs: the GPU, or the processor with its number of cores."""
        found = read_environment(self.study)
        device, processor, cores = (next(iter(found.get(key, [])), "") for key in ("device", "processor", "cores"))
        if device not in ("", "cpu"):
            return device
        return f"{processor}, {cores} cores" if processor and cores else processor

    def cost_sentence(self) -> str:
        """Return the total time of the study, by stage."""
        parts = [f"{format_duration(value)} of {name}" for name, value in stage_seconds(self.study).items()]
        return f"Total over all runs: {self._time()} ({' and '.join(parts)}), if run sequentially."

    def commands(self) -> list[str]:
        """Return the commands that reproduce the study, this page, and a single run."""
        plan = self.study.plan
        folder = display_path(self.study.folder)
        run = shlex.join([*run_command(plan.study), "--out", folder])
        last = plan.runs[-1]
        arguments = shlex.join(last.arguments(self.study.folder / "runs"))
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


def _has_metric(names: Collection[str], metric: str) -> bool:
    """Return whether a reported metric is among names of metrics; one by layer is there with the number of the layer."""
    name = metric.partition("@")[0]
    return name in names or f"{name}_00" in names
