"""Wording of a comparison: every sentence is computed from the findings, and states when a difference is not significant."""

import math
from collections.abc import Sequence

from recipes.reports.comparison_findings import Effect, Estimate, Findings, Levels
from recipes.reports.statistics import Interval, Saving
from recipes.run.runner import pluralize
from recipes.study.specification import ReportSpec


class Words:
    """Formatting of the levels, axes and numbers of a study, and the sentences built from them."""

    def __init__(self, findings: Findings) -> None:
        """Take the findings to describe."""
        self.findings = findings
        self.spec: ReportSpec = findings.spec
        self.is_fraction = all(0 < float(x) <= 1 for x in findings.x)

    def title(self, name: str) -> str:
        """Return the title that the study gives to an axis or a level, or its name."""
        return str(self.spec.titles[name]) if name in self.spec.titles else name

    def panel(self, levels: Levels) -> str:
        """Return a panel's title: its levels, comma-separated."""
        return ", ".join(self.title(level) for level in levels.values())

    def format_x(self, x: float) -> str:
        """Return an x as text; a fraction in percent, with two digits."""
        return f"{round(100 * x, 1 if x < 0.1 else 0):g}%" if self.is_fraction else f"{x:g}"

    def labels(self, x: str) -> str:
        """Return a level of the x axis with its number of images."""
        count = f" ({self.findings.labels[x]:,} images)" if x in self.findings.labels else ""
        return self.format_x(float(x)) + count

    def headline(self) -> str:
        """Return the answer in one line."""
        main = self.findings.main
        other, base, interval = self.title(main.other), self.title(main.base), main.pooled.interval
        if math.isnan(interval.mean):
            return "No pair of runs is complete yet."
        if not interval.is_known:
            return f"Only one repeat: {signed(interval.mean)} points for {other}, without a confidence interval."
        if interval.sign == 0:
            return f"On average, {other} and {base} do not differ significantly."
        return f"On average, {other} {'outperforms' if interval.sign > 0 else 'underperforms'} {base} by {points(interval.mean)}."

    def pooled(self, effect: Effect) -> str:
        """Return the sentence about an effect averaged over all other axes."""
        interval = effect.pooled.interval
        if math.isnan(interval.mean):
            return "There is no complete pair of runs to average."
        axes = [self.spec.x_name if axis == self.spec.x else axis for axis in effect.by_setting[0].levels]
        complete = "" if effect.settings_used == effect.settings_all else f"{effect.settings_used} complete of "
        settings, repeats = pluralize(effect.settings_all, "setting"), pluralize(interval.count, self.spec.repeats)
        size = f"{complete}{settings}, {repeats}"
        start = f"Averaged over {' and '.join(axes)} ({size}), "
        other, base = self.title(effect.other), self.title(effect.base)
        metric = f"points of {self.spec.metric_name}"
        if interval.sign == 0:
            change = f"the difference between {other} and {base} is {signed(interval.mean)} {metric}"
            result = "not significantly different from zero" if interval.is_known else "inconclusive"
            return f"{start}{change} ({within_95(interval)}), which is {result}."
        side = "above" if interval.sign > 0 else "below"
        return f"{start}{other} is {abs(interval.mean):.1f} {metric} {side} {base} ({within_95(interval)})."

    def by_setting(self, effect: Effect) -> str:
        """Return the sentence about the settings in which an effect differs significantly from zero."""
        known = [estimate for estimate in effect.by_setting if estimate.interval.is_known]
        parts = []
        for sign, word in (
            (1, "significantly above zero"),
            (-1, "significantly below zero"),
            (0, "not significantly different from zero"),
        ):
            group = [estimate for estimate in known if estimate.interval.sign == sign]
            if group:
                parts.append(f"{word} in {len(group)} of {len(known)} ({self._settings(group)})")
        return f"In individual settings, the difference is {listed(parts)}." if parts else ""

    def saving(self, panel: Levels, saving: Saving) -> str:
        """Return "other with 25% of the labels matches base with 60%", or on which side of the measured range the match is."""
        main, first, last = self.findings.main, float(self.findings.x[0]), float(self.findings.x[-1])
        other, base = self.title(main.other), self.title(main.base)
        if saving.equal == math.inf:
            result = f"exceeds {base} at every measured amount, up to {self.format_x(last)}"
        elif saving.equal == -math.inf:
            result = f"is below {base} with {self.format_x(first)}, the smallest measured amount"
        else:
            result = f"matches {base} with {self.format_x(saving.equal)}"
        start = f"{other} with {self.format_x(saving.fraction)} of the labels"
        prefix = f"{capital(self.panel(panel))}: " if panel else ""
        return f"{prefix}{start} {result} ({self.saving_interval(saving)})."

    def equal(self, saving: Saving) -> str:
        """Return the matching fraction of labels of a saving, in short form."""
        if math.isfinite(saving.equal):
            return self.format_x(saving.equal)
        first, last = (self.format_x(float(self.findings.x[end])) for end in (0, -1))
        return f"> {last}" if saving.equal > 0 else f"< {first}"

    def factor(self, saving: Saving) -> str:
        """Return how many times fewer (or more) labels a saving means, in short form."""
        first, last = float(self.findings.x[0]), float(self.findings.x[-1])
        factor = min(max(saving.equal, first), last) / saving.fraction
        if math.isfinite(saving.equal):
            if 0.95 < factor < 1.05:
                return "as many"
            return f"{factor:.1f}× fewer" if factor > 1 else f"{1 / factor:.1f}× more"
        if factor == 1:  # at the end of the range: beyond everything measured, so there is no number
            return "fewer" if saving.equal > 0 else "more"
        return f"> {factor:.1f}× fewer" if saving.equal > 0 else f"> {1 / factor:.1f}× more"

    def saving_interval(self, saving: Saving) -> str:
        """Return the interval of a saving as text."""
        if math.isnan(saving.low):
            return "no interval: too few repeats"
        if saving.low == -math.inf and saving.high == math.inf:
            return "95% CI: the entire measured range, so it is inconclusive"
        return f"95% CI {self.bounds(saving)}"

    def bounds(self, saving: Saving) -> str:
        """Return the bounds of a saving's interval, open where they leave the measured range."""
        first, last = (self.format_x(float(self.findings.x[end])) for end in (0, -1))
        if math.isnan(saving.low):
            return "–"
        if saving.low == math.inf or saving.high == -math.inf:
            return f"above {last}" if saving.low == math.inf else f"below {first}"
        low = f"below {first}" if saving.low == -math.inf else self.format_x(saving.low)
        return f"{low} to {f'above {last}' if saving.high == math.inf else self.format_x(saving.high)}"

    def best_saving(self, savings: Sequence[Saving]) -> Saving | None:
        """Return the saving to report: at the fewest labels with a match in the measured range, otherwise at the fewest labels."""
        matched = [saving for saving in savings if math.isfinite(saving.equal)]
        return next(iter(matched or savings), None)

    def effects_comparison(self) -> str:
        """Return the sentence on which of the two compared axes has the larger effect."""
        interval = self.findings.effects_comparison
        if interval is None:
            return ""
        main, second = (self.title(effect.axis) for effect in self.findings.effects[:2])
        if not interval.is_known:
            return f"Only one repeat: whether {main} or {second} has the larger effect is inconclusive."
        if interval.sign == 0:
            change = f"the difference in effect size is {signed(interval.mean)} points"
            return (
                f"Whether {second} has a larger effect than {main} is inconclusive: {change} ({within_95(interval)})."
            )
        larger, smaller = (second, main) if interval.sign > 0 else (main, second)
        return (
            f"{capital(larger)} has a larger effect than {smaller}, by {points(interval.mean)} "
            f"({within_95(interval, size=True)})."
        )

    def _settings(self, estimates: Sequence[Estimate]) -> str:
        """Return the settings of estimates as text: the x values, by panel."""
        groups: dict[str, list[str]] = {}
        for estimate in estimates:
            names = [self.title(level) for axis, level in estimate.levels.items() if axis != self.spec.x]
            groups.setdefault(", ".join(names), []).append(self.format_x(float(estimate.levels[self.spec.x])))
        return "; ".join(f"{name}: {', '.join(xs)}" if name else ", ".join(xs) for name, xs in groups.items())


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign, using the typographic minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def points(value: float) -> str:
    """Return the absolute value of a difference in points."""
    return f"{abs(value):.1f} points"


def within_95(interval: Interval, size: bool = False) -> str:
    """Return an interval as text; `size` flips it so that its mean is positive."""
    if not interval.is_known:
        return "no interval: one repeat" if interval.count else "no pair of runs is complete"
    low, high = (interval.low, interval.high) if not size or interval.mean > 0 else (-interval.high, -interval.low)
    digits = 1 if all(abs(bound) >= 0.05 or bound == 0 for bound in (low, high)) else 2
    if size:
        return f"95% CI {low:.{digits}f} to {high:.{digits}f}"
    return f"95% CI {signed(low, digits)} to {signed(high, digits)}"


def crash_kind(kind: str) -> str:
    """Return the kind of a crash in readable form."""
    return kind.replace("non_finite", "non-finite").replace("_", " ")


def listed(items: Sequence[str]) -> str:
    """Return items as an enumeration: `a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(items[:-1])] if len(items) > 1 else []), *items[-1:]])


def conclusion(interval: Interval) -> str:
    """Return whether an interval differs significantly from zero, as text."""
    if not interval.is_known:
        return "inconclusive (one repeat)" if interval.count else "not measured"
    return {1: "significantly above zero", -1: "significantly below zero", 0: "not significant"}[interval.sign]


def mean_and_half(interval: Interval, digits: int = 1) -> str:
    """Return `97.1 ± 0.6` for a table; a dash if nothing is measured."""
    if math.isnan(interval.mean):
        return "–"
    half = f" ± {interval.half_width:.{digits}f}" if interval.is_known else ""
    return f"{interval.mean:.{digits}f}".replace("-", "−") + half


def capital(text: str) -> str:
    """Return `text` with its first letter capitalized."""
    return text[:1].upper() + text[1:]
