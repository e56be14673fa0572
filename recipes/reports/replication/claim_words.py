"""Wording of the claims about pairs of rows."""

import math
from collections.abc import Sequence

from recipes.reports.formatting import p_text, signed, within_95
from recipes.reports.replication.claims import Claim, Outcome, claim_step, published_difference
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.outcome_words import count_outcomes, outcome_lead
from recipes.reports.replication.row_words import RowWords, at_most
from recipes.run.runner import pluralize
from recipes.study.published import CRASH


class ClaimWords(RowWords):
    """The sentences and entries about claims."""

    def __init__(self, findings: TableFindings, claims: Sequence[Claim]) -> None:
        """Take the findings and the claims to describe."""
        super().__init__(findings)
        self.claims = claims

    @property
    def are_published(self) -> bool:
        """Return whether the paper has values for all measured claims by the main column: then they are claims of the paper."""
        main = [claim for claim in self.claims if claim.column == self.findings.main]
        measured = [claim for claim in main if claim.outcome is not Outcome.MISSING]
        return self.findings.published is not None and all(None not in claim.published for claim in measured)

    def claims_headline(self) -> str:
        """Return how many claims hold, and which; empty if none is measured."""
        by_outcome: dict[Outcome, list[str]] = {}
        main = [claim for claim in self.claims if claim.column == self.findings.main]
        for claim in main:
            by_outcome.setdefault(claim.outcome, []).append(claim.pair.claim)
        if not set(by_outcome) - {Outcome.MISSING}:
            return ""
        owner = "the paper's" if self.are_published else "the study's"
        if all(row.ended and not row.runs for row in self.findings.rows):
            total = sum(row.ended for row in self.findings.rows)
            return f"All {pluralize(total, 'run')} diverged: none of {owner} {pluralize(len(main), 'claim')} can be tested."
        sentence = count_outcomes(by_outcome, self.spec.repeats, owner=owner, where=self.where)
        steps = [step.seeds for claim in main if (step := claim_step(claim, len(self.claims))) and step.seeds]
        is_open = not set(by_outcome) - {Outcome.INCONCLUSIVE, Outcome.MISSING}
        if not is_open or not steps:
            return sentence
        which = "it" if len(main) == 1 else "one of them"
        return f"{sentence.removesuffix('.')}; {min(steps)} {self.spec.repeats}s in all would settle {which} if its estimate holds."

    def claim_sentences(self) -> list[str]:
        """Return a sentence for each outcome, with its claims."""
        groups: dict[Outcome, list[str]] = {}
        for claim in self.claims:
            if claim.column == self.findings.main:
                details = self._details(claim)
                text = f"{claim.pair.claim} ({details})" if details else claim.pair.claim
                groups.setdefault(claim.outcome, []).append(text)
        is_published = self.findings.published is not None
        leads = {outcome: outcome_lead(outcome, self.spec.repeats, is_published=is_published) for outcome in Outcome}
        return [f"{leads[outcome]}: {at_most(groups[outcome])}." for outcome in Outcome if outcome in groups]

    def _details(self, claim: Claim) -> str:
        """Return the numbers of a claim: ours with interval and p-value, the paper's, and where runs diverged or are missing."""
        if claim.outcome is Outcome.MISSING or claim.base is None or claim.other is None:
            return ""
        ours = "" if claim.base.crashed and claim.other.crashed else f"here {self.claim_ours(claim)}"
        if not (claim.base.crashed or claim.other.crashed) and claim.interval.is_known:
            ours += f", {within_95(claim.interval, self.digits(claim.column))}"
        if not math.isnan(claim.p_value):
            ours += f", {self.adjusted(claim)}"
        published = self._published_side(claim)
        _, *changes = self.outcome(claim).split("; ")
        return "; ".join(part for part in (ours, published, *changes, self.next_step(claim)) if part)

    def next_step(self, claim: Claim) -> str:
        """Return what would settle an inconclusive claim if its estimate stays the same, as text; empty if that is unknown."""
        step = claim_step(claim, len(self.claims))
        if step is None or not (step.seeds or step.images):
            return ""
        count = f"{step.seeds} {self.spec.repeats}s in all" if step.seeds else f"{step.images:,} test images"
        return f"about {count} would settle it"

    def adjusted(self, claim: Claim) -> str:
        """Return the p-value of a claim."""
        return f"adjusted {p_text(claim.p_value)}" if len(self.claims) > 1 else p_text(claim.p_value)

    def _published_side(self, claim: Claim) -> str:
        """Return the paper's side of a claim for a sentence: the difference at its own scale, otherwise only a crash."""
        if None in claim.published:
            return ""
        if self.findings.is_paper_scale:
            return f"paper {self.claim_published(claim)}"
        base, other = (value == CRASH for value in claim.published)
        if base and other:
            return "in the paper both crash"
        return "in the paper a crash against a value" if base or other else ""

    def claim_published(self, claim: Claim) -> str:
        """Return the published difference of a claim at the paper's scale; the two published values elsewhere, or with a crash."""
        change = published_difference(claim)
        if change is not None and self.findings.is_paper_scale:
            return signed(change, self.digits(claim.column))
        base, other = (self.value(value, claim.column) for value in claim.published)
        return "–" if None in claim.published else f"{other} vs. {base}"

    def claim_ours(self, claim: Claim) -> str:
        """Return our difference of a claim, or the divergence it involves."""
        if claim.base is None or claim.other is None or claim.outcome is Outcome.MISSING:
            return "–"
        if claim.base.crashed or claim.other.crashed:
            other, base = (self._side(row, claim.column) for row in (claim.other, claim.base))
            return f"{other} vs. {base}"
        return signed(claim.interval.mean, self.digits(claim.column)) + self._without(claim)

    def _without(self, claim: Claim) -> str:
        """Return which runs a difference leaves out because they diverged, and what it is with them; empty if there are none."""
        rows = [row for row in (claim.other, claim.base) if row is not None and row.crashes]
        if not rows or self.findings.is_distribution:
            return ""
        lost = " and ".join(f"{len(row.crashes)} of {row.ended}" for row in rows)
        found = claim.difference.with_chance
        counted = "" if found is None else f"; {signed(found, self.digits(claim.column))} with them at chance level"
        return f" (without {lost} runs that diverged{counted})"

    def _side(self, row: Row, column: str) -> str:
        """Return our value of a row of a claim of which a row diverged, with the number of runs that diverged."""
        if row.ended == 1 and row.crashes:
            return "diverged"
        count = f"{len(row.crashes)} of {row.ended}"
        if row.crashed:
            return f"diverged in {count}"
        value = self.number(row.scores[column].interval.mean, column)
        return f"{value}, diverged in {count}" if row.crashes else value

    def outcome(self, claim: Claim) -> str:
        """Return the outcome of a claim, with the divergences in which our runs differ from the paper, and missing runs."""
        outcome = claim.outcome.replace("repeat", self.spec.repeats)
        if claim.outcome is Outcome.MISSING or claim.base is None or claim.other is None:
            return outcome
        rows = (claim.base, claim.other)
        changed = [
            "no divergence here" if published == CRASH else "diverged only here"
            for row, published in zip(rows, claim.published, strict=True)
            if published is not None and row.crashed != (published == CRASH)
        ]
        if claim.base.crashed and claim.other.crashed:
            changed = ["both rows diverged"]
        waiting = sum(len(row.waiting) for row in rows)
        missing = [f"{waiting} of {waiting + sum(row.ended for row in rows)} runs not done"] if waiting else []
        return "; ".join([outcome, *dict.fromkeys(changed), *missing])
