"""Wording of a report compared with a published table: formatting of rows, values and crashes, and sentences about them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.reports.formatting import capital, listed, mean_and_half, signed
from recipes.reports.replication.agreement import Agreement, Claim, Crashes, Outcome, published_difference
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.outcome_words import count_crashes, count_outcomes, outcome_lead
from recipes.reports.statistics import Interval
from recipes.run.runner import pluralize
from recipes.study.published import CRASH, PublishedValue, as_number

DOUBTFUL = "†"
"""Mark of a published value that looks like an error of the text recognition."""


class TableWords:
    """Formatting of the columns, rows and numbers of a table, and the sentences built from them."""

    def __init__(self, findings: TableFindings, claims: Sequence[Claim], agreements: Sequence[Agreement]) -> None:
        """Take the findings, claims and agreements to describe."""
        self.findings, self.spec = findings, findings.spec
        self.claims, self.agreements = claims, agreements
        self.varied = findings.varied
        self.naming = _identifying_columns(findings) if findings.is_distribution else self.varied

    def title(self, name: str) -> str:
        """Return the title that the study gives to a column, a level or a metric, or its name with spaces."""
        return str(self.spec.titles[name]) if name in self.spec.titles else name.replace("_", " ")

    def entry(self, value: Any) -> str:
        """Return an entry of a row as text: numbers in their shortest form, lists with commas."""
        if isinstance(value, list | tuple):
            return ", ".join(map(self.entry, value))
        number = None if str(value) in self.spec.titles else as_number(value)
        return str(self.spec.titles.get(str(value), value)) if number is None else f"{number:g}"

    def label(self, columns: Mapping[str, Any], excluded: Sequence[str] = ()) -> str:
        """Return the name of a row: its entries in the columns in which rows differ, numbers preceded by their column."""
        parts = []
        for name, value in columns.items():
            if name in self.naming and name not in excluded and value is not None:
                needs_title = as_number(value) is not None or isinstance(value, list | tuple)
                parts.append(f"{self.title(name)} {self.entry(value)}" if needs_title else self.entry(value))
        return ", ".join(parts) or "all runs"

    def constants(self) -> str:
        """Return the sentence on the columns in which all rows agree, or an empty string."""
        if not self.findings.rows:
            return ""
        same = {name: self.findings.rows[0].columns[name] for name in self.findings.columns if name not in self.varied}
        settings = [f"{self.title(name)} {self.entry(value)}" for name, value in same.items() if value is not None]
        return f"Identical in all rows: {', '.join(settings)}." if settings else ""

    def digits(self, column: str) -> int:
        """Return the number of decimals of a column: one for percentages, three for values of up to about 1."""
        scores = [row.scores[column] for row in self.findings.rows]
        ours = [abs(score.interval.mean) for score in scores if not math.isnan(score.interval.mean)]
        published = [abs(score.published) for score in scores if isinstance(score.published, float)]
        return 3 if (ours or published) and max([*ours, *published]) <= 1.5 else 1

    def metric(self, column: str) -> str:
        """Return the name of a column's metric; in a distribution it is the fraction of good draws."""
        if self.findings.is_distribution:
            return f"fraction of the draws within 2 points of the best {self.title(column)}"
        return self.title(column)

    def ours(self, row: Row, column: str) -> str:
        """Return our value of a row: mean and half-width, or how many of its runs crashed."""
        total = ended(row)
        if self.findings.is_distribution or not row.crashes:
            return mean_and_half(row.scores[column].interval, self.digits(column))
        if not row.runs:
            return CRASH if total == 1 else f"{CRASH} ({total} of {total})"
        count = f"{len(row.crashes)} of {total} crashed"
        return count if row.crashed else f"{mean_and_half(row.scores[column].interval, self.digits(column))} ({count})"

    def published(self, row: Row, column: str) -> str:
        """Return the published value of a row, with a mark if it is doubtful."""
        score = row.scores[column]
        return self.value(score.published, column) + (DOUBTFUL if score.doubtful else "")

    def value(self, value: PublishedValue, column: str) -> str:
        """Return a published value as text."""
        return "–" if value is None else value if isinstance(value, str) else f"{value:.{self.digits(column)}f}"

    def difference(self, row: Row, column: str) -> str:
        """Return our value minus the published one, or which of the two crashed."""
        published, ours = row.scores[column].published, row.rank_value(column)
        if published is None or ours is None:
            return "–"
        if isinstance(published, str):
            return "both crash" if row.crashed else "crash only in the paper"
        return "crash only here" if row.crashed else signed(ours - published, self.digits(column))

    def bounds(self, interval: Interval, column: str) -> str:
        """Return the bounds of an interval of differences."""
        digits = self.digits(column)
        known = f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
        return known if interval.is_known else "–"

    def claim_published(self, claim: Claim) -> str:
        """Return the published difference of a claim, or the crash it involves."""
        change = published_difference(claim)
        if change is not None:
            return signed(change, self.digits(claim.column))
        base, other = (self.value(value, claim.column) for value in claim.published)
        return "–" if None in claim.published else f"{other} vs. {base}"

    def claim_ours(self, claim: Claim) -> str:
        """Return our difference of a claim, or the crash it involves."""
        if claim.base is None or claim.other is None or claim.outcome is Outcome.MISSING:
            return "–"
        if claim.base.crashed or claim.other.crashed:
            other, base = (self._side(row, claim.column) for row in (claim.other, claim.base))
            return f"{other} vs. {base}"
        lost = [f"{len(row.crashes)} of {ended(row)}" for row in (claim.other, claim.base) if row.crashes]
        without = f" (without {listed(lost)} runs that crashed)" if lost and not self.findings.is_distribution else ""
        return signed(claim.interval.mean, self.digits(claim.column)) + without

    def _side(self, row: Row, column: str) -> str:
        """Return our value of a row of a claim of which a row crashed, with the number of runs that crashed unless all did."""
        if not row.crashed:
            return self.number(row.scores[column].interval.mean, column)
        return CRASH if not row.runs else f"{CRASH} ({len(row.crashes)} of {ended(row)})"

    def number(self, value: float, column: str) -> str:
        """Return a value of a column."""
        return f"{value:.{self.digits(column)}f}"

    def outcome(self, claim: Claim) -> str:
        """Return the outcome of a claim, with the crashes in which our runs differ from the paper."""
        outcome = claim.outcome.replace("repeat", self.spec.repeats)
        if claim.outcome is Outcome.MISSING or claim.base is None or claim.other is None:
            return outcome
        pairs = zip((claim.base, claim.other), claim.published, strict=True)
        changed = [
            "no crash here" if published == CRASH else "crash only here"
            for row, published in pairs
            if published is not None and row.crashed != (published == CRASH)
        ]
        if claim.base.crashed and claim.other.crashed:
            changed = ["both crash here"]
        return "; ".join([outcome, *dict.fromkeys(changed)])

    def headline(self) -> str:
        """Return the answer in one line."""
        main = [claim for claim in self.claims if claim.column == self.findings.main]
        if all(row.rank_value(self.findings.main) is None for row in self.findings.rows):
            return "No row of this table has been measured yet."
        measured = Counter(claim.outcome for claim in main)
        if set(measured) - {Outcome.MISSING}:
            return count_outcomes(measured, self.spec.repeats)
        if self.agreements:
            first = self.agreements[0]
            return f"{first.same} of {first.pairs} pairs of rows are in the paper's order; by chance it would be half of them."
        return self.best_row()

    def best_row(self) -> str:
        """Return the sentence on the row that is highest here, and in the paper."""
        column, rows = self.findings.main, self.findings.rows
        top = _highest([(row, row.rank_value(column)) for row in rows])
        if top is None:
            return "All completed runs crashed." if any(row.crashes for row in rows) else ""
        if len(rows) == 1:
            return f"{capital(self.metric(column))}: {self.ours(top, column)} here, {self.published(top, column)} in the paper."
        tied = _number_tied([row.rank_value(column) for row in rows])
        best = f"Highest {self.metric(column)} here: {self.label(top.columns)} with {self.ours(top, column)}"
        if tied > 1:
            value = self.number(top.rank_value(column) or 0.0, column)
            best = f"Highest {self.metric(column)} here: {tied} rows are tied at {value}"
        published_top = _highest([(row, row.published_rank_value(column)) for row in rows])
        if published_top is None:
            return f"{best}."
        name = "the same row" if published_top is top and tied == 1 else self.label(published_top.columns)
        tied_in_paper = _number_tied([row.published_rank_value(column) for row in rows])
        name = name if tied_in_paper == 1 else f"{tied_in_paper} rows tied"
        return f"{best}; in the paper: {name} with {self.published(published_top, column)}."

    def claim_sentences(self) -> list[str]:
        """Return a sentence for each outcome, with its claims."""
        groups: dict[Outcome, list[str]] = {}
        for claim in self.claims:
            if claim.column == self.findings.main:
                sides = {"here": self.claim_ours(claim), "paper": self.claim_published(claim)}
                numbers = ", ".join(f"{side} {number}" for side, number in sides.items() if number != "–")
                _, *crashes = self.outcome(claim).split("; ")
                details = "; ".join(part for part in (numbers, *crashes) if part)
                groups.setdefault(claim.outcome, []).append(
                    f"{claim.pair.claim} ({details})" if details else claim.pair.claim
                )
        leads = {outcome: outcome_lead(outcome, self.spec.repeats) for outcome in Outcome}
        return [f"{leads[outcome]}: {'; '.join(groups[outcome])}." for outcome in Outcome if outcome in groups]

    def ranking_sentence(self, agreement: Agreement) -> str:
        """Return the sentence on the ranking of the rows by one column."""
        where = f" by {self.title(agreement.column)}" if len(self.spec.metrics) > 1 else ""
        ranks = f"Kendall's τ {signed(agreement.kendall, 2)}, Spearman's ρ {signed(agreement.spearman, 2)}"
        size = f"{ranks}, n = {agreement.rows} rows" if not math.isnan(agreement.kendall) else f"{agreement.rows} rows"
        count = agreement.distinguished_same + agreement.distinguished_opposite
        distinguished = (
            f"our runs distinguish {count} of these pairs, {agreement.distinguished_same} of them in the paper's order"
        )
        return (
            f"Of the {pluralize(agreement.pairs, 'pair')} of rows that the paper orders{where}, {agreement.same} have the same "
            f"order here, {agreement.opposite} the opposite order, and {agreement.tied} are tied ({size}; a crash ranks below "
            f"every value). By chance half of the pairs would have the same order; {distinguished}."
        )

    def crash_sentence(self, crashes: Crashes) -> str:
        """Return the sentence on the rows that crash here, and in the paper."""
        published = len(crashes.both) + len(crashes.published_only)
        if not published and not crashes.ours_only:
            return ""
        parts = []
        if published:
            counts = [f"{count_crashes(len(crashes.both), 'here')}{self._named(crashes.both)}"]
            if crashes.published_only and crashes.both:
                verb = "does" if len(crashes.published_only) == 1 else "do"
                counts.append(f"{len(crashes.published_only)} {verb} not{self._named(crashes.published_only)}")
            parts.append(f"of the {pluralize(published, 'row')} with a crash in the paper, {listed(counts)}")
        if crashes.ours_only:
            parts.append(f"{count_crashes(len(crashes.ours_only), 'only here')}{self._named(crashes.ours_only)}")
        return f"{capital('; '.join(parts))}."

    def _named(self, rows: Sequence[Row]) -> str:
        """Return the names of rows, in parentheses."""
        return f" ({'; '.join(self.label(row.columns) for row in rows)})" if rows else ""


def _identifying_columns(findings: TableFindings) -> list[str]:
    """Return the varied columns that suffice to identify the rows: a learning rate specific to a network adds nothing."""
    names = findings.varied
    for name in reversed(findings.varied):
        fewer = [other for other in names if other != name]
        if len({repr([row.columns.get(other) for other in fewer]) for row in findings.rows}) == len(findings.rows):
            names = fewer
    return names


def ended(row: Row) -> int:
    """Return how many runs of a row have ended."""
    return len(row.crashes) + len(row.runs)


def _number_tied(values: Sequence[float | None]) -> int:
    """Return how many rows have the highest value."""
    known = [value for value in values if value is not None]
    return known.count(max(known)) if known else 0


def _highest(ranked: Sequence[tuple[Row, float | None]]) -> Row | None:
    """Return the row with the highest value, excluding crashes; None if there is none."""
    known = [(value, row) for row, value in ranked if value is not None and value > -math.inf]
    return max(known, key=lambda pair: pair[0])[1] if known else None
