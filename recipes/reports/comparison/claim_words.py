"""Wording of the declared claims of a comparison, and of what would settle them."""

import math
from collections.abc import Iterator

from recipes.reports.comparison.claims import MOST_IMAGES, MOST_SEEDS, Claim, NextStep, Outcome, next_step
from recipes.reports.comparison.earlier_runs import collapsed_runs
from recipes.reports.comparison.start_words import STARTS, StartWords
from recipes.reports.comparison.words import MOST_PANELS
from recipes.reports.formatting import capital, listed, number, p_text, signed_distinctly
from recipes.reports.statistics import MIN_SEEDS
from recipes.run.runner import pluralize

_TESTED = (Outcome.BETTER, Outcome.WORSE, Outcome.EQUIVALENT, Outcome.INCONCLUSIVE)
"""Outcomes of which the p-value is stated."""


class ClaimWords(StartWords):
    """The sentences on the declared claims."""

    def headline(self) -> str:
        """Return the answer in one line: the outcome of the first claim."""
        claim, main = self.findings.claims[0], self.findings.main
        other, base = self.title(main.other), self.title(main.base)
        start, found = self.with_panel(claim.levels), claim.interval
        repeats = self.spec.repeats
        match claim.outcome:
            case Outcome.MISSING | Outcome.INCOMPLETE:
                if all(math.isnan(each.interval.mean) for each in main.by_setting):
                    return "No pair of runs is complete yet."
                return f"Incomplete: {self.missing()}."
            case Outcome.FEW_SEEDS:
                left = " left" if self._has_diverged(claim) else ""
                count = f"{pluralize(found.count, repeats)}{left}"
                return f"Too few {repeats}s for an answer: {count}, at least {MIN_SEEDS} are needed."
            case Outcome.ALL_DIVERGED:
                return capital(f"{start}{other} and {base} cannot be compared: {self.all_diverged(claim)}.")
            case Outcome.DEPENDS_ON_DIVERGED:
                sentence = f"{start}whether {other} or {base} is better depends on the runs that diverged"
            case Outcome.EQUIVALENT:
                sentence = f"{start}{other} and {base} are equivalent within {self.margin()}"
            case Outcome.BETTER | Outcome.WORSE:
                verb = "outperforms" if claim.outcome is Outcome.BETTER else "underperforms"
                sentence = f"{start}{other} {verb} {base} by {self.points(found.mean)}"
            case _:
                sentence = f"{start}{other} and {base} do not differ significantly"
        collapsed = self.collapsed(claim)
        return capital(f"{sentence}, but {collapsed}." if collapsed else f"{sentence}.")

    def missing(self) -> str:
        """Return how many results are missing, and how many runs are done without the metric."""
        lacking = self.findings.without_metric
        waiting = self.findings.missing - lacking
        are_missing = f"{pluralize(waiting, 'result')} {'is' if waiting == 1 else 'are'} missing"
        if not lacking:
            return are_missing
        lack = f"{pluralize(lacking, 'finished run')} {'lacks' if lacking == 1 else 'lack'} {self.metric.name}"
        return f"{are_missing} and {lack}" if waiting else lack

    def doubt(self, claim: Claim) -> str:
        """Return that earlier runs behind a claim collapsed, if any did."""
        collapsed = self.collapsed(claim)
        if not collapsed:
            return ""
        return capital(f"{collapsed}: the comparison says little about runs that start from others.")

    def collapsed(self, claim: Claim) -> str:
        """Return how many of the earlier runs behind a claim collapsed, if any did."""
        runs, collapsed = collapsed_runs(self.findings.earlier, self.findings.values, claim.cells)
        if not collapsed:
            return ""
        stages = list(dict.fromkeys(self.findings.earlier.stages[run] for run in collapsed))
        runs, stage = [run for run in runs if self.findings.earlier.stages[run] in stages], listed(stages)
        if len(runs) == 1:
            return f"its {stage} run collapsed"
        count = f"all {len(runs)}" if len(collapsed) == len(runs) else f"{len(collapsed)} of the {len(runs)}"
        return f"{count} {stage} runs behind it collapsed"

    def not_improved(self, claim: Claim) -> str:
        """Return how many of the earlier runs behind a claim have features no better than at their start, if any have."""
        earlier = self.findings.earlier
        runs = earlier.of(map(self.findings.values.key, claim.cells))
        below = [run for run in runs if run in earlier.not_improved]
        if not below:
            return ""
        stages = dict.fromkeys(earlier.stages[run] for run in below)
        count = pluralize(sum(earlier.stages[run] in stages for run in runs), f"{listed(list(stages))} run")
        return capital(
            f"{self.with_panel(claim.levels)}{len(below)} of the {count} did not improve the features: k-NN on validation images is"
            " no better at their end than at their start."
        )

    def _has_diverged(self, claim: Claim) -> bool:
        """Return whether a run of a claim diverged."""
        values = self.findings.values
        return any(values.diverged.get(values.key(levels)) for levels in claim.cells)

    def all_diverged(self, claim: Claim) -> str:
        """Return the cells of a claim all of whose runs diverged."""
        values, x = self.findings.values, self.spec.x
        groups: dict[str, list[str]] = {}
        for levels in claim.cells:
            if values.cell(levels) is None and values.diverged.get(values.key(levels)):
                own = {axis: level for axis, level in levels.items() if axis != x and axis not in claim.levels}
                groups.setdefault(self.panel(own), []).append(levels[x])
        parts = [
            arm + ("" if len(xs) == len(self.findings.x) else f" with {listed([self.labels(level) for level in xs])}")
            for arm, xs in groups.items()
        ]
        count = sum(map(len, groups.values()))
        return f"all runs of {listed(parts) if len(parts) <= MOST_PANELS else f'{count} arms'} diverged"

    def claim(self, claim: Claim) -> str:
        """Return the sentence about a claim of a difference: its estimate, interval and adjusted p-value."""
        found, main = claim.interval, self.findings.main
        if claim.name in ("alternative", *STARTS):
            start = " compared with ".join(reversed(self.sides(claim)))
        else:
            start = f"{self.with_panel(claim.levels)}{self.title(main.other)} compared with {self.title(main.base)}"
        if math.isnan(found.mean):
            if claim.outcome is Outcome.ALL_DIVERGED:
                return capital(f"{start}: not measured, since {self.all_diverged(claim)}.{self._with_chance(claim)}")
            return capital(f"{start}: not measured yet.")
        amounts, settings = len(self.findings.x), len(claim.cells) // 2
        levels = "label fractions" if self.spec.counts_labels else f"levels of {self.spec.x_name}"
        where = f"averaged over {amounts} {levels}" if amounts > 1 else f"with {self.labels(self.findings.x[0])}"
        if claim.name == "saving":
            where = f"with {self.labels(self.findings.saving_x)}"
        elif settings > amounts:
            where = f"averaged over {settings} settings"
        numbers = f"{self.change(found.mean)} ({self.confidence(found)}{self._adjusted(claim)})"
        outcome = self.outcome(claim) + self.times_macs(claim.spending)
        return capital(f"{start}, {where}: {numbers}, {outcome}.{self._with_chance(claim)}")

    def outcome(self, claim: Claim) -> str:
        """Return the outcome of a claim as the end of a sentence."""
        repeats = self.spec.repeats
        return {
            Outcome.BETTER: "significantly better",
            Outcome.WORSE: "significantly worse",
            Outcome.EQUIVALENT: f"equivalent within {self.margin() if self.metric.margin else ''}",
            Outcome.INCONCLUSIVE: "which is inconclusive",
            Outcome.FEW_SEEDS: f"which is inconclusive with fewer than {MIN_SEEDS} {repeats}s",
            Outcome.DEPENDS_ON_DIVERGED: "which depends on how diverged runs are counted",
            Outcome.INCOMPLETE: "from an incomplete study",
            Outcome.MISSING: "not measured",
            Outcome.ALL_DIVERGED: "not measured",
        }[claim.outcome]

    def reason_of_panel(self) -> str:
        """Return why the first claim is about its panel."""
        panel = self.findings.claims[0].levels
        if not panel or len(self.findings.panels) < 2:
            return ""
        if all(math.isnan(each.interval.mean) for each in self.findings.main.by_setting):
            return ""
        reason = "it is the study's first: no tuning runs chose another one on validation images"
        if self.findings.starts is not None:
            reason = "it is that of the training from scratch that a start is compared with"
        elif self.findings.choices is not None:
            reason = f"the tuning runs' validation images prefer it; their {self.spec.repeats}s are not reported"
        return f"The declared effect is the one with {self.named(panel)}: {reason}."

    def interaction(self) -> str:
        """Return whether the main effect depends on the second axis, with the effect by panel or on average."""
        found, main = self.findings.interaction, self.findings.main
        if found is None or math.isnan(found.mean):
            return ""
        title, second, digits = self.title(main.axis), self.findings.effects[1], self.metric.digits
        ends = f"between {self.title(second.base)} and {self.title(second.other)}"
        difference = f"{self.change(found.mean)} ({self.confidence(found)})"
        by_panel = [
            f"{self.panel(each.levels)} {signed_distinctly(each.interval.mean, digits)} ({self.confidence(each.interval)})"
            for each in main.by_panel
            if not math.isnan(each.interval.mean)
        ]
        own = listed(by_panel) if len(by_panel) <= MOST_PANELS else "the tables give it for each"
        if found.sign:
            return f"The effect of {title} differs {ends} by {difference}: {own}. An average over both would hide that."
        if found.count < MIN_SEEDS or not found.is_known:
            return f"The effect of {title} by {self.title(second.axis)}: {own}." if by_panel else ""
        pooled = main.pooled.interval
        average = f"On average it is {self.change(pooled.mean)} ({self.confidence(pooled)})."
        return f"The effect of {title} does not differ significantly {ends}; the difference is {difference}: {own}. {average}"

    def next_steps(self) -> Iterator[str]:
        """Yield what would settle each open claim."""
        if self.findings.claims[0].outcome is Outcome.FEW_SEEDS:
            more = MIN_SEEDS - self.findings.claims[0].interval.count
            yield f"What next: {pluralize(more, f'more {self.spec.repeats}')} at least, so that differences can be tested."
        for claim in self.findings.claims:
            step = next_step(claim, self.metric.margin, claims=len(self.findings.claims))
            if step is not None:
                yield f"What next: {self._step(claim, step)}."

    def _step(self, claim: Claim, step: NextStep) -> str:
        """Return what would settle a claim."""
        main, repeats = self.title(self.findings.main.axis), self.spec.repeats
        name = f"the effect of {main}"
        if claim.name == "saving":
            name += f" with {self.labels(self.findings.saving_x)}"
        if claim.name == "alternative":
            name = f"{self.title(self.findings.effects[1].axis)} against {main}"
        if claim.name in STARTS:
            name = " against ".join(reversed(self.sides(claim)))
        ways = []
        if step.seeds is not None:
            more = step.seeds - claim.interval.count
            ways.append(f"{more} more {repeats}{'' if more == 1 else 's'}")
        if step.images is not None:
            ways.append(f"{step.images:,} test images instead of {claim.interval.images:,}")
        condition = "if the estimate does not change"
        if not ways and not claim.interval.images:
            return f"not even {MOST_SEEDS} {repeats}s would settle {name} {condition}"
        if not ways:
            return f"neither {MOST_SEEDS} {repeats}s nor {MOST_IMAGES} times as many test images would settle {name} {condition}"
        return f"about {' or '.join(ways)} would settle {name} {condition}"

    def _adjusted(self, claim: Claim) -> str:
        """Return the adjusted p-value of a claim that is tested."""
        is_tested = claim.outcome in _TESTED and not math.isnan(claim.p_value)
        return f"; adjusted {p_text(claim.p_value)}" if is_tested else ""

    def _with_chance(self, claim: Claim) -> str:
        """Return the estimate of a claim with diverged runs counted as chance level, if there are any."""
        if not self._has_diverged(claim):
            return ""
        if claim.with_chance is None:
            return f" Diverged runs are excluded; no {self.spec.metric_name} is known for which they would count."
        level = self._uninformative()
        if math.isnan(claim.interval.mean):
            return f" With diverged runs counted as {level}, the difference is {self.change(claim.with_chance)}."
        return f" Diverged runs are excluded; counted as {level}: {self.change(claim.with_chance)}."

    def _uninformative(self) -> str:
        """Return the value for which diverged runs count."""
        value, metric = self.findings.values.chance, self.metric
        worst = metric.range[0 if metric.higher_is_better else 1] if metric.range else None
        name = "the worst value" if value == worst else "chance level"
        return f"{name} ({number(value or 0.0, metric.digits)})"

    def margin(self) -> str:
        """Return the margin of equivalence as text."""
        return self.points(self.metric.margin or 0.0).replace("1.0 point", "1 point")
