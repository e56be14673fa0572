"""Recommendation of a comparison: what to do, in a sentence computed from the declared claims, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from recipes.reports.comparison.claims import Outcome, relative_macs
from recipes.reports.comparison.decision import SETTLED, STRICT, Basis, decide, opposite
from recipes.reports.comparison.earlier_runs import collapsed_runs
from recipes.reports.comparison.estimator import Effect, Estimate, Levels
from recipes.reports.comparison.open_claims import UNCHANGED, OpenClaims, SeedCost
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.words import MOST_PANELS
from recipes.reports.formatting import capital, listed
from recipes.reports.statistics import Interval
from recipes.run.runner import pluralize

OPEN = "Not enough evidence yet"
"""Beginning of a recommendation that no claim supports."""
EQUAL_COST = 1.1
"""Ratio of two costs up to which neither arm counts as cheaper."""


@dataclass(frozen=True)
class Simpler:
    """The simpler level of the main axis, and what the other one takes."""

    level: str
    reason: str


class Recommendation(OpenClaims):
    """The recommendation of a comparison, in words."""

    def __init__(self, words: ComparisonWords, seed: SeedCost, simpler: Simpler | None) -> None:
        """Take the wording of the findings, the cost of a seed, and the simpler level of the main axis, if one is."""
        super().__init__(words, seed)
        self.simpler = simpler
        self.decision = decide(
            self.findings.claims,
            {effect.axis: (effect.base, effect.other) for effect in self.findings.effects},
            simpler.level if simpler else None,
            self.doubtful,
        )

    def sentence(self) -> str:
        """Return what to do, in one sentence."""
        match self.decision.basis:
            case Basis.EFFECT:
                text = self._by_effect()
            case Basis.CHAIN:
                text = self._by_both()
            case Basis.ALTERNATIVE:
                text = self._by_alternative()
            case Basis.SAVING:
                text = self._by_saving()
            case _:
                text = f"{OPEN}: {self._what_is_open(self.claims['effect'])}"
        return capital(text + self._better_panel() + ".")

    def certainty(self) -> list[str]:
        """Return how sure the recommendation is: the claims it rests on, the seeds and images, the budget, convergence."""
        findings, claims = self.findings, self.findings.claims
        settled = sum(claim.outcome in SETTLED and claim.name not in self.doubtful for claim in claims)
        count = f"{settled} of {pluralize(len(claims), 'declared claim')} {'is' if settled == 1 else 'are'} conclusive"
        found = claims[0].interval
        images = (
            f" and {found.images:,} test images" if found.images else " alone, not over the sampling of the test images"
        )
        over = f" (95% confidence, over {pluralize(found.count, findings.spec.repeats)}{images})" if found.count else ""
        budget = {
            "compute": self._within_budget(),
            "steps": "at equal numbers of steps, not of equal compute",
        }
        match = budget.get(findings.match, "the arms do not spend equal compute")
        return [f"{capital(count)}{over}, {match}.", *self._unconverged()]

    def arm(self, levels: Levels) -> str:
        """Return an arm in a sentence: `the conv stem with one-stage training (OST)`."""
        main = self.findings.main.axis
        panel = {axis: level for axis, level in levels.items() if axis != main}
        title = self.words.title(levels[main])
        return f"{self.words.named(panel)} with {title}" if panel else title

    def _by_effect(self) -> str:
        """Return the recommendation of a level of the main axis in the panel of the claim."""
        decision, claim = self.decision, self.claims["effect"]
        start = self._at_budget() + self.words.with_panel(claim.levels)
        main = self.findings.main
        if decision.either:
            both = f"{self.words.title(main.base)} or {self.words.title(main.other)}"
            equal = f"they are equivalent within {self.words.margin()} ({self._difference(claim)})"
            return f"{start}use {both}: {equal}{self._exception()}"
        use = self.words.title(decision.use[main.axis])
        elsewhere = self._elsewhere(decision.use[main.axis])
        return f"{start}use {use}: {self._effect('it')}{self._exception()}{elsewhere}"

    def _by_both(self) -> str:
        """Return the recommendation of an arm that both the effect and the alternative support."""
        decision, claim = self.decision, self.claims["alternative"]
        winner, loser = self._sides()
        gain = self._gain(claim.interval)
        text = f"{self._at_budget()}use {self.arm(decision.use)}: "
        if winner == decision.use:
            text += f"it outperforms {self.arm(loser)} by {gain}, and {self._effect('it', ' there')}"
        else:
            text += f"{self._effect('it', ' there')}, and {self.arm(winner)} outperforms {self.arm(loser)} by {gain}"
        return text + self._exception() + self._elsewhere(decision.use[self.findings.main.axis])

    def _by_alternative(self) -> str:
        """Return the preference between the two sides of the alternative, and what the effect says."""
        claim, effect = self.claims["alternative"], self.claims["effect"]
        winner, loser = self._sides()
        text = f"{self._at_budget()}prefer {self.arm(winner)} to {self.arm(loser)}: it is better by {self._gain(claim.interval)}"
        main = self.findings.main
        panel = self.words.with_panel(effect.levels)
        if effect.outcome in SETTLED and effect.name not in self.doubtful:
            level = {Outcome.BETTER: main.other, Outcome.WORSE: main.base}.get(effect.outcome)
            if level is None:
                return f"{text}; {panel}{self._equivalent()}"
            return f"{text}; {panel}{self.words.title(level)} is better by {self._gain(effect.interval)}{self._elsewhere(level)}"
        ways = self._ways(effect)
        return f"{text}; {self._question(effect)} is open" + (
            f" (about {ways[0]} would settle it {UNCHANGED})" if ways else ""
        )

    def _by_saving(self) -> str:
        """Return the recommendation at the declared amount of labels."""
        main, claim = self.findings.main, self.claims["saving"]
        use, over = (self.words.title(levels[main.axis]) for levels in (self.decision.use, self.decision.over))
        panel = self.words.with_panel(claim.levels).removesuffix(", ").removeprefix("with ")
        where = " and ".join(part for part in (panel, self.words.labels(self.findings.saving_x)) if part)
        open_part = f"averaged over all amounts, {self._question(self.claims['effect'], panel=False)} is open"
        ways = self._ways(self.claims["effect"])
        open_part += f" (about {ways[0]} would settle it {UNCHANGED})" if ways else ""
        return f"{self._at_budget()}with {where}, use {use}: it outperforms {over} by {self._gain(claim.interval)}; {open_part}"

    def _effect(self, subject: str, where: str = "") -> str:
        """Return the clause on the effect, about the recommended level: it is better, or the other one adds nothing."""
        claim = self.claims["effect"]
        over = self.words.title(self.decision.over[self.findings.main.axis])
        if claim.outcome in STRICT:
            return f"{subject} outperforms {over}{where} by {self._gain(claim.interval)}"
        assert self.simpler is not None
        equal = f"{self._difference(claim)}, equivalent within {self.words.margin()}"
        return f"{over} adds nothing{where} ({equal}) and {self.simpler.reason}"

    def _equivalent(self) -> str:
        """Return the clause on an effect that is equivalent to none."""
        main, claim = self.findings.main, self.claims["effect"]
        both = f"{self.words.title(main.other)} and {self.words.title(main.base)}"
        return f"{both} are equivalent within {self.words.margin()} ({self._difference(claim)})"

    def _exception(self) -> str:
        """Return the clause on the declared amount of labels at which the other level is better."""
        if not self.decision.exception:
            return ""
        gain = self._gain(self.claims["saving"].interval)
        title = self.words.title(self.decision.exception)
        return f"; but with {self.words.labels(self.findings.saving_x)}, use {title}, which is better there by {gain}"

    def _elsewhere(self, use: str) -> str:
        """Return the clause on the other panels in which not `use` but the other level is significantly better: exploratory."""
        main = self.findings.main
        others = [each for each in main.by_panel if self._is_opposite(each, use)]
        if not others:
            return ""
        title = self.words.title(opposite(use, (main.base, main.other)))
        if len(others) > MOST_PANELS:
            return f"; in {len(others)} of {len(main.by_panel) - 1} other settings, {title} is better (exploratory)"
        parts = [f"with {self.words.named(each.levels)} by {self._gain(each.interval)}" for each in others]
        return f"; {title} is better {listed(parts)}, which is exploratory"

    def _is_opposite(self, estimate: Estimate, use: str) -> bool:
        """Return whether the effect in another panel significantly favors the other level, from runs that all ended well."""
        main = self.findings.main
        if dict(estimate.levels) == dict(self.claims["effect"].levels) or not estimate.interval.sign:
            return False
        cells = [
            {**estimate.levels, main.axis: name, self.findings.spec.x: x}
            for name in (main.base, main.other)
            for x in self.findings.x
        ]
        if not self._ended_well(cells):
            return False
        return self._favored(main, estimate) != use

    def _better_panel(self) -> str:
        """Return the clause on the level of the second axis that outperforms the recommended arm's: exploratory."""
        use, effects = self.decision.use, self.findings.effects
        if not use or self.decision.either or len(effects) < 2:
            return ""
        second = effects[1]
        others = {axis: level for axis, level in use.items() if axis != second.axis}
        found = next((each for each in second.by_panel if dict(each.levels) == others), None)
        if found is None or not found.interval.sign:
            return ""
        better = self._favored(second, found)
        worse = opposite(better, (second.base, second.other))
        cells = [
            {**others, second.axis: level, self.findings.spec.x: x}
            for level in (better, worse)
            for x in self.findings.x
        ]
        if use.get(second.axis) == better or not self._ended_well(cells):
            return ""
        names = [self.words.named({second.axis: level}) for level in (better, worse)]
        weights = [(1.0 if cell[second.axis] == better else -1.0, cell) for cell in cells]
        spent = self.words.times_macs(relative_macs(self.findings.costs, weights))
        gain = self._gain(found.interval)
        start = f"with {self.words.title(use[self.findings.main.axis])}, {names[0]}"
        return f"; {start} outperforms {names[1]} by {gain}{spent}, which is exploratory"

    def _favored(self, effect: Effect, estimate: Estimate) -> str:
        """Return the level of an effect's axis that a significant estimate of it favors."""
        is_better = (estimate.interval.sign > 0) == self.findings.metric.higher_is_better
        return effect.other if is_better else effect.base

    def _ended_well(self, cells: Sequence[Levels]) -> bool:
        """Return whether no run of these cells diverged, or started from a pre-training that collapsed."""
        values = self.findings.values
        return not collapsed_runs(self.findings.earlier, values, cells)[1] and not any(
            values.diverged.get(values.key(cell)) for cell in cells
        )

    def _sides(self) -> tuple[Levels, Levels]:
        """Return the two arms of the alternative, the better one first."""
        main, second = self.findings.effects[:2]
        sides = {second.axis: second.other, main.axis: main.base}, {second.axis: second.base, main.axis: main.other}
        return sides if self.claims["alternative"].outcome is Outcome.BETTER else sides[::-1]

    def _gain(self, found: Interval) -> str:
        """Return the size of a significant difference with its bounds, without sign."""
        size = found if found.mean >= 0 else replace(found, mean=-found.mean, low=-found.high, high=-found.low)
        bounds = self.words.confidence(size).replace("+", "").removeprefix("95% CI ")
        return f"{self.words.points(size.mean)} ({bounds})"

    def _within_budget(self) -> str:
        """Return which arms have the same budget: all of them, or those of a panel, and what claims across panels compare."""
        unequal = [claim for claim in self.findings.claims if claim.crosses_budgets]
        if self.findings.has_one_budget or not unequal:
            return "each arm within the same budget of MACs"
        parts = []
        for claim in unequal:
            base, other = self.words.sides(claim)
            parts.append(f"{other} spends {claim.spending:.2g} times the MACs of {base}")
        arms = listed([self.words.title(name) for name in (self.findings.main.base, self.findings.main.other)])
        return f"{arms} within the same budget of MACs, but {listed(parts)}"

    def _at_budget(self) -> str:
        """Return the restriction to this budget, if an arm of the claims that count has not converged."""
        names = {Basis.EFFECT: ["effect"], Basis.SAVING: ["saving"], Basis.ALTERNATIVE: ["alternative"]}
        claims = [self.claims[name] for name in names.get(self.decision.basis, ["effect", "alternative"])]
        is_open = any(self.findings.has_converged(levels) is False for claim in claims for levels in claim.cells)
        return "at this budget, " if is_open else ""

    def _unconverged(self) -> list[str]:
        """Return which arms twice the epochs would improve, or that it is not known of any."""
        x = self.findings.spec.x
        known = [(arm.levels, self.findings.has_converged(arm.levels)) for arm in self.findings.arms]
        if all(converged is None for _, converged in known):
            return ["It is not known whether longer training would change this."]
        found = [levels for levels, converged in known if converged is False]
        if not found:
            return []
        names = [
            f"{self.words.panel({axis: at[axis] for axis in self.findings.arm_axes})} with {self.words.format_x(float(at[x]))}"
            for at in found
        ]
        which = listed(names) if len(names) <= MOST_PANELS else f"{len(names)} of {len(self.findings.arms)} arms"
        return [f"Not converged at this budget: {which}; twice the epochs gain a point or more."]
