"""Owns the words of a report: each sentence is computed, and says so when nothing can be told apart."""

import math
from collections.abc import Sequence

from recipes.reports.findings import Effect, Estimate, Findings, Levels
from recipes.reports.statistics import Interval, Saving
from recipes.run.runner import counted
from recipes.study.specification import Reading


class Words:
    """How a study's levels, axes and numbers are written, and the sentences made of them."""

    def __init__(self, findings: Findings) -> None:
        """Take the findings to put in words."""
        self.findings = findings
        self.reading: Reading = findings.reading
        self.is_share = all(0 < float(x) <= 1 for x in findings.over)

    def title(self, name: str) -> str:
        """Return the study's title of an axis or a level, or its name."""
        return str(self.reading.titles[name]) if name in self.reading.titles else name

    def panel(self, levels: Levels) -> str:
        """Return a panel's title: its levels, comma-separated."""
        return ", ".join(self.title(level) for level in levels.values())

    def over(self, x: float) -> str:
        """Return a point of the curve's axis: a share as per cent, two digits."""
        return f"{round(100 * x, 1 if x < 0.1 else 0):g}%" if self.is_share else f"{x:g}"

    def labels(self, x: str) -> str:
        """Return a level of the curve's axis with the images it stands for."""
        count = f" ({self.findings.labels[x]:,} images)" if x in self.findings.labels else ""
        return self.over(float(x)) + count

    def headline(self) -> str:
        """Return the answer in one line."""
        main = self.findings.main
        other, base, interval = self.title(main.other), self.title(main.base), main.pooled.interval
        if math.isnan(interval.mean):
            return "No pair of runs is done yet."
        if not interval.is_known:
            return f"One repeat only: {signed(interval.mean)} points for {other}, without an interval."
        if interval.sign == 0:
            return f"On average, {other} and {base} cannot be told apart."
        return f"On average, {other} {'beats' if interval.sign > 0 else 'loses to'} {base} by {points(interval.mean)}."

    def pooled(self, effect: Effect) -> str:
        """Return the sentence about an effect averaged over everything else."""
        interval = effect.pooled.interval
        if math.isnan(interval.mean):
            return "There is no complete pair of runs to average over."
        axes = [self.reading.over_name if axis == self.reading.over else axis for axis in effect.one_by_one[0].levels]
        complete = (
            "" if effect.settings_used == effect.settings_all else f" of {effect.settings_all}, the complete ones"
        )
        used, repeats = counted(effect.settings_used, "setting"), counted(interval.count, self.reading.repeats)
        size = f"{used}{complete}, {repeats}"
        start = f"Averaged over {' and '.join(axes)} ({size}), "
        other, base = self.title(effect.other), self.title(effect.base)
        metric = f"points of {self.reading.metric_name}"
        if interval.sign == 0:
            change = f"the difference of {other} and {base} is {signed(interval.mean)} {metric}"
            return f"{start}{change} ({within_95(interval)}): {verdict(interval)}."
        side = "above" if interval.sign > 0 else "below"
        return f"{start}{other} is {abs(interval.mean):.1f} {metric} {side} {base} ({within_95(interval)})."

    def one_by_one(self, effect: Effect) -> str:
        """Return the sentence about where an effect can be told from zero and where not."""
        known = [one for one in effect.one_by_one if one.interval.is_known]
        parts = []
        for sign, word in ((1, "above zero"), (-1, "below zero"), (0, "not distinguishable from zero")):
            group = [one for one in known if one.interval.sign == sign]
            if group:
                parts.append(f"{word} in {len(group)} of {len(known)} ({self._settings(group)})")
        return f"Setting by setting, the difference is {', '.join(parts)}." if parts else ""

    def saving(self, panel: Levels, saving: Saving) -> str:
        """Return "other with 25% of the labels equals base with 60%", or what can honestly be said instead."""
        main, first, last = self.findings.main, float(self.findings.over[0]), float(self.findings.over[-1])
        other, base = self.title(main.other), self.title(main.base)
        if saving.equal == math.inf:
            said = f"is above all that {base} reached with up to {self.over(last)}"
        elif saving.equal == -math.inf:
            said = f"is below {base} with {self.over(first)}, the fewest measured"
        else:
            said = f"equals {base} with {self.over(saving.equal)}"
        start = f"{other} with {self.over(saving.fraction)} of the labels"
        where = f"{capital(self.panel(panel))}: " if panel else ""
        return f"{where}{start} {said} ({self.saving_interval(saving)})."

    def equal(self, saving: Saving) -> str:
        """Return the share of labels that a saving is equal to, in short."""
        if math.isfinite(saving.equal):
            return self.over(saving.equal)
        first, last = (self.over(float(self.findings.over[end])) for end in (0, -1))
        return f"> {last}" if saving.equal > 0 else f"< {first}"

    def factor(self, saving: Saving) -> str:
        """Return how many times fewer (or more) labels a saving stands for, in short."""
        first, last = float(self.findings.over[0]), float(self.findings.over[-1])
        factor = min(max(saving.equal, first), last) / saving.fraction
        if math.isfinite(saving.equal):
            if 0.95 < factor < 1.05:
                return "as many"
            return f"{factor:.1f}× fewer" if factor > 1 else f"{1 / factor:.1f}× more"
        if factor == 1:  # at the end of the range: more (or less) than anything, and no number for it
            return "fewer" if saving.equal > 0 else "more"
        return f"> {factor:.1f}× fewer" if saving.equal > 0 else f"> {1 / factor:.1f}× more"

    def saving_interval(self, saving: Saving) -> str:
        """Return the interval of a saving in words."""
        if math.isnan(saving.low):
            return "no interval: too few repeats"
        if saving.low == -math.inf and saving.high == math.inf:
            return "95% interval: all that was measured, so nothing is told"
        return f"95% interval {self.bounds(saving)}"

    def bounds(self, saving: Saving) -> str:
        """Return the ends of a saving's interval, open where they leave the measured range."""
        first, last = (self.over(float(self.findings.over[end])) for end in (0, -1))
        if math.isnan(saving.low):
            return "–"
        if saving.low == math.inf or saving.high == -math.inf:
            return f"above {last}" if saving.low == math.inf else f"below {first}"
        low = f"below {first}" if saving.low == -math.inf else self.over(saving.low)
        return f"{low} to {f'above {last}' if saving.high == math.inf else self.over(saving.high)}"

    def best_saving(self, savings: Sequence[Saving]) -> Saving | None:
        """Return the saving worth telling: the fewest labels whose equal was measured, or else the fewest labels."""
        inside = [saving for saving in savings if math.isfinite(saving.equal)]
        return next(iter(inside or savings), None)

    def duel(self) -> str:
        """Return the sentence on which of the two compared axes matters more."""
        interval = self.findings.duel
        if interval is None:
            return ""
        main, second = (self.title(effect.axis) for effect in self.findings.effects[:2])
        if not interval.is_known:
            return f"One repeat only: which of {main} and {second} matters more cannot be told."
        if interval.sign == 0:
            sizes = f"the size of the one effect minus the other's is {signed(interval.mean)} points"
            return f"Whether {second} matters more than {main} cannot be told: {sizes} ({within_95(interval)})."
        larger, smaller = (second, main) if interval.sign > 0 else (main, second)
        size = f"its effect is {points(interval.mean)} larger ({within_95(interval, size=True)})"
        return f"{capital(larger)} matters more than {smaller}: {size}."

    def _settings(self, estimates: Sequence[Estimate]) -> str:
        """Return the levels of some estimates in words: by panel, the points of the curve's axis."""
        groups: dict[str, list[str]] = {}
        for one in estimates:
            names = [self.title(level) for axis, level in one.levels.items() if axis != self.reading.over]
            groups.setdefault(", ".join(names), []).append(self.over(float(one.levels[self.reading.over])))
        return "; ".join(f"{name}: {', '.join(xs)}" if name else ", ".join(xs) for name, xs in groups.items())


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def points(value: float) -> str:
    """Return the size of a difference in points."""
    return f"{abs(value):.1f} points"


def within_95(interval: Interval, size: bool = False) -> str:
    """Return an interval in words; `size` turns it to the direction of its mean."""
    if not interval.is_known:
        return "no interval: one repeat" if interval.count else "no pair of runs is done"
    low, high = (interval.low, interval.high) if not size or interval.mean > 0 else (-interval.high, -interval.low)
    digits = 1 if all(abs(bound) >= 0.05 or bound == 0 for bound in (low, high)) else 2
    if size:
        return f"95% interval {low:.{digits}f} to {high:.{digits}f}"
    return f"95% interval {signed(low, digits)} to {signed(high, digits)}"


def crash_kind(kind: str) -> str:
    """Return the kind of a crash as people write it."""
    return kind.replace("non_finite", "non-finite").replace("_", " ")


def listed(items: Sequence[str]) -> str:
    """Return items as people list them: `a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(items[:-1])] if len(items) > 1 else []), *items[-1:]])


def verdict(interval: Interval) -> str:
    """Return what an interval says about zero."""
    if not interval.is_known:
        return "nothing can be told from one repeat" if interval.count else "not measured"
    return {1: "above zero", -1: "below zero", 0: "not distinguishable from zero"}[interval.sign]


def mean_and_half(interval: Interval, digits: int = 1) -> str:
    """Return `97.1 ± 0.6` for a table; a dash where nothing is measured."""
    if math.isnan(interval.mean):
        return "–"
    half = f" ± {interval.half_width:.{digits}f}" if interval.is_known else ""
    return f"{interval.mean:.{digits}f}".replace("-", "−") + half


def capital(text: str) -> str:
    """Return `text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
