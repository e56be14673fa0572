"""Tables of what surrounds a comparison: baselines that train no network, and the lengths that validation images chose."""

from collections.abc import Mapping

import numpy as np

from recipes.reports.comparison_tables import ComparisonTables
from recipes.reports.formatting import number, signed
from recipes.reports.results import RunRecord
from recipes.reports.tables import Table
from recipes.study.specification import BASELINES, FEATURES

MEASURES = {"test_knn_top1": "k-NN", "test_probe_top1": "linear probe"}
"""Metrics of the baselines with their titles."""


class SetupTables(ComparisonTables):
    """The tables of a comparison, with those of its baselines and choices."""

    def baselines(self) -> Table:
        """Return the accuracy of k-NN and of a linear probe on frozen features and on pixels: means over the repeats, by x."""
        spec = self.findings.spec
        axes = [axis for axis in self.findings.arm_axes if axis != self.findings.main.axis]
        groups: dict[tuple[str, ...], dict[str, list[RunRecord]]] = {}
        for run in self.study.of_stage(BASELINES):
            levels = run.planned.levels
            if run.result and run.result.is_usable:
                key = (levels[FEATURES], *(levels.get(axis, "–") for axis in axes))
                groups.setdefault(key, {}).setdefault(levels.get(spec.x, ""), []).append(run)
        rows = [
            [
                key[0],
                *(self.title(level) for level in key[1:]),
                title,
                *(self._mean_of(runs, x, name) for x in self.findings.x),
            ]
            for key, runs in groups.items()
            for name, title in MEASURES.items()
        ]
        header = ["Frozen features", *self.heads(axes), "Classifier", *map(self.words.labels, self.findings.x)]
        return Table(header, rows, 2 + len(axes))

    def choices(self) -> Table:
        """Return, for every arm and x, the chosen length, its validation metric, and what twice the epochs gain."""
        choices = self.findings.choices
        axes = [*self.findings.arm_axes, self.findings.spec.x]
        rows = []
        for choice in choices.choices if choices else ():
            others = {key.rpartition(".")[2]: value for key, value in choice.settings.items()}
            epochs = f"{others.pop('epochs', '–')}"
            tried = ", ".join("–" if each.metric is None else number(each.metric) for each in choice.candidates)
            converged = {True: "yes", False: "no", None: "unknown"}[choice.converged]
            gain = "–" if choice.gain is None else signed(choice.gain)
            best = "–" if choice.metric is None else number(choice.metric)
            rows.append([*self.titles(choice.levels, axes), f"{choice.length:g}", epochs, tried, best, gain, converged])
        measured = choices.metric.replace("_", " ") if choices else ""
        header = [
            "Part of the budget",
            "Epochs",
            f"Candidates, {measured}",
            "Chosen",
            "Gain of twice the epochs",
            "Converged",
        ]
        return Table([*self.heads(axes), *header], rows, len(axes))

    def _mean_of(self, runs: Mapping[str, list[RunRecord]], x: str, name: str) -> str:
        """Return the mean of a metric over the runs at x as text; runs without a level of x count at each."""
        found = [
            run.result.metrics[name]
            for run in (*runs.get(x, ()), *runs.get("", ()))
            if run.result and name in run.result.metrics
        ]
        return number(float(np.mean(found))) if found else "–"
