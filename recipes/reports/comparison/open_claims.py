"""Wording of what is open in a comparison: why a claim is not settled, and what would settle it at which cost."""

import math
from dataclasses import dataclass

from recipes.reports.comparison.claims import Claim, Outcome, next_step
from recipes.reports.comparison.decision import SETTLED
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.start_words import STARTS
from recipes.reports.formatting import signed_distinctly
from recipes.reports.statistics import MIN_SEEDS
from recipes.run.runner import format_duration, pluralize

UNCHANGED = "if the estimate holds"
"""Condition under which a number of seeds or test images settles a claim."""


@dataclass(frozen=True)
class SeedCost:
    """What one more seed costs: the runs, and their seconds one after the other."""

    runs: int
    seconds: float

    def text(self, seeds: int) -> str:
        """Return the cost of so many more seeds, in parentheses; empty if nothing was measured."""
        if not self.runs or not self.seconds > 0:
            return ""
        return f" ({pluralize(seeds * self.runs, 'run')}, about {format_duration(seeds * self.seconds)})"


class OpenClaims:
    """What is open in a comparison, in words."""

    def __init__(self, words: ComparisonWords, seed: SeedCost) -> None:
        """Take the wording of the findings, and the cost of a seed."""
        self.words, self.findings, self.seed = words, words.findings, seed
        self.claims = {claim.name: claim for claim in self.findings.claims}
        self.doubtful = [claim.name for claim in self.findings.claims if words.doubt(claim)]

    def note(self, claim: Claim) -> str:
        """Return what would settle a claim, or why its outcome counts for little; empty if it is settled."""
        if claim.name in self.doubtful:
            return self.words.collapsed(claim)
        if claim.outcome is Outcome.FEW_SEEDS and claim.interval.count:
            return self._more_seeds(MIN_SEEDS - claim.interval.count) + " at least"
        ways = self._ways(claim)
        return f"about {ways[0]} would settle it {UNCHANGED}" if ways else ""

    def _what_is_open(self, claim: Claim) -> str:
        """Return why a claim supports no recommendation, and the cheapest way to one."""
        words, repeats = self.words, self.findings.spec.repeats
        if claim.name in self.doubtful and claim.outcome in (*SETTLED, Outcome.INCONCLUSIVE):
            return f"{words.collapsed(claim)}, so that the comparison says little about others; make them stable first"
        match claim.outcome:
            case Outcome.MISSING | Outcome.INCOMPLETE:
                if all(math.isnan(each.interval.mean) for each in self.findings.main.by_setting):
                    return "no pair of runs is complete"
                is_over = 0 < self.findings.missing == self.findings.without_metric
                return f"{words.missing()}; {'the warning names them' if is_over else 'resume the study'}"
            case Outcome.FEW_SEEDS:
                count = claim.interval.count
                few = f"{pluralize(count, repeats)} {'is' if count == 1 else 'are'} too few"
                return f"{few}, at least {MIN_SEEDS} are needed; add {self._more_seeds(MIN_SEEDS - count)}"
            case Outcome.ALL_DIVERGED:
                return f"{words.all_diverged(claim)}; make them converge first"
            case Outcome.DEPENDS_ON_DIVERGED:
                return f"{self._question(claim)} depends on the runs that diverged; make them converge first"
        ways = self._ways(claim)
        if ways:
            return f"about {ways[0]} would settle {self._question(claim)}, {UNCHANGED}{self._likely(claim)}"
        return f"{self._question(claim)} is open ({self._difference(claim)})"

    def _likely(self, claim: Claim) -> str:
        """Return how a claim would be settled whose estimate is too small to be a difference."""
        margin = self.findings.metric.margin
        is_small = margin is not None and abs(claim.interval.mean) < margin
        return f" (as a difference within {self.words.margin()})" if is_small else ""

    def _ways(self, claim: Claim) -> list[str]:
        """Return the ways to settle an inconclusive claim, seeds first: their cost is known."""
        step = next_step(claim, self.findings.metric.margin, claims=len(self.findings.claims))
        if step is None:
            return []
        seeds = [self._more_seeds(step.seeds - claim.interval.count)] if step.seeds is not None else []
        found = claim.interval.images
        return seeds + ([f"{step.images:,} test images instead of {found:,}"] if step.images is not None else [])

    def _more_seeds(self, count: int) -> str:
        """Return a number of additional seeds with their cost."""
        return pluralize(count, f"more {self.findings.spec.repeats}") + self.seed.text(count)

    def _question(self, claim: Claim, *, panel: bool = True) -> str:
        """Return what a claim of the main axis asks, as a subordinate clause."""
        if claim.name in STARTS:
            base, other = self.words.sides(claim)
            return f"whether {other} is better than {base}"
        main = self.findings.main
        where = f" {self.words.with_panel(claim.levels)}".removesuffix(", ").rstrip() if panel else ""
        return f"whether {self.words.title(main.other)} is better than {self.words.title(main.base)}{where}"

    def _difference(self, claim: Claim) -> str:
        """Return the difference of a claim with its bounds."""
        found, digits = claim.interval, self.findings.metric.digits
        bounds = self.words.confidence(found).removeprefix("95% CI ")
        return f"{signed_distinctly(found.mean, digits)} {self.words.unit(found.mean)}, {bounds}"
