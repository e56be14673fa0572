"""Owns the words of a report beside a printed table: how rows, values and crashes are written, and the sentences on them."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.reports.agreement import Agreement, Claim, Crashes, Outcome, printed_difference
from recipes.reports.outcome_words import count_outcomes, crash_here, lead_of
from recipes.reports.sentences import capital, listed, mean_and_half, signed
from recipes.reports.statistics import Interval
from recipes.reports.table_findings import Row, TableFindings
from recipes.run.runner import counted
from recipes.study.published import CRASH, PrintedValue, as_number

DOUBTFUL = "†"
"""The mark of a printed value that looks like a fault of the text recognition."""


class TableWords:
    """How a table's columns, rows and numbers are written, and the sentences made of them."""

    def __init__(self, findings: TableFindings, claims: Sequence[Claim], agreements: Sequence[Agreement]) -> None:
        """Take the findings to put in words."""
        self.findings, self.reading = findings, findings.reading
        self.claims, self.agreements = claims, agreements
        self.varied = findings.varied
        self.naming = _naming(findings) if findings.is_distribution else self.varied

    def title(self, name: str) -> str:
        """Return the study's title of a column, a level or a metric, or its name with spaces."""
        return str(self.reading.titles[name]) if name in self.reading.titles else name.replace("_", " ")

    def entry(self, value: Any) -> str:
        """Return what a row has in a column: numbers in their shortest form, lists with commas."""
        if isinstance(value, list | tuple):
            return ", ".join(map(self.entry, value))
        number = None if str(value) in self.reading.titles else as_number(value)
        return str(self.reading.titles.get(str(value), value)) if number is None else f"{number:g}"

    def label(self, columns: Mapping[str, Any], without: Sequence[str] = ()) -> str:
        """Return a row's name: its entries in the columns in which rows differ, a number with its column before it."""
        parts = []
        for name, value in columns.items():
            if name in self.naming and name not in without and value is not None:
                bare = as_number(value) is not None or isinstance(value, list | tuple)
                parts.append(f"{self.title(name)} {self.entry(value)}" if bare else self.entry(value))
        return ", ".join(parts) or "all runs"

    def constants(self) -> str:
        """Return the sentence on the columns in which all rows agree, or nothing."""
        if not self.findings.rows:
            return ""
        same = {name: self.findings.rows[0].columns[name] for name in self.findings.columns if name not in self.varied}
        told = [f"{self.title(name)} {self.entry(value)}" for name, value in same.items() if value is not None]
        return f"The same in every row: {', '.join(told)}." if told else ""

    def digits(self, column: str) -> int:
        """Return how many decimals the values of a column get: one for per cent, three for what lies around 1 and below."""
        scores = [row.scores[column] for row in self.findings.rows]
        ours = [abs(score.interval.mean) for score in scores if not math.isnan(score.interval.mean)]
        printed = [abs(score.printed) for score in scores if isinstance(score.printed, float)]
        return 3 if (ours or printed) and max([*ours, *printed]) <= 1.5 else 1

    def metric(self, column: str) -> str:
        """Return the name of a column's metric; in a distribution it is the share of good draws."""
        if self.findings.is_distribution:
            return f"share of the draws within 2 points of the best {self.title(column)}"
        return self.title(column)

    def ours(self, row: Row, column: str) -> str:
        """Return our value of a row: mean and half-width, or how many crashed."""
        ended = len(row.crashes) + len(row.runs)
        if self.findings.is_distribution or not row.crashes:
            return mean_and_half(row.scores[column].interval, self.digits(column))
        if not row.runs:
            return CRASH if ended == 1 else f"{CRASH} ({ended} of {ended})"
        told = f"{len(row.crashes)} of {ended} crash"
        return told if row.crashed else f"{mean_and_half(row.scores[column].interval, self.digits(column))} ({told})"

    def printed(self, row: Row, column: str) -> str:
        """Return the printed value of a row, with a mark where it is doubtful."""
        score = row.scores[column]
        return self.value(score.printed, column) + (DOUBTFUL if score.doubtful else "")

    def value(self, value: PrintedValue, column: str) -> str:
        """Return a printed value."""
        return "–" if value is None else value if isinstance(value, str) else f"{value:.{self.digits(column)}f}"

    def beside(self, row: Row, column: str) -> str:
        """Return how our value stands to the printed one: the difference, or which of the two crashed."""
        printed, standing = row.scores[column].printed, row.standing(column)
        if printed is None or standing is None:
            return "–"
        if isinstance(printed, str):
            return "both crash" if row.crashed else "paper alone crashes"
        return "ours alone crashes" if row.crashed else signed(standing - printed, self.digits(column))

    def bounds(self, interval: Interval, column: str) -> str:
        """Return the ends of an interval of differences."""
        digits = self.digits(column)
        known = f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
        return known if interval.is_known else "–"

    def claim_printed(self, claim: Claim) -> str:
        """Return the paper's side of a claim: its difference, or the crash in it."""
        change = printed_difference(claim)
        if change is not None:
            return signed(change, self.digits(claim.column))
        base, other = (self.value(value, claim.column) for value in claim.printed)
        return "–" if None in claim.printed else f"{other} against {base}"

    def claim_ours(self, claim: Claim) -> str:
        """Return our side of a claim: the difference, or the crash in it."""
        if claim.base is None or claim.other is None or claim.outcome is Outcome.MISSING:
            return "–"
        if claim.base.crashed or claim.other.crashed:
            rows = claim.other, claim.base
            other, base = (CRASH if r.crashed else f"{r.scores[claim.column].interval.mean:.1f}" for r in rows)
            return f"{other} against {base}"
        return signed(claim.interval.mean, self.digits(claim.column))

    def outcome(self, claim: Claim) -> str:
        """Return what ours say on a claim, with the crash where the paper and we differ in it."""
        said = claim.outcome.replace("repeat", self.reading.repeats)
        if claim.outcome is Outcome.MISSING or claim.base is None or claim.other is None:
            return said
        pairs = zip((claim.base, claim.other), claim.printed, strict=True)
        changed = [
            "no crash here" if printed == CRASH else "crash here alone"
            for row, printed in pairs
            if printed is not None and row.crashed != (printed == CRASH)
        ]
        both = ["both crash"] if claim.base.crashed and claim.other.crashed else []
        return "; ".join([said, *both, *dict.fromkeys(changed)])

    def headline(self) -> str:
        """Return the answer in one line."""
        main = [claim for claim in self.claims if claim.column == self.findings.main]
        if all(row.standing(self.findings.main) is None for row in self.findings.rows):
            return "No row of this table is measured yet."
        measured = Counter(claim.outcome for claim in main)
        if set(measured) - {Outcome.MISSING}:
            return count_outcomes(measured, self.reading.repeats)
        if self.agreements:
            first = self.agreements[0]
            return f"{first.same} of {first.pairs} pairs of rows stand in the paper's order."
        return self.best()

    def best(self) -> str:
        """Return which row is highest here, and which in the paper."""
        column, rows = self.findings.main, self.findings.rows
        top = _highest([(row, row.standing(column)) for row in rows])
        if top is None:
            return "Every run that ended crashed." if any(row.crashes for row in rows) else ""
        if len(rows) == 1:
            return f"{capital(self.metric(column))} here {self.ours(top, column)}, in the paper {self.printed(top, column)}."
        said = f"Highest {self.metric(column)} here: {self.label(top.columns)} with {self.ours(top, column)}"
        first = _highest([(row, row.printed_standing(column)) for row in rows])
        if first is None:
            return f"{said}."
        same = "the same row" if first is top else self.label(first.columns)
        return f"{said}; in the paper, {same} with {self.printed(first, column)}."

    def claims_told(self) -> list[str]:
        """Return a sentence for each outcome, with the claims that ended so."""
        groups: dict[Outcome, list[str]] = {}
        for claim in self.claims:
            if claim.column == self.findings.main:
                sides = {"here": self.claim_ours(claim), "paper": self.claim_printed(claim)}
                told = ", ".join(f"{side} {number}" for side, number in sides.items() if number != "–")
                _, *differs = self.outcome(claim).split("; ")
                inside = "; ".join(part for part in (told, *differs) if part)
                groups.setdefault(claim.outcome, []).append(
                    f"{claim.pair.claim} ({inside})" if inside else claim.pair.claim
                )
        leads = {outcome: lead_of(outcome, self.reading.repeats) for outcome in Outcome}
        return [f"{leads[outcome]}: {'; '.join(groups[outcome])}." for outcome in Outcome if outcome in groups]

    def order(self, agreement: Agreement) -> str:
        """Return the sentence on the order of the rows in one column."""
        where = f" by {self.title(agreement.column)}" if len(self.reading.metrics) > 1 else ""
        ranks = f"Kendall's τ {signed(agreement.kendall, 2)}, Spearman's ρ {signed(agreement.spearman, 2)}"
        size = f"{ranks}, n = {agreement.rows} rows" if not math.isnan(agreement.kendall) else f"{agreement.rows} rows"
        told = agreement.told_same + agreement.told_opposite
        sure = f"our intervals tell {told} of these pairs apart, {agreement.told_same} of them in the paper's order"
        return (
            f"Of the {counted(agreement.pairs, 'pair')} of rows that the paper orders{where}, {agreement.same} stand in the same "
            f"order here, {agreement.opposite} in the opposite one and {agreement.tied} in none ({size}; a crash is below every "
            f"value); {sure}."
        )

    def crashes_told(self, crashes: Crashes) -> str:
        """Return the sentence on the rows that crash here, and in the paper."""
        printed = len(crashes.both) + len(crashes.printed)
        if not printed and not crashes.ours:
            return ""
        said = []
        if printed:
            parts = [f"{crash_here(len(crashes.both), 'here')}{self._named(crashes.both)}"]
            if crashes.printed and crashes.both:
                parts.append(f"{len(crashes.printed)} not{self._named(crashes.printed)}")
            said.append(f"of the {counted(printed, 'row')} where the paper prints a crash, {listed(parts)}")
        if crashes.ours:
            said.append(f"{crash_here(len(crashes.ours), 'here alone')}{self._named(crashes.ours)}")
        return f"{capital('; '.join(said))}."

    def _named(self, rows: Sequence[Row]) -> str:
        """Return rows by their names, in brackets."""
        return f" ({'; '.join(self.label(row.columns) for row in rows)})" if rows else ""


def _naming(findings: TableFindings) -> list[str]:
    """Return the varied columns that it takes to tell the rows apart: a network's own rates name nothing more."""
    names = findings.varied
    for name in reversed(findings.varied):
        fewer = [other for other in names if other != name]
        if len({repr([row.columns.get(other) for other in fewer]) for row in findings.rows}) == len(findings.rows):
            names = fewer
    return names


def _highest(standings: Sequence[tuple[Row, float | None]]) -> Row | None:
    """Return the row that stands highest, the crashes left out; None where there is none."""
    known = [(standing, row) for row, standing in standings if standing is not None and standing > -math.inf]
    return max(known, key=lambda pair: pair[0])[1] if known else None
