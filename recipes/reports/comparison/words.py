"""Wording of a comparison: every sentence is computed from the findings, and states what they do not show."""

from collections import Counter
from collections.abc import Sequence

from recipes.reports.comparison.cell_values import Key
from recipes.reports.comparison.claims import is_equal_spending, relative_macs
from recipes.reports.comparison.estimator import Effect, Estimate, Levels
from recipes.reports.comparison.findings import Divergence, Findings
from recipes.reports.formatting import capital, listed, signed_distinctly, within_95
from recipes.reports.statistics import MIN_SEEDS, Interval, chance_of_false_mark
from recipes.run.runner import pluralize
from recipes.study.report_specification import ReportSpec

MOST_PANELS = 4
"""Number of panels up to which each has its part of a sentence; the tables have all of them."""


class Words:
    """Formatting of the levels, axes and numbers of a study, and the sentences on its effects."""

    def __init__(self, findings: Findings) -> None:
        """Take the findings to describe."""
        self.findings = findings
        self.spec: ReportSpec = findings.spec
        self.metric = findings.metric
        self.is_fraction = self.spec.is_fraction and all(0 < float(x) <= 1 for x in findings.x)
        self._digits = _distinct_digits([100 * float(x) for x in findings.x])

    def title(self, name: str) -> str:
        """Return the title that the study gives to an axis or a level, or its name."""
        return str(self.spec.titles[name]) if name in self.spec.titles else name

    @property
    def axis_title(self) -> str:
        """Return the title of an axis of the metric, with its unit."""
        return self.spec.metric_name + (", %" if self.metric.in_percent else "")

    @property
    def covered(self) -> str:
        """Return what the intervals cover."""
        return f"{self.spec.repeats}s" + ("" if self.findings.values.problems else " and test images")

    def panel(self, levels: Levels) -> str:
        """Return a panel's title: its levels, comma-separated."""
        return ", ".join(self.title(level) for level in levels.values())

    def format_x(self, x: float) -> str:
        """Return an x as text; a fraction in percent, with as many digits as distinguish the levels."""
        return f"{100 * x:.{self._digits}g}%" if self.is_fraction else f"{x:g}"

    def labels(self, x: str) -> str:
        """Return a level of the x axis with its number of labels; of another key, with the axis's name."""
        if not self.spec.counts_labels:
            return f"{self.spec.x_name} {self.format_x(float(x))}"
        count = f" ({self.findings.labels[x]:,} labels)" if x in self.findings.labels else ""
        return self.format_x(float(x)) + count

    def amount(self, value: float) -> str:
        """Return an amount of labels as text: a number of labels if it is known, otherwise a level of the x axis."""
        return f"{value:,.0f} labels" if self.counts_labels else self.format_x(value)

    def measured_amount(self, x: str) -> float:
        """Return the amount at a level of the x axis, in the unit of `amount`."""
        return float(self.findings.labels[x]) if self.counts_labels else float(x)

    @property
    def counts_labels(self) -> bool:
        """Return whether the number of labels is known at every x."""
        return all(x in self.findings.labels for x in self.findings.x)

    def points(self, value: float) -> str:
        """Return the absolute value of a difference: 2.1 points, less than 0.1 points, 0.030 in mAP."""
        digits = self.metric.digits
        text = f"{abs(value):.{digits}f}"
        if float(text) == 0 and value != 0:
            return f"less than {10**-digits:.{digits}f} {self.unit(0.0)}"
        return f"{text} {self.unit(float(text))}"

    def unit(self, value: float) -> str:
        """Return the unit after a difference: points, or the metric's name."""
        if not self.metric.in_percent:
            return f"in {self.spec.metric_name}"
        return "point" if f"{abs(value):.{self.metric.digits}f}" == "1.0" else "points"

    def change(self, value: float) -> str:
        """Return a signed difference with its unit: +2.1 points of top-1 accuracy, +0.030 in mAP."""
        of_what = f" of {self.spec.metric_name}" if self.metric.in_percent else ""
        return f"{signed_distinctly(value, self.metric.digits)} {self.unit(value)}{of_what}"

    def confidence(self, interval: Interval) -> str:
        """Return the bounds of a difference as text."""
        return within_95(interval, self.metric.digits).replace("repeat", self.spec.repeats)

    def exploratory(self) -> str:
        """Return the settings in which the main effect is significant, and how easily one is by chance."""
        effect = self.findings.main
        known = [each for each in effect.by_setting if each.interval.is_known and each.interval.count >= MIN_SEEDS]
        parts = []
        for sign, word in ((1, "significantly above zero"), (-1, "significantly below zero"), (0, "not significant")):
            group = [estimate for estimate in known if estimate.interval.sign == sign]
            if group:
                names = f" ({self._settings(group)})" if len(group) <= 2 * MOST_PANELS else ""
                parts.append(f"{word} in {len(group)} of {len(known)}{names}")
        if len(known) < 2:
            return ""
        chance = f"with a probability of {100 * chance_of_false_mark(len(known)):.0f}% if they were independent"
        return (
            f"Exploratory: in individual settings, the difference {effect.other} − {effect.base} is {listed(parts)}. Without any"
            f" effect, at least one of {len(known)} would be significant {chance}."
        )

    def second_effect(self) -> str:
        """Return the average effect of the second axis, which no claim declares; empty without one or without an interval."""
        if len(self.findings.effects) < 2:
            return ""
        effect = self.findings.effects[1]
        found = effect.pooled.interval
        if not found.is_known or found.count < MIN_SEEDS:
            return ""
        settings = (
            "all" if effect.settings_used == effect.settings_all else f"{effect.settings_used} of {effect.settings_all}"
        )
        return (
            f"Exploratory: averaged over {settings} settings, the difference {effect.other} − {effect.base} is"
            f" {self.change(found.mean)} ({self.confidence(found)}){self._spending(effect)}."
        )

    def _spending(self, effect: Effect) -> str:
        """Return by which factor the levels of an effect differ in compute, if they do."""
        weights = [
            (sign, {**setting.levels, effect.axis: level})
            for setting in effect.by_setting
            for sign, level in ((-1.0, effect.base), (1.0, effect.other))
        ]
        return self.times_macs(relative_macs(self.findings.costs, weights))

    def times_macs(self, ratio: float | None) -> str:
        """Return the clause on the compute of one side relative to the other's; empty if it is equal or not known."""
        return "" if ratio is None or is_equal_spending(ratio) else f", with {ratio:.2g} times the MACs"

    def divergences(self) -> list[str]:
        """Return how many runs diverged in each cell, or a summary of many cells."""
        cells = self.findings.divergences
        if len(cells) <= MOST_PANELS:
            return [self._divergence(cell) for cell in cells]
        diverged, runs = sum(cell.diverged for cell in cells), sum(cell.runs for cell in cells)
        return [
            f"{diverged} of {runs} runs diverged in {len(cells)} combinations of {listed([*self.findings.arm_axes, self.spec.x])};"
            " the table of diverged runs gives the rate of each."
        ]

    def _divergence(self, divergence: Divergence) -> str:
        """Return how many runs of a cell diverged, with the interval of the rate."""
        low, high = divergence.interval
        levels = {axis: level for axis, level in divergence.levels.items() if axis != self.spec.x}
        where = f"{self.panel(levels)}, {self.format_x(float(divergence.levels[self.spec.x]))}"
        count = f"{divergence.diverged} of {pluralize(divergence.runs, 'run')} diverged"
        return f"{capital(where)}: {count} (95% CI {low:.0f}% to {high:.0f}%)."

    def coverage(self) -> str:
        """Return what the intervals cover."""
        repeats = self.spec.repeats
        if not any(arm.interval.is_known for arm in self.findings.arms):
            return ""
        if self.findings.values.problems:
            reason = "; ".join(self.findings.values.problems)
            return f"The intervals cover the {repeats}s alone, not the sampling of the test images: {reason}."
        end = "they are for future images of the same kind"
        return f"The intervals cover the {repeats}s and the sampling of the test images: {end}."

    def matching(self) -> str:
        """Return what the arms may spend."""
        arms = self.arms_with_budget()
        match self.findings.match:
            case "compute":
                spent = "the same number of MACs (forward and backward of every pass, over all of their stages)"
            case "steps":
                spent = "the same number of optimizer steps over all of their stages, which is not the same compute"
            case _:
                return f"{capital(arms)} are trained as their recipes say; they do not spend equal compute."
        chosen = (
            " Lengths up to that budget are chosen for each arm on validation images." if self.findings.choices else ""
        )
        return f"{capital(arms)} are limited to {spent}.{chosen}"

    def arms_with_budget(self) -> str:
        """Return the arms that have the same budget, as a list."""
        main, starts = self.findings.main, self.findings.starts
        further = [arm[main.axis] for arm in starts.arms] if starts is not None else []
        return listed([self.title(name) for name in (main.base, main.other, *further)])

    def shared_runs(self) -> str:
        """Return which earlier runs several repeats start from, so that the intervals do not cover how those runs vary."""
        earlier, main = self.findings.earlier, self.findings.main.axis
        axes = self.findings.values.axes
        shared = [key for key in earlier.by_cell if earlier.is_shared(key)]
        if not shared:
            return ""
        arms = listed(list(dict.fromkeys(self.title(key[axes.index(main)]) for key in shared)))
        runs = [run for run in earlier.of(shared) if any(run in names for names in self._repeated(shared))]
        stages = dict.fromkeys(
            [earlier.stages[run] for run in runs] + [earlier.published.get(key, "") for key in shared]
        )
        stage = listed([name for name in stages if name])
        what = "published weights" if not runs else f"{stage} run"
        end = f"the intervals do not cover how {stage} runs vary, and are for these {'weights' if not runs else 'runs'} alone"
        return capital(f"with {arms}, several {self.spec.repeats}s start from the same {what}: {end}.")

    def _repeated(self, keys: Sequence[Key]) -> list[set[str]]:
        """Return, for each cell, the earlier runs that more than one of its repeats starts from."""
        counts = [Counter(run for runs in self.findings.earlier.by_cell[key].values() for run in runs) for key in keys]
        return [{run for run, count in each.items() if count > 1} for each in counts]

    def second_axis(self) -> str:
        """Return which levels of the second axis are compared, if it has more."""
        if len(self.findings.effects) < 2:
            return ""
        effect = self.findings.effects[1]
        levels = {panel[effect.axis] for panel in self.findings.panels if effect.axis in panel}
        if len(levels) <= 2:
            return ""
        names = f"{self.title(effect.base)} and {self.title(effect.other)}"
        return f"Of the {len(levels)} levels of {effect.axis}, two are compared: {names}."

    def with_panel(self, levels: Levels) -> str:
        """Return the beginning of a sentence about a panel."""
        return f"with {self.named(levels)}, " if levels and len(self.findings.panels) > 1 else ""

    def named(self, levels: Levels) -> str:
        """Return a panel in a sentence: `the conv stem`, `conv stem and small`; a name in a single word has no article."""
        titles = [self.title(level) for level in levels.values()]
        return f"the {titles[0]}" if len(titles) == 1 and " " in titles[0] else listed(titles)

    def _settings(self, estimates: Sequence[Estimate]) -> str:
        """Return the settings of estimates as text: the x values, by panel."""
        groups: dict[str, list[str]] = {}
        for estimate in estimates:
            names = [self.title(level) for axis, level in estimate.levels.items() if axis != self.spec.x]
            groups.setdefault(", ".join(names), []).append(self.format_x(float(estimate.levels[self.spec.x])))
        return "; ".join(f"{name}: {', '.join(xs)}" if name else ", ".join(xs) for name, xs in groups.items())


def _distinct_digits(values: Sequence[float]) -> int:
    """Return the number of significant digits, at least 3, that distinguishes the values."""
    return next((n for n in range(3, 17) if len({f"{value:.{n}g}" for value in values}) == len(set(values))), 17)
