"""Agreement of a study with a published table: the paper's claims, the ranking of the rows, and the crashes."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scipy import stats

from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.statistics import Interval, paired_differences, student_interval
from recipes.study.published import CRASH, PublishedValue, entries_match
from recipes.study.specification import Pair


class Outcome(StrEnum):
    """What our runs say about a claim of the paper."""

    SAME = "same direction"
    OPPOSITE = "opposite direction"
    SAME_ONE = "same direction, one repeat"
    OPPOSITE_ONE = "opposite direction, one repeat"
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
    points: Mapping[str, float]
    """other - base by repeat; in a study of gaps, the gap of base minus the gap of other."""
    interval: Interval
    outcome: Outcome


@dataclass(frozen=True)
class Agreement:
    """Agreement between our ranking of the rows by a column and the published one; a crash ranks below every value.

    Of the pairs of rows that the paper orders, our runs order `same` in the same way and `opposite` in the opposite way; `tied`
    are tied. `distinguished_same` and `distinguished_opposite` count only the pairs whose paired difference has an interval that
    excludes zero, or of which one row crashed in most of its runs and the other one did not crash.
    """

    column: str
    rows: int
    same: int
    opposite: int
    tied: int
    distinguished_same: int
    distinguished_opposite: int
    kendall: float
    spearman: float

    @property
    def pairs(self) -> int:
        """Return the number of pairs that the paper orders."""
        return self.same + self.opposite + self.tied


@dataclass(frozen=True)
class Crashes:
    """Rows grouped by where they crashed; only rows that are done and have a published value."""

    both: tuple[Row, ...]
    ours_only: tuple[Row, ...]
    published_only: tuple[Row, ...]


def find_claims(findings: TableFindings) -> list[Claim]:
    """Return every claim of the report spec, for each column."""
    return [_claim(findings, pair, column) for pair in findings.spec.pairs for column in findings.spec.metrics]


def find_agreements(findings: TableFindings) -> list[Agreement]:
    """Return the agreement for every column in which at least three rows have both values."""
    agreements = (_agreement(findings, column) for column in findings.spec.metrics)
    return [agreement for agreement in agreements if agreement]


def find_crashes(findings: TableFindings) -> Crashes:
    """Return which rows crash here, in the paper, and in both, by the first column."""
    groups: dict[tuple[bool, bool], list[Row]] = {}
    for row in findings.rows:
        published = row.scores[findings.main].published
        if published is not None and row.rank_value(findings.main) is not None:
            groups.setdefault((row.crashed, published == CRASH), []).append(row)
    both, ours_only, published_only = (
        tuple(groups.get(key, ())) for key in ((True, True), (True, False), (False, True))
    )
    return Crashes(both, ours_only, published_only)


def difference(base: Row, other: Row, column: str) -> tuple[Mapping[str, float], Interval]:
    """Return other - base by repeat, and the interval of its mean."""
    points = paired_differences(base.scores[column].points, other.scores[column].points)
    return points, student_interval(list(points.values()))


def published_difference(claim: Claim) -> float | None:
    """Return the published difference of a claim (not of its gaps), or None where a value is missing or a crash."""
    base, other = claim.published
    return other - base if isinstance(base, float) and isinstance(other, float) else None


def _claim(findings: TableFindings, pair: Pair, column: str) -> Claim:
    """Evaluate a claim in one column, on our runs and on the published table."""
    base, other = (_find_row(findings, wanted) for wanted in (pair.base, pair.other))
    published = _published(findings, pair.base, base, column), _published(findings, pair.other, other, column)
    points = _claimed_difference(findings, base, other, column) if base and other else {}
    interval = student_interval(list(points.values()))
    return Claim(pair, column, base, other, published, points, interval, _outcome(base, other, column, interval))


def _claimed_difference(findings: TableFindings, base: Row, other: Row, column: str) -> Mapping[str, float]:
    """Return other - base by repeat; in a study of gaps, how much closer `other` is to its own last value."""
    if findings.spec.figure.kind != "gap":
        return difference(base, other, column)[0]
    gaps = [difference(findings.last(row), row, column)[0] for row in (base, other)]
    return paired_differences(gaps[0], gaps[1])


def _find_row(findings: TableFindings, wanted: Mapping[str, Any]) -> Row | None:
    """Return our row with the wanted columns, or None unless there is exactly one."""
    found = [row for row in findings.rows if _has(row.columns, wanted)]
    return found[0] if len(found) == 1 else None


def _published(findings: TableFindings, wanted: Mapping[str, Any], row: Row | None, column: str) -> PublishedValue:
    """Return the published value of a claim's row, even where the study does not include that row."""
    if row:
        return row.scores[column].published
    published_row = findings.published.find(wanted, findings.spec.metrics) if findings.published else None
    return published_row.value(column) if published_row else None


def _has(columns: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether a row has the wanted values in the wanted columns."""
    return all(name in columns and entries_match(columns[name], value) for name, value in wanted.items())


def _outcome(base: Row | None, other: Row | None, column: str, interval: Interval) -> Outcome:
    """Return the outcome of the claim "other is above base" in our runs."""
    values = [row.rank_value(column) if row else None for row in (base, other)]
    if values[0] is None or values[1] is None:
        return Outcome.MISSING
    if -math.inf in values:
        assert base is not None and other is not None
        if not _crash_decides(base, other):
            return Outcome.INCONCLUSIVE
        return Outcome.SAME if values[0] == -math.inf else Outcome.OPPOSITE
    if interval.is_known:
        return {1: Outcome.SAME, -1: Outcome.OPPOSITE, 0: Outcome.INCONCLUSIVE}[interval.sign]
    if not interval.count or interval.mean == 0:
        return Outcome.INCONCLUSIVE
    return Outcome.SAME_ONE if interval.mean > 0 else Outcome.OPPOSITE_ONE


def _crash_decides(first: Row, second: Row) -> bool:
    """Return whether exactly one of two rows counts as a crash, and most of its runs crashed."""
    crashed = [row for row in (first, second) if row.crashed]
    return len(crashed) == 1 and len(crashed[0].crashes) > len(crashed[0].runs)


def _agreement(findings: TableFindings, column: str) -> Agreement | None:
    """Return the agreement for one column, or None with fewer than three rows."""
    values = [(row, row.rank_value(column), row.published_rank_value(column)) for row in findings.rows]
    ranked = [(row, a, b) for row, a, b in values if a is not None and b is not None]
    if len(ranked) < 3:
        return None
    rows, ours, published = zip(*ranked, strict=True)
    signs, distinguished = [], []
    for first, second in itertools.combinations(range(len(rows)), 2):
        published_sign = _sign(published[second], published[first])
        if published_sign:
            signs.append(published_sign * _sign(ours[second], ours[first]))
            distinguished.append(signs[-1] * _is_distinguished(rows[first], rows[second], column))
    has_ranks = len(set(ours)) > 1 and len(set(published)) > 1
    kendall, spearman = (
        (
            stats.kendalltau(ours, published).statistic,
            stats.spearmanr(stats.rankdata(ours), stats.rankdata(published)).statistic,
        )
        if has_ranks
        else (math.nan, math.nan)
    )
    return Agreement(
        column=column,
        rows=len(rows),
        same=signs.count(1),
        opposite=signs.count(-1),
        tied=signs.count(0),
        distinguished_same=distinguished.count(1),
        distinguished_opposite=distinguished.count(-1),
        kendall=float(kendall),
        spearman=float(spearman),
    )


def _is_distinguished(first: Row, second: Row, column: str) -> bool:
    """Return whether our runs distinguish two rows: one of them crashed in most runs, or the interval excludes zero."""
    if first.crashed or second.crashed:
        return _crash_decides(first, second)
    return difference(first, second, column)[1].sign != 0


def _sign(one: float, other: float) -> int:
    """Return the sign of one - other, where both may be -inf."""
    return (one > other) - (one < other)
