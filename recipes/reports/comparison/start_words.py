"""Wording of further starts (`report.starts`): their names, what they are compared with, and what no cost here includes."""

from recipes.reports.comparison.claims import Claim
from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.start_decision import is_beaten
from recipes.reports.comparison.starts import Chosen
from recipes.reports.comparison.words import Words
from recipes.reports.formatting import listed

STARTS = ("start", "continued")
"""Names of the claims on further starts."""


class StartWords(Words):
    """The sentences on further starts."""

    def arm(self, levels: Levels) -> str:
        """Return an arm, its panel first: `conv stem, two-stage training (TST)`."""
        main = self.findings.main.axis
        panel = {axis: level for axis, level in levels.items() if axis not in (main, self.spec.x)}
        return self.panel({**panel, main: levels[main]} if len(self.findings.panels) > 1 else {main: levels[main]})

    def sides(self, claim: Claim) -> tuple[str, str]:
        """Return what a claim across panels compares, (base, other), each as a noun: arms of two panels, or starts."""
        starts, main = self.findings.starts, self.findings.main.axis
        if claim.name == "alternative":
            first, second = self.findings.effects[:2]
            pairs = ((second.base, first.other), (second.other, first.base))
            of_base, of_other = (" with ".join(map(self.title, pair)) for pair in pairs)
            return of_base, of_other
        assert starts is not None
        base, other = starts.pairs[claim.name]
        of_base = self.scratch() if claim.name == "start" else f"starting from {self.title(base[main])}"
        return of_base, f"starting from {self.title(other[main])}"

    def scratch(self) -> str:
        """Return the training from scratch that the first start is compared with; the best one, unless a claim says otherwise."""
        starts, claims = self.findings.starts, self.findings.claims
        assert starts is not None
        compare = {effect.axis: (effect.base, effect.other) for effect in self.findings.effects}
        kind = "best training from scratch"
        if is_beaten(starts.scratch, claims, compare):
            kind = "training from scratch that validation images prefer"
        return f"the {kind} ({self.arm(starts.scratch)})"

    def reason_of_scratch(self) -> str:
        """Return how the best training from scratch was chosen; empty without further starts."""
        starts = self.findings.starts
        if starts is None:
            return ""
        reasons = {
            Chosen.BY_TUNING: f"the tuning runs' validation images prefer it; their {self.spec.repeats}s are not reported",
            Chosen.BY_RUNS: f"its runs have the best mean {starts.metric}, over the validation images",
            Chosen.BY_ORDER: f"it is the study's first, since no run has {starts.metric}",
        }
        end = "" if starts.chosen is Chosen.BY_ORDER else "; test images do not choose it"
        arm = self.arm(starts.scratch)
        return f"The training from scratch that a start is compared with is {arm}: {reasons[starts.chosen]}{end}."

    def uncounted(self) -> str:
        """Return what is not known and not counted about weights that others trained; empty without further starts."""
        starts = self.findings.starts
        if starts is None:
            return ""
        main, repeats = self.findings.main.axis, self.spec.repeats
        names = [self.title(arm[main]) for arm in starts.arms]
        return (
            f"The training of the weights that {listed(names)} begin with is not part of any budget or cost here. Whether it"
            " has seen images like these, or the test images themselves, is not known."
            f" All {repeats}s begin with the same weights: the"
            " intervals are for these weights alone."
        )
