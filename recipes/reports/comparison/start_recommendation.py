"""Recommendation of a comparison with further starts (`report.starts`): which start to use, then what holds from scratch."""

from collections.abc import Callable

from recipes.reports.comparison.claims import Outcome
from recipes.reports.comparison.decision import STRICT
from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.open_claims import UNCHANGED, SeedCost
from recipes.reports.comparison.recommendation import OPEN, Recommendation, Simpler
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.start_decision import Use, decide_start, is_beaten, settled_outcome
from recipes.reports.comparison.start_words import STARTS
from recipes.reports.formatting import capital
from recipes.run.runner import format_duration

Seconds = Callable[[Levels], float | None]
"""Arm -> seconds of one run in all of its stages, None where that is not known."""


class StartRecommendation(Recommendation):
    """The recommendation of a comparison with further starts, in words."""

    def __init__(self, words: ComparisonWords, seed: SeedCost, simpler: Simpler | None, seconds: Seconds) -> None:
        """Take what `Recommendation` takes, and what a run of each arm costs."""
        super().__init__(words, seed, simpler)
        self.seconds = seconds
        starts, claims = self.findings.starts, self.findings.claims
        assert starts is not None
        compare = {effect.axis: (effect.base, effect.other) for effect in self.findings.effects}
        self.is_beaten = is_beaten(starts.scratch, claims, compare, self.doubtful)
        self.use = decide_start(claims, self.doubtful, is_beaten=self.is_beaten)

    def sentence(self) -> str:
        """Return which start to use, in one sentence."""
        text = {
            Use.OPEN: self._open,
            Use.SCRATCH: self._from_scratch,
            Use.START: self._from_start,
            Use.CONTINUED: self._from_continued,
            Use.SCRATCH_OR_START: self._either,
            Use.SCRATCH_OR_CONTINUED: self._both_better,
            Use.NOT_COMPARED: self._not_compared,
        }[self.use]()
        return capital(text + ".")

    def certainty(self) -> list[str]:
        """Return what the other claims say about training from scratch, then how sure everything is."""
        scratch = super().sentence()
        return [f"Among the trainings from scratch: {scratch[:1].lower()}{scratch[1:]}", *super().certainty()]

    def _open(self) -> str:
        """Return why no start is recommended, and what is known of the continued one."""
        return f"{OPEN}: {self._what_is_open(self.claims['start'])}{self._about_continued(with_open=False)}"

    def _from_scratch(self) -> str:
        """Return the recommendation of training from scratch."""
        claim = self.claims["start"]
        base, other = self.words.sides(claim)
        is_open = "continued" in self.claims and self._continued() is None
        text = f"{self._at_budget_of_starts()}train from scratch" + (
            f" rather than {_infinitive(other)}" if is_open else ""
        )
        if claim.outcome is Outcome.WORSE:
            return f"{text}: {base} outperforms {other} by {self._gain(claim.interval)}{self._about_continued()}"
        equal = f"equivalent to {base} within {self.words.margin()} ({self._difference(claim)})"
        return f"{text}: {other} is {equal}, and another training from scratch outperforms that one{self._about_continued()}"

    def _from_start(self) -> str:
        """Return the recommendation of the first start."""
        base, other = self.words.sides(self.claims["start"])
        gain = self._gain(self.claims["start"].interval)
        return f"{self._at_budget_of_starts()}{_infinitive(other)}: it outperforms {base} by {gain}{self._about_continued()}"

    def _from_continued(self) -> str:
        """Return the recommendation of the second start."""
        scratch, start = self.words.sides(self.claims["start"])
        _, continued = self.words.sides(self.claims["continued"])
        claim = self.claims["start"]
        text = f"{self._at_budget_of_starts()}{_infinitive(continued)}: it outperforms {start} by"
        text += f" {self._gain(self.claims['continued'].interval)}, which "
        if claim.outcome is Outcome.BETTER:
            return f"{text}outperforms {scratch} by {self._gain(claim.interval)}"
        return f"{text}is equivalent to {scratch} within {self.words.margin()} ({self._difference(claim)})"

    def _either(self) -> str:
        """Return that neither the first start nor training from scratch is better, and what each costs."""
        claim = self.claims["start"]
        base, other = self.words.sides(claim)
        text = (
            f"{self._at_budget_of_starts()}train from scratch or {_infinitive(other)}, neither is better:"
            f" {other} and {base} are equivalent within {self.words.margin()} ({self._difference(claim)})"
        )
        return text + self._costs() + self._about_continued()

    def _both_better(self) -> str:
        """Return that two arms outperform the first start, which no claim compares with each other."""
        scratch, start = self.words.sides(self.claims["start"])
        _, continued = self.words.sides(self.claims["continued"])
        gains = [self._gain(self.claims[name].interval) for name in STARTS]
        return (
            f"{OPEN} to choose between {continued} and {scratch}: they outperform {start} by {gains[1]} and by {gains[0]}, and no"
            " claim compares them with each other"
        )

    def _not_compared(self) -> str:
        """Return that a start and another training from scratch outperform the preferred one, and that no claim compares them."""
        claim = self.claims["start"]
        base, other = self.words.sides(claim)
        beaten = f"outperforms {base} by {self._gain(claim.interval)}, and so does another training from scratch"
        if claim.outcome is Outcome.EQUIVALENT:
            equal = f"is equivalent to {base} within {self.words.margin()} ({self._difference(claim)})"
            beaten = f"{equal}, which another training from scratch outperforms"
        return (
            f"{OPEN} to choose between a start and another training from scratch, which no claim compares: {other} {beaten}"
            f"{self._about_continued()}"
        )

    def _about_continued(self, *, with_open: bool = True) -> str:
        """Return the clause on the second start compared with the first, if there is one; `with_open`: also if it is open."""
        if "continued" not in self.claims:
            return ""
        claim, outcome = self.claims["continued"], self._continued()
        start, continued = self.words.sides(claim)
        if claim.outcome in (Outcome.MISSING, Outcome.INCOMPLETE):
            return f"; results of {continued} are missing" if with_open else ""
        if outcome is None:
            ways = f" (about {ways[0]} would settle it {UNCHANGED})" if (ways := self._ways(claim)) else ""
            return f"; {self._question(claim)} is open{ways}" if with_open else ""
        if outcome in STRICT:
            word = "better" if outcome is Outcome.BETTER else "worse"
            return f"; {continued} is {word} than {start} by {self._gain(claim.interval)}"
        equal = f"{self._difference(claim)}, equivalent within {self.words.margin()}"
        to_what = "" if self.use is Use.START else f" to {start}"
        return f"; {continued} adds nothing{to_what} ({equal}) and needs another stage"

    def _costs(self) -> str:
        """Return what a run costs from scratch and from the first start; empty where that is not known."""
        starts = self.findings.starts
        assert starts is not None
        scratch, start = (self.seconds(arm) for arm in (starts.scratch, starts.arms[0]))
        if scratch is None or start is None:
            return ""
        title = self.words.title(starts.arms[0][self.findings.main.axis])
        return (
            f"; a run in all of its stages takes {format_duration(scratch)} from scratch and {format_duration(start)} from {title},"
            " whose own training is not counted"
        )

    def _continued(self) -> Outcome | None:
        """Return the outcome of the claim on the second start if it is settled."""
        return settled_outcome("continued", self.findings.claims, self.doubtful)

    def _at_budget_of_starts(self) -> str:
        """Return the restriction to this budget, if an arm of the claims on starts has not converged."""
        claims = [self.claims[name] for name in STARTS if name in self.claims]
        is_open = any(self.findings.has_converged(levels) is False for claim in claims for levels in claim.cells)
        return "at this budget, " if is_open else ""


def _infinitive(start: str) -> str:
    """Return `start from public weights` for `starting from public weights`."""
    return start.replace("starting", "start", 1)
