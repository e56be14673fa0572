"""Wording of label savings."""

import math

from recipes.reports.claim_words import ClaimWords
from recipes.reports.claims import Outcome
from recipes.reports.estimator import Levels
from recipes.reports.formatting import capital
from recipes.reports.label_savings import Saving


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
            return capital(
                f"{start}: no label saving is stated, since there are too few {self.spec.repeats}s for an interval."
            )
        if self._is_adjusted_away(panel, saving):
            return capital(
                f"{start}: no number is stated, since the saving is not significant among all declared claims."
            )
        if saving.is_bounded:
            interval = f"95% CI {self.amount(saving.low)} to {self.amount(saving.high)}"
            end = "" if saving.sign else ", which is no significant saving"
            return capital(
                f"{start} matches {base} with {self.amount(saving.equal)} ({interval}){self._saved(saving)}{end}."
            )
        return capital(f"{start}: {self._open_saving(saving, base)}, so no number is stated.")

    def _is_adjusted_away(self, panel: Levels, saving: Saving) -> bool:
        """Return whether a declared saving is significant on its own, but not after the adjustment for all claims."""
        claims = [claim for claim in self.findings.claims if claim.name == "saving" and claim.levels == panel]
        return bool(saving.sign) and any(claim.outcome not in (Outcome.BETTER, Outcome.WORSE) for claim in claims)

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
        if saving.sign > 0:
            return (
                f"it needs significantly fewer labels than {base}, but the match may be above {last}, the most measured"
            )
        if saving.sign < 0:
            return f"it needs significantly more labels than {base}, but the match may be below {first}, the fewest measured"
        leaves = f"the interval leaves the measured range ({first} to {last})"
        return f"whether it saves labels compared with {base} is inconclusive: {leaves}"

    def _why_no_saving(self, panel: Levels) -> str:
        """Return why there is no saving in a panel."""
        main, x = self.findings.main, self.findings.saving_x
        values = self.findings.values
        for name in (main.other, main.base):
            levels = {**panel, main.axis: name, self.spec.x: x}
            if values.cell(levels) is None:
                diverged = values.diverged.get(values.key(levels))
                return f"{self.title(name)} has no result there" + (" (all of its runs diverged)" if diverged else "")
        return f"{self.title(main.base)} has results at one amount alone"

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

    def saving_conclusion(self, saving: Saving) -> str:
        """Return the conclusion of a saving."""
        if math.isnan(saving.low):
            return "inconclusive: too few repeats"
        return {1: "needs fewer labels", -1: "needs more labels", 0: "no significant saving"}[saving.sign]
