"""Tables of what surrounds a comparison: baselines that train no network, lengths that validation images chose, its sizing."""

import math

import numpy as np

from recipes.reports.comparison.tables import ComparisonTables
from recipes.reports.formatting import number, signed
from recipes.reports.run_tables import Table
from recipes.study.specification import BASELINES, FEATURES

NO_LEVEL = "–"
"""The level of pixels on an axis of networks."""
MEASURES = {"test_knn_top1": "k-NN", "test_probe_top1": "linear probe"}
"""Metrics of the baselines with their titles."""


class SetupTables(ComparisonTables):
    """The tables of a comparison, with those of its baselines and choices."""

    def baselines(self) -> Table:
        """Return the accuracy of k-NN and of a linear probe on frozen features and on pixels: means over the repeats, by x.

        Where several arms start from something, a column says from what: the level of the main axis.
        """
        axes = self._baseline_axes()
        rows = [
            [
                names[0],
                *map(self.title, names[1:]),
                *(number(values[x]) if x in values else "–" for x in self.findings.x),
            ]
            for names, values in self._baselines().items()
        ]
        header = ["Frozen features", *self.heads(axes), "Classifier", *map(self.words.labels, self.findings.x)]
        return Table(header, rows, 2 + len(axes))

    def best_baseline(self) -> str:
        """Return the sentence on the best baseline at the smallest amount of labels, beside the best arm; empty without any."""
        x, axis = self.findings.x[0], self.findings.spec.x
        sign = 1 if self.findings.metric.higher_is_better else -1
        arms = [arm for arm in self.findings.arms if arm.levels[axis] == x and not math.isnan(arm.interval.mean)]
        found = [(values[x], names) for names, values in self._baselines().items() if x in values]
        if not found or not arms or not self.findings.metric.in_percent:
            return ""
        value, (features, *levels, classifier) = max(found)
        best = max(arms, key=lambda arm: sign * arm.interval.mean)
        network = ", ".join(self.title(level) for level in levels if level != NO_LEVEL)
        source = "raw pixels" if features == "pixels" else f"{features} features" + (f" ({network})" if network else "")
        arm = ", ".join(self.title(best.levels[name]) for name in self.findings.arm_axes)
        reached = f"{classifier} on {source} reaches {number(value)} with {self.words.labels(x)}"
        pixels = max(((value, names[-1]) for value, names in found if names[0] == "pixels"), default=None)
        if pixels is not None and features != "pixels":
            reached += f", {pixels[1]} on raw pixels {number(pixels[0])}"
        return f"Without training a network on the labels, {reached}; the best arm ({arm}) reaches {number(best.interval.mean)}."

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

    def sizing(self) -> Table:
        """Return how the study was sized: what was chosen, the value, and why."""
        rows = [[choice.key, choice.value, choice.reason] for choice in self.study.plan.study.sizing]
        return Table(["Chosen", "Value", "Reason"], rows, 3)

    def _baseline_axes(self) -> list[str]:
        """Return the axes that distinguish features: those of the panels, and the main one where several arms have a start."""
        main, frame = self.findings.main.axis, self.study.frame
        has_starts = frame.loc[frame["stage"] == BASELINES, main].notna().any()
        return [axis for axis in self.findings.arm_axes if axis != main or has_starts]

    def _baselines(self) -> dict[tuple[str, ...], dict[str, float]]:
        """Return the mean over the repeats by x, for (features, levels of the network, classifier)."""
        axes, x_axis, frame = self._baseline_axes(), self.findings.spec.x, self.study.frame
        runs = frame[(frame["stage"] == BASELINES) & frame["status"].notna()]
        values: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for run in runs.to_dict("records"):
            network = [NO_LEVEL if run[axis] is None else run[axis] for axis in axes]
            for name, title in MEASURES.items():
                if not math.isnan(run.get(name, math.nan)):
                    of_classifier = values.setdefault((run[FEATURES], *network, title), {})
                    for x in self.findings.x if run[x_axis] is None else [run[x_axis]]:
                        of_classifier.setdefault(x, []).append(run[name])
        return {names: {x: float(np.mean(found)) for x, found in by_x.items()} for names, by_x in values.items()}
