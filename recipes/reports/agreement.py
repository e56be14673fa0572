"""Owns how far a study agrees with its printed table: the paper's claims one by one, the order of the rows, the crashes."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scipy import stats

from recipes.reports.statistics import Interval, paired_differences, student_interval
from recipes.reports.table_findings import Row, TableFindings
from recipes.study.published import CRASH, PrintedValue, is_same
from recipes.study.specification import Pair


class Outcome(StrEnum):
    """What a study says on a claim of the paper."""

    SAME = "same direction"
    OPPOSITE = "opposite direction"
    SAME_ONE = "same direction, one repeat"
    OPPOSITE_ONE = "opposite direction, one repeat"
    UNCLEAR = "not distinguishable"
    MISSING = "not measured"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in one column, as two rows: `other` is above `base`. Rows are None where the study lacks them.

    In a study of gaps `other` is nearer to its own last value than `base` is.
    """

    pair: Pair
    column: str
    base: Row | None
    other: Row | None
    printed: tuple[PrintedValue, PrintedValue]
    """The printed values of base and other."""
    points: Mapping[str, float]
    """other - base by repeat, or the gap of base less that of other."""
    interval: Interval
    outcome: Outcome


@dataclass(frozen=True)
class Agreement:
    """How a column orders the rows, ours against the printed one; a crash is below every value.

    Of the pairs of rows that the paper orders, `same` are ordered the same way by us, `opposite` the other way, `tied` not at
    all. `told_same` and `told_opposite` are those of them whose paired difference, ours, has an interval without zero, or of
    which one crashed.
    """

    column: str
    rows: int
    same: int
    opposite: int
    tied: int
    told_same: int
    told_opposite: int
    kendall: float
    spearman: float

    @property
    def pairs(self) -> int:
        """Return how many pairs the paper orders."""
        return self.same + self.opposite + self.tied


@dataclass(frozen=True)
class Crashes:
    """Rows by where they crashed, among those that are done and have a printed value."""

    both: tuple[Row, ...]
    ours: tuple[Row, ...]
    printed: tuple[Row, ...]
    neither: tuple[Row, ...]


def find_claims(findings: TableFindings) -> list[Claim]:
    """Return every claim of the reading, column by column."""
    return [_claim(findings, pair, column) for pair in findings.reading.pairs for column in findings.reading.metrics]


def find_agreements(findings: TableFindings) -> list[Agreement]:
    """Return the agreement of every column in which at least three rows have both values."""
    found = (_agreement(findings, column) for column in findings.reading.metrics)
    return [one for one in found if one]


def find_crashes(findings: TableFindings) -> Crashes:
    """Return which rows crash here, in the paper, in both, in neither, by the first column."""
    groups: dict[tuple[bool, bool], list[Row]] = {}
    for row in findings.rows:
        printed = row.scores[findings.main].printed
        if printed is not None and row.standing(findings.main) is not None:
            groups.setdefault((row.crashed, printed == CRASH), []).append(row)
    both, ours, theirs, neither = (
        tuple(groups.get(key, ())) for key in ((True, True), (True, False), (False, True), (False, False))
    )
    return Crashes(both, ours, theirs, neither)


def difference(base: Row, other: Row, column: str) -> tuple[Mapping[str, float], Interval]:
    """Return other - base by repeat, and the interval of its mean."""
    points = paired_differences(base.scores[column].points, other.scores[column].points)
    return points, student_interval(list(points.values()))


def _claim(findings: TableFindings, pair: Pair, column: str) -> Claim:
    """Return what ours and the printed table say on a claim in one column."""
    base, other = (_find_row(findings, wanted) for wanted in (pair.base, pair.other))
    printed = _printed(findings, pair.base, base, column), _printed(findings, pair.other, other, column)
    points = _claimed(findings, base, other, column) if base and other else {}
    interval = student_interval(list(points.values()))
    return Claim(pair, column, base, other, printed, points, interval, _outcome(base, other, column, interval))


def _claimed(findings: TableFindings, base: Row, other: Row, column: str) -> Mapping[str, float]:
    """Return other - base by repeat; in a study of gaps, how much nearer to its own last value `other` is."""
    if findings.reading.figure.kind != "gap":
        return difference(base, other, column)[0]
    gaps = [difference(findings.last(row), row, column)[0] for row in (base, other)]
    return paired_differences(gaps[0], gaps[1])


def _find_row(findings: TableFindings, wanted: Mapping[str, Any]) -> Row | None:
    """Return the one row of ours with the wanted columns."""
    found = [row for row in findings.rows if _has(row.columns, wanted)]
    return found[0] if len(found) == 1 else None


def _printed(findings: TableFindings, wanted: Mapping[str, Any], row: Row | None, column: str) -> PrintedValue:
    """Return the printed value of a claim's row, also where the study leaves that row out."""
    if row:
        return row.scores[column].printed
    beside = findings.printed.find(wanted, findings.reading.metrics) if findings.printed else None
    return beside.value(column) if beside else None


def _has(columns: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether a row has the wanted values in the wanted columns."""
    return all(name in columns and is_same(columns[name], value) for name, value in wanted.items())


def _outcome(base: Row | None, other: Row | None, column: str, interval: Interval) -> Outcome:
    """Return what ours say on "other is above base"."""
    standings = [row.standing(column) if row else None for row in (base, other)]
    if standings[0] is None or standings[1] is None:
        return Outcome.MISSING
    if -math.inf in standings:
        if standings[0] == standings[1]:
            return Outcome.UNCLEAR
        return Outcome.SAME if standings[0] == -math.inf else Outcome.OPPOSITE
    if interval.is_known:
        return {1: Outcome.SAME, -1: Outcome.OPPOSITE, 0: Outcome.UNCLEAR}[interval.sign]
    if not interval.count or interval.mean == 0:
        return Outcome.UNCLEAR
    return Outcome.SAME_ONE if interval.mean > 0 else Outcome.OPPOSITE_ONE


def _agreement(findings: TableFindings, column: str) -> Agreement | None:
    """Return the agreement of one column, or None with fewer than three rows."""
    rows = [
        row for row in findings.rows if row.standing(column) is not None and row.printed_standing(column) is not None
    ]
    if len(rows) < 3:
        return None
    ours = [_number(row.standing(column)) for row in rows]
    theirs = [_number(row.printed_standing(column)) for row in rows]
    signs, told = [], []
    for first, second in itertools.combinations(range(len(rows)), 2):
        wanted = _sign(theirs[second], theirs[first])
        if wanted:
            signs.append(wanted * _sign(ours[second], ours[first]))
            told.append(signs[-1] * _is_told(rows[first], rows[second], column))
    varied = len(set(ours)) > 1 and len(set(theirs)) > 1
    kendall, spearman = (
        (
            stats.kendalltau(ours, theirs).statistic,
            stats.spearmanr(stats.rankdata(ours), stats.rankdata(theirs)).statistic,
        )
        if varied
        else (math.nan, math.nan)
    )
    return Agreement(
        column=column,
        rows=len(rows),
        same=signs.count(1),
        opposite=signs.count(-1),
        tied=signs.count(0),
        told_same=told.count(1),
        told_opposite=told.count(-1),
        kendall=float(kendall),
        spearman=float(spearman),
    )


def _is_told(first: Row, second: Row, column: str) -> bool:
    """Tell whether our runs tell two rows apart: by a crash, or by an interval without zero."""
    if first.crashed or second.crashed:
        return first.crashed != second.crashed
    return difference(first, second, column)[1].sign != 0


def _number(standing: float | None) -> float:
    """Return a standing that is known."""
    assert standing is not None
    return standing


def _sign(one: float, other: float) -> int:
    """Return the sign of one - other, where both may be -inf."""
    return (one > other) - (one < other)


def printed_difference(claim: Claim) -> float | None:
    """Return the printed difference of a claim (not its gaps), or None where a value is missing or a crash."""
    base, other = claim.printed
    return other - base if isinstance(base, float) and isinstance(other, float) else None
