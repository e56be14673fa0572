"""The paper's claims about pairs of rows, tested on our runs; p-values are adjusted for all claims of the table (Holm)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from recipes.reports.next_steps import NextStep, settling_step
from recipes.reports.replication.differences import RowDifference, Weights, boschloo, compare_sum
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.statistics import MIN_SEEDS, SIGNIFICANCE, Interval, holm
from recipes.study.claimed_rows import matches
from recipes.study.published import PublishedValue
from recipes.study.report_specification import Pair

MOST_RUNS = 12
"""Largest number of runs of a row that is proposed where one diverges and the other does not."""


class Outcome(StrEnum):
    """What our runs say about a claim of the paper."""

    SAME = "holds"
    SAME_ONE = "same direction, one repeat"
    OPPOSITE = "reversed"
    OPPOSITE_ONE = "opposite direction, one repeat"
    DEPENDS = "depends on diverged runs"
    INCONCLUSIVE = "inconclusive"
    MISSING = "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in one column, as two rows: `other` is above `base`. Rows that the study lacks are None.

    In a study of gaps the claim is that `other` is closer to its own last value than `base` is.
    """

    pair: Pair
    column: str
    base: Row | None
    other: Row | None
    published: tuple[PublishedValue, PublishedValue]
    """The published values of base and other."""
    difference: RowDifference
    """other - base; in a study of gaps, the gap of base minus the gap of other."""
    p_value: float
    """Adjusted for all claims of the table whose rows the study has (Holm); NaN where nothing can be tested."""
    outcome: Outcome

    @property
    def interval(self) -> Interval:
        """Return the difference of the rows with its interval, not adjusted for the number of claims."""
        return self.difference.interval


UNKNOWN = RowDifference(Interval(math.nan, math.nan, math.nan, 0), math.nan, 0, None, depends_on_diverged=False)


def find_claims(findings: TableFindings) -> list[Claim]:
    """Return every claim of the report spec, for each column."""
    found = [
        (pair, column, _find_row(findings, pair.base), _find_row(findings, pair.other))
        for pair in findings.spec.pairs
        for column in findings.spec.metrics
    ]
    differences: dict[str, RowDifference] = {}
    for number, (_, column, base, other) in enumerate(found):
        if base is not None and other is not None:
            weights = _weights(findings, base, other)
            differences[str(number)] = compare_sum(weights, column, findings.chance(column))
    adjusted = holm({name: each.p_value for name, each in differences.items()})
    claims = []
    for number, (pair, column, base, other) in enumerate(found):
        difference, p_value = differences.get(str(number), UNKNOWN), adjusted.get(str(number), math.nan)
        published = _published(findings, pair.base, base, column), _published(findings, pair.other, other, column)
        outcome = _outcome(base, other, column, difference, p_value)
        claims.append(Claim(pair, column, base, other, published, difference, p_value, outcome))
    return claims


def claim_step(claim: Claim, claims: int) -> NextStep | None:
    """Return what would settle an inconclusive claim, one of so many, if its estimate stays the same; None if that is unknown.

    Where all runs of one row diverged and none of the other: the number of runs at which that is significant.
    """
    if claim.outcome is not Outcome.INCONCLUSIVE or claim.base is None or claim.other is None:
        return None
    rows = claim.base, claim.other
    if not any(row.crashed for row in rows):
        return (
            None
            if any(row.crashes or row.draws for row in rows)
            else settling_step(claim.interval, None, claims=claims)
        )
    if sorted(len(row.crashes) / row.ended for row in rows) != [0.0, 1.0]:
        return None
    counts = range(max(MIN_SEEDS, min(row.ended for row in rows) + 1), MOST_RUNS + 1)
    return NextStep(next((n for n in counts if boschloo(n, n, 0, n) * claims < SIGNIFICANCE), None), None)


def published_difference(claim: Claim) -> float | None:
    """Return the published difference of a claim (not of its gaps), or None where a value is missing or a crash."""
    base, other = claim.published
    return other - base if isinstance(base, float) and isinstance(other, float) else None


def _weights(findings: TableFindings, base: Row, other: Row) -> Weights:
    """Return other - base; in a study of gaps, how much closer `other` is to its own last value."""
    weights = [(-1.0, base), (1.0, other)]
    if findings.spec.figure.kind == "gap":
        weights += [(1.0, findings.last(base)), (-1.0, findings.last(other))]
    return weights


def _find_row(findings: TableFindings, wanted: Mapping[str, Any]) -> Row | None:
    """Return our row with the wanted columns, or None unless there is exactly one."""
    found = [row for row in findings.rows if matches(row.columns, wanted)]
    return found[0] if len(found) == 1 else None


def _published(findings: TableFindings, wanted: Mapping[str, Any], row: Row | None, column: str) -> PublishedValue:
    """Return the published value of a claim's row, even where the study does not include that row."""
    if row:
        return row.scores[column].published
    published_row = findings.published.find(wanted, findings.spec.metrics) if findings.published else None
    return published_row.value(column) if published_row else None


def _outcome(base: Row | None, other: Row | None, column: str, found: RowDifference, p_value: float) -> Outcome:
    """Return the outcome of the claim "other is above base" in our runs."""
    if base is None or other is None or None in (base.rank_value(column), other.rank_value(column)):
        return Outcome.MISSING
    if base.ended == other.ended == 1 and found.direction:
        return Outcome.SAME_ONE if found.direction > 0 else Outcome.OPPOSITE_ONE
    if found.depends_on_diverged and found.direction:
        return Outcome.DEPENDS
    return {1: Outcome.SAME, -1: Outcome.OPPOSITE, 0: Outcome.INCONCLUSIVE}[found.sign(p_value)]
