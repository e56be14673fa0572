"""Wording of the declared claims of a comparison, and of what would settle them."""

import math
from collections.abc import Iterator

from recipes.reports.claims import Claim, NextStep, Outcome, next_step
from recipes.reports.comparison_words import MOST_PANELS, Words
from recipes.reports.formatting import capital, listed, p_text, signed
from recipes.reports.statistics import MIN_SEEDS
from recipes.run.runner import pluralize

_TESTED = (Outcome.BETTER, Outcome.WORSE, Outcome.EQUIVALENT, Outcome.INCONCLUSIVE)
"""Outcomes of which the p-value is stated."""


class ClaimWords(Words):
    """The sentences on the declared claims."""

    def headline(self) -> str:
        """Return the answer in one line: the outcome of the first claim."""
        claim, main = self.findings.claims[0], self.findings.main
        other, base = self.title(main.other), self.title(main.base)
        start, found = self.with_panel(claim.levels), claim.interval
        repeats = self.spec.repeats
        match claim.outcome:
            case Outcome.MISSING:
                return "No pair of runs is complete yet."
            case Outcome.INCOMPLETE:
                missing = self.findings.missing
                return f"Incomplete: {pluralize(missing, 'result')} {'is' if missing == 1 else 'are'} missing."
            case Outcome.FEW_SEEDS:
                return f"Too few {repeats}s for an answer: {pluralize(found.count, repeats)}, at least {MIN_SEEDS} are needed."
            case Outcome.DEPENDS_ON_DIVERGED:
                return capital(f"{start}whether {other} or {base} is better depends on the runs that diverged.")
            case Outcome.EQUIVALENT:
                return capital(f"{start}{other} and {base} are equivalent within {self._margin()}.")
            case Outcome.BETTER | Outcome.WORSE:
                verb = "outperforms" if claim.outcome is Outcome.BETTER else "underperforms"
                return capital(f"{start}{other} {verb} {base} by {self.points(found.mean)}.")
        return capital(f"{start}{other} and {base} do not differ significantly.")

    def claim(self, claim: Claim) -> str:
        """Return the sentence about a claim of a difference: its estimate, interval and adjusted p-value."""
        found, main, second = claim.interval, self.findings.main, self.findings.effects[-1]
        if claim.name == "alternative":
            second = self.findings.effects[1]
            other = f"{self.title(second.other)} with {self.title(main.base)}"
            start = f"{other} compared with {self.title(second.base)} with {self.title(main.other)}"
        else:
            start = f"{self.with_panel(claim.levels)}{self.title(main.other)} compared with {self.title(main.base)}"
        if math.isnan(found.mean):
            all_diverged = claim.outcome is Outcome.DEPENDS_ON_DIVERGED
            return capital(f"{start}: {'all runs of a cell diverged' if all_diverged else 'not measured yet'}.")
        amounts = len(self.findings.x)
        where = f"averaged over {amounts} amounts of labels" if amounts > 1 else self.labels(self.findings.x[0])
        if claim.name == "saving":
            where = f"with {self.labels(self.findings.saving_x)}"
        numbers = f"{self.change(found.mean)} ({self.confidence(found)}{self._adjusted(claim)})"
        return capital(f"{start}, {where}: {numbers}, {self.outcome(claim)}.{self._with_chance(claim)}")

    def outcome(self, claim: Claim) -> str:
        """Return the outcome of a claim as the end of a sentence."""
        repeats = self.spec.repeats
        return {
            Outcome.BETTER: "a significant difference",
            Outcome.WORSE: "a significant difference",
            Outcome.EQUIVALENT: f"equivalent within {self._margin() if self.metric.margin else ''}",
            Outcome.INCONCLUSIVE: "which is inconclusive",
            Outcome.FEW_SEEDS: f"which is inconclusive with fewer than {MIN_SEEDS} {repeats}s",
            Outcome.DEPENDS_ON_DIVERGED: "which depends on how diverged runs are counted",
            Outcome.INCOMPLETE: "from an incomplete study",
            Outcome.MISSING: "not measured",
        }[claim.outcome]

    def reason_of_panel(self) -> str:
        """Return why the first claim is about its panel."""
        panel = self.findings.claims[0].levels
        if not panel or len(self.findings.panels) < 2:
            return ""
        name = self.panel(panel)
        if self.findings.choices is not None:
            return f"The {name} is the one that the validation images of the tuning {self.spec.repeats}s prefer."
        return f"The {name} is the study's first: without tuning runs, no validation images choose one."

    def interaction(self) -> str:
        """Return whether the main effect depends on the second axis, with the effect by panel or on average."""
        found, main = self.findings.interaction, self.findings.main
        if found is None or math.isnan(found.mean):
            return ""
        title, second, digits = self.title(main.axis), self.findings.effects[1], self.metric.digits
        ends = f"between {self.title(second.base)} and {self.title(second.other)}"
        difference = f"{self.change(found.mean)} ({self.confidence(found)})"
        by_panel = [
            f"{self.panel(each.levels)} {signed(each.interval.mean, digits)} ({self.confidence(each.interval)})"
            for each in main.by_panel
            if not math.isnan(each.interval.mean)
        ]
        own = listed(by_panel) if len(by_panel) <= MOST_PANELS else "the tables give it for each"
        if found.sign:
            return f"The effect of {title} differs {ends} by {difference}: {own}. An average over both would hide that."
        if found.count < MIN_SEEDS:
            return f"The effect of {title} by {self.title(second.axis)}: {own}." if by_panel else ""
        pooled = main.pooled.interval
        average = f"On average it is {self.change(pooled.mean)} ({self.confidence(pooled)})."
        return f"The effect of {title} does not differ significantly {ends}, by {difference}: {own}. {average}"

    def next_steps(self) -> Iterator[str]:
        """Yield what would settle each open claim."""
        for claim in self.findings.claims:
            step = next_step(claim, self.metric.margin)
            if step is not None:
                yield f"What next: {self._step(claim, step)}."

    def _step(self, claim: Claim, step: NextStep) -> str:
        """Return what would settle a claim."""
        main, repeats = self.title(self.findings.main.axis), self.spec.repeats
        name = f"the effect of {main}"
        if claim.name == "saving":
            name = "the labels saved"
        if claim.name == "alternative":
            name = f"{self.title(self.findings.effects[1].axis)} against {main}"
        ways = []
        if step.seeds is not None:
            more = step.seeds - claim.interval.count
            ways.append(f"{more} more {repeats}{'' if more == 1 else 's'}")
        if step.images is not None:
            ways.append(f"{step.images:,} test images instead of {claim.interval.images:,}")
        condition = "if the estimate stays as it is"
        if not ways:
            return f"neither 100 {repeats}s nor 100 times as many test images would settle {name} {condition}"
        return f"about {' or '.join(ways)} would settle {name} {condition}"

    def _adjusted(self, claim: Claim) -> str:
        """Return the adjusted p-value of a claim that is tested."""
        return f"; adjusted {p_text(claim.p_value)}" if claim.outcome in _TESTED else ""

    def _with_chance(self, claim: Claim) -> str:
        """Return the estimate of a claim with diverged runs counted as chance level, if there are any."""
        if claim.with_chance is None:
            return ""
        return f" Diverged runs are excluded; counted as chance level: {self.change(claim.with_chance)}."

    def _margin(self) -> str:
        """Return the margin of equivalence as text."""
        return self.points(self.metric.margin or 0.0).replace("1.0 point", "1 point")
