"""Wording of label savings."""

import math

from recipes.reports.comparison.claim_words import ClaimWords
from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.label_savings import Saving
from recipes.reports.formatting import capital
from recipes.reports.statistics import MIN_SEEDS


class ComparisonWords(ClaimWords):
    """All sentences of a comparison: those on label savings, beside those on claims and effects."""

    def saving(self, panel: Levels, saving: Saving | None) -> str:
        """Return how many labels the other arm saves in a panel; no number unless its interval is within the measured range."""
        main, x = self.findings.main, self.findings.saving_x
        other, base = self.title(main.other), self.title(main.base)
        start = f"{self.with_panel(panel)}{other} with {self.labels(x)}"
        if saving is None:
            return capital(f"{start}: label savings are not measured, because {self._why_no_saving(panel)}.")
        if math.isnan(saving.low):
            return capital(f"{start}: no label saving is stated, since there is no interval.")
        if why := self._why_no_number(panel, saving):
            return capital(f"{start}: no number of saved labels is stated, since {why}.")
        if saving.is_bounded:
            interval = f"95% CI {self.amount(saving.low)} to {self.amount(saving.high)}"
            end = "" if saving.sign else ", which is no significant saving"
            return capital(
                f"{start} matches {base} with {self.amount(saving.equal)} ({interval}){self._saved(saving)}{end}."
            )
        return capital(f"{start}: {self._open_saving(saving, base)}, so no number of saved labels is stated.")

    def saving_claim(self, panel: Levels) -> Claim | None:
        """Return the claim about a panel's saving: the declared one, or what it would be in a panel where it is not declared."""
        claims = (*self.findings.claims, *self.findings.explored)
        return next((claim for claim in claims if claim.name == "saving" and claim.levels == panel), None)

    def _why_no_number(self, panel: Levels, saving: Saving) -> str:
        """Return why the number of a saving, although significant on its own, is not stated; empty if it is."""
        claim = self.saving_claim(panel)
        if claim is None or not saving.sign or claim.outcome in (Outcome.BETTER, Outcome.WORSE):
            return ""
        return {
            Outcome.EQUIVALENT: f"the two are equivalent within {self.margin()} there",
            Outcome.FEW_SEEDS: f"there are fewer than {MIN_SEEDS} {self.spec.repeats}s",
            Outcome.INCOMPLETE: "results are missing there",
            Outcome.DEPENDS_ON_DIVERGED: "the difference there depends on how diverged runs are counted",
        }.get(claim.outcome, f"the difference there is not significant{self._among(claim)}")

    def _among(self, claim: Claim) -> str:
        """Return among what a claim is not significant: of the declared ones, all of them."""
        return " among all declared claims" if claim in self.findings.claims else ""

    def _saved(self, saving: Saving) -> str:
        """Return how many labels are saved, where they are counted and the saving is significant."""
        if not self.counts_labels or not saving.sign:
            return ""
        kind = "fewer" if saving.sign > 0 else "more"
        ends = sorted(abs(end - saving.labels) for end in (saving.low, saving.high))
        return f": {abs(saving.equal - saving.labels):,.0f} {kind} labels ({ends[0]:,.0f} to {ends[1]:,.0f})"

    def _open_saving(self, saving: Saving, base: str) -> str:
        """Return on which side of the measured range a saving without a number is."""
        first, last = map(self.amount, saving.measured)
        same = f"for the same {self.spec.metric_name}"
        if saving.sign > 0:
            bound = f"more than {last}" if math.isinf(saving.low) else f"at least {self.amount(saving.low)}"
            return f"{base} needs significantly more labels {same}, {bound}, and {last} are the most measured"
        if saving.sign < 0:
            bound = f"fewer than {first}" if math.isinf(saving.high) else f"at most {self.amount(saving.high)}"
            return f"{base} needs significantly fewer labels {same}, {bound}, and {first} are the fewest measured"
        leaves = f"the interval leaves the measured range ({first} to {last})"
        return f"whether it saves labels compared with {base} is inconclusive: {leaves}"

    def _why_no_saving(self, panel: Levels) -> str:
        """Return why there is no saving in a panel."""
        main, x = self.findings.main, self.findings.saving_x
        values = self.findings.values
        for name in (main.other, main.base):
            levels = {**panel, main.axis: name, self.spec.x: x}
            if values.cell(levels) is None:
                key = values.key(levels)
                all_diverged = len(values.diverged.get(key, ())) == len(values.planned[key])
                return f"{self.title(name)} has no result there" + (
                    " (all of its runs diverged)" if all_diverged else ""
                )
        if not self.counts_labels and min(map(float, self.findings.x)) <= 0:
            return "the numbers of labels are not known"
        return f"{self.title(main.base)} has results at only one amount"

    def short_saving(self, saving: Saving) -> str:
        """Return a saving in short form for a card or a table: `264 labels`, or that there is no number."""
        return self.amount(saving.equal) if saving.is_bounded else "no number"

    def saving_bounds(self, saving: Saving) -> str:
        """Return the bounds of a saving's interval, open where they leave the measured range."""
        if math.isnan(saving.low):
            return "–"
        first, last = map(self.amount, saving.measured)
        low = (
            f"below {first}"
            if saving.low == -math.inf
            else f"above {last}"
            if saving.low == math.inf
            else self.amount(saving.low)
        )
        high = (
            f"above {last}"
            if saving.high == math.inf
            else f"below {first}"
            if saving.high == -math.inf
            else self.amount(saving.high)
        )
        return low if low == high else f"{low} to {high}"

    def saving_conclusion(self, panel: Levels, saving: Saving) -> str:
        """Return the conclusion of a panel's saving: that of its claim where that is not settled."""
        claim = self.saving_claim(panel)
        if claim is not None and saving.sign and claim.outcome not in (Outcome.BETTER, Outcome.WORSE):
            return claim.outcome.value
        if math.isnan(saving.low):
            return "inconclusive: no interval"
        return {1: "needs fewer labels", -1: "needs more labels", 0: "inconclusive"}[saving.sign]
