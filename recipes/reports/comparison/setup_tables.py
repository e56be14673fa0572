"""Tables of what surrounds a comparison: baselines that train no network, lengths that validation images chose, its sizing."""

import math
from dataclasses import dataclass

import numpy as np

from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.tables import ComparisonTables
from recipes.reports.formatting import number, signed
from recipes.reports.run_tables import Table
from recipes.study.specification import BASELINES, FEATURES, PIXELS, UNTRAINED

NO_LEVEL = "–"
"""The level of pixels on an axis of networks."""
CLASSIFIERS = {"knn": "k-NN", "probe": "linear probe"}
"""Titles of the baselines by the prefix of their metrics."""
BASELINE_METRICS = ("test_top1", "test_top5", "test_balanced_accuracy", "test_macro_f1", "test_auroc")
"""Metrics of a study that its baselines report, too (`common.evaluation.probe_run`); of each, more is better."""


@dataclass(frozen=True)
class BestBaseline:
    """The best baseline at an amount of labels, and the best arm there."""

    name: str
    """Classifier and features of the baseline."""
    value: str
    """What it reaches."""
    labels: str
    """The amount of labels."""
    is_pretrained: bool
    """Whether its features are those of a pre-trained network."""
    of_pixels: tuple[str, float] | None
    """Classifier and value of the best one on raw pixels, if the best of all is not one of them."""
    arm: str
    of_arm: str
    """What the best arm reaches."""
    is_sufficient: bool
    """Whether the baseline reaches as much as the best arm."""
    is_above: bool
    """Whether it is above the interval of the best arm."""

    @property
    def reached(self) -> str:
        """Return what the baseline is, and what it reaches."""
        return f"{self.name} reaches {self.value} with {self.labels}"


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
        found = self._best_baseline(self.findings.x[0])
        if found is None:
            return ""
        of_pixels = (
            "" if found.of_pixels is None else f", {found.of_pixels[0]} on raw pixels {number(found.of_pixels[1])}"
        )
        best = f"the best arm ({found.arm}) reaches {found.of_arm}"
        return f"Without training a network on the labels, {found.reached}{of_pixels}; {best}."

    def sufficient_baseline(self) -> str:
        """Return that a baseline is as good as the best arm, at the largest amount of labels where one is; empty if none is."""
        for x in reversed(self.findings.x):
            found = self._best_baseline(x)
            if found is not None and found.is_sufficient:
                return (
                    f"No arm is above the best baseline, which trains no network on the labels: {found.reached}, the best arm"
                    f" ({found.arm}) {found.of_arm}; the best ones by test images, compared without an interval."
                )
        return ""

    def outdone(self) -> str:
        """Return that a baseline is above the best arm's interval at every amount of labels, and what follows; empty if not."""
        found = [self._best_baseline(x) for x in self.findings.x]
        most = found[-1]
        if most is None or not all(each is None or each.is_above for each in found):
            return ""
        if most.is_pretrained:
            return (
                f"Use {most.name}, or train longer: that reaches {most.value} without training a network on the labels, and"
                f" the best arm {most.of_arm}."
            )
        return (
            f"Train longer before you compare: {most.name} reaches {most.value} without training a network, and the best arm"
            f" {most.of_arm}."
        )

    def below_own_start(self) -> str:
        """Return which arms stay below a classifier on the frozen features that they start from; empty if none does.

        Such an arm has lost in training what it began with: too few steps, or too high a rate. Of an arm with several such amounts
        of labels, the largest is named.
        """
        findings, found = self.findings, dict[str, str]()
        if findings.spec.metric not in BASELINE_METRICS:
            return ""
        for arm in findings.arms:
            best = None if math.isnan(arm.interval.mean) else max(self._of_own_start(arm.levels), default=None)
            if best is not None and best[0] > float(np.nanmax([arm.interval.mean, arm.interval.high])):
                name = ", ".join(self.title(arm.levels[axis]) for axis in findings.arm_axes)
                labels = self.words.labels(arm.levels[findings.spec.x])
                reached = number(arm.interval.mean)
                found[name] = (
                    f"{name} reaches {reached} with {labels}, {best[1]} on its frozen features {number(best[0])}"
                )
        if not found:
            return ""
        return (
            f"Below what they start from: {'; '.join(found.values())} (the best classifiers by test images, compared without an"
            " interval). Their fine-tuning is too short, or its rate does not fit."
        )

    def _of_own_start(self, levels: Levels) -> list[tuple[float, str]]:
        """Return what each classifier reaches on the pre-trained features that the arm at `levels` starts from."""
        values, x = self.findings.values, levels[self.findings.spec.x]
        key = values.key(levels)
        if key not in self.findings.earlier.published and not any(self.findings.earlier.by_cell.get(key, {}).values()):
            return []
        network = tuple(levels[axis] for axis in self._baseline_axes())
        return [
            (by_x[x], names[-1])
            for names, by_x in self._baselines().items()
            if names[0] not in (PIXELS, UNTRAINED) and names[1:-1] == network and x in by_x
        ]

    def _best_baseline(self, x: str) -> BestBaseline | None:
        """Return the best baseline and the best arm at an amount of labels; None if the study's metric is not one of baselines."""
        axis = self.findings.spec.x
        arms = [arm for arm in self.findings.arms if arm.levels[axis] == x and not math.isnan(arm.interval.mean)]
        found = [(values[x], names) for names, values in self._baselines().items() if x in values]
        if not found or not arms or self.findings.spec.metric not in BASELINE_METRICS:
            return None
        value, (features, *levels, classifier) = max(found)
        best = max(arms, key=lambda arm: arm.interval.mean)
        network = ", ".join(self.title(level) for level in levels if level != NO_LEVEL)
        source = "raw pixels" if features == PIXELS else f"{features} features" + (f" ({network})" if network else "")
        pixels = max(((value, names[-1]) for value, names in found if names[0] == PIXELS), default=None)
        return BestBaseline(
            name=f"{classifier} on {source}",
            value=number(value),
            labels=self.words.labels(x),
            is_pretrained=features not in (PIXELS, UNTRAINED),
            of_pixels=None if pixels is None or features == PIXELS else (pixels[1], pixels[0]),
            arm=", ".join(self.title(best.levels[name]) for name in self.findings.arm_axes),
            of_arm=number(best.interval.mean),
            is_sufficient=value >= best.interval.mean,
            is_above=value > float(np.nanmax([best.interval.mean, best.interval.high])),
        )

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

    def _baseline_metric(self) -> str:
        """Return the metric of the baselines: the study's, or accuracy if they do not report that."""
        return self.findings.spec.metric if self.findings.spec.metric in BASELINE_METRICS else BASELINE_METRICS[0]

    def _measures(self) -> dict[str, str]:
        """Return the names of the baselines' metric in their results, with the title of each classifier."""
        metric = self._baseline_metric()
        measured = metric.removeprefix("test_")
        also = (
            ""
            if metric == self.findings.spec.metric
            else f", {measured.replace('_', ' ').replace('top1', 'top-1 accuracy')}"
        )
        return {f"test_{prefix}_{measured}": title + also for prefix, title in CLASSIFIERS.items()}

    def _baselines(self) -> dict[tuple[str, ...], dict[str, float]]:
        """Return the mean over the repeats by x, for (features, levels of the network, classifier)."""
        axes, x_axis, frame = self._baseline_axes(), self.findings.spec.x, self.study.frame
        runs = frame[(frame["stage"] == BASELINES) & frame["status"].notna()]
        values: dict[tuple[str, ...], dict[str, list[float]]] = {}
        for run in runs.to_dict("records"):
            is_of_none = run[FEATURES] == PIXELS
            network = [NO_LEVEL if is_of_none or run[axis] is None else run[axis] for axis in axes]
            for name, title in self._measures().items():
                if not math.isnan(run.get(name, math.nan)):
                    of_classifier = values.setdefault((run[FEATURES], *network, title), {})
                    for x in self.findings.x if run[x_axis] is None else [run[x_axis]]:
                        of_classifier.setdefault(x, []).append(run[name])
        return {names: {x: float(np.mean(found)) for x, found in by_x.items()} for names, by_x in values.items()}
