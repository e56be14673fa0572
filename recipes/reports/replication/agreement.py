"""Agreement of the order of our rows with that of the published rows, and the ranks of both."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from recipes.reports.replication.differences import compare
from recipes.reports.replication.differences import difference as difference
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.statistics import SIGNIFICANCE, holm

RESAMPLES = 9999
"""Permutations of the rows for the p-value of Kendall's tau with ties; up to 7 rows, all of them."""
MOST_PERMUTED = 50
"""Number of rows above which the normal approximation is used instead."""

Ranks = tuple[int, int]
"""Smallest and largest rank of a row, 1 for the best."""


@dataclass(frozen=True)
class Agreement:
    """Agreement between the order of our rows by a column and the published one; a diverged row ranks below every value.

    Of the pairs of rows that the paper orders, our runs order `same` in the same way and `opposite` in the opposite way; `tied`
    are tied. `distinguished_same` and `distinguished_opposite` count only the pairs that differ significantly (each at 5%, not
    adjusted).
    """

    column: str
    rows: int
    same: int
    opposite: int
    tied: int
    distinguished_same: int
    distinguished_opposite: int
    tested: int
    """Number of the pairs that could be tested: at least three runs of each row."""
    kendall: float
    spearman: float
    p_value: float
    """Probability of a Kendall's tau at least as far from 0 if our order had nothing to do with the paper's; NaN without ranks."""
    ranks: Mapping[Row, Ranks]
    """Our ranks: above all rows that are significantly better, adjusted for all pairs of rows (Holm), and below all worse ones."""
    published_ranks: Mapping[Row, Ranks]
    """The paper's ranks; tied rows share theirs."""

    @property
    def pairs(self) -> int:
        """Return the number of pairs that the paper orders."""
        return self.same + self.opposite + self.tied

    @property
    def ordered(self) -> int:
        """Return the number of pairs that both the paper and our runs order, of which half have the same order by chance."""
        return self.same + self.opposite

    @property
    def distinguished(self) -> int:
        """Return the number of pairs that differ significantly."""
        return self.distinguished_same + self.distinguished_opposite

    @property
    def expected_false(self) -> float:
        """Return how many pairs would differ significantly if no two rows differed."""
        return SIGNIFICANCE * self.tested

    @property
    def has_order(self) -> bool:
        """Return whether our runs order the rows: more pairs differ than by chance, or the order as a whole is the paper's.

        Values must differ; where no pair can be tested, the order is stated with its p-value.
        """
        is_distinct = not self.tested or self.distinguished > self.expected_false or self.p_value < SIGNIFICANCE
        return not math.isnan(self.kendall) and is_distinct


def find_agreements(findings: TableFindings) -> list[Agreement]:
    """Return the agreement for every column in which at least three rows have both values."""
    agreements = (_agreement(findings, column) for column in findings.spec.metrics)
    return [agreement for agreement in agreements if agreement]


def _agreement(findings: TableFindings, column: str) -> Agreement | None:
    """Return the agreement for one column, or None with fewer than three rows."""
    values = [(row, row.rank_value(column), row.published_rank_value(column)) for row in findings.rows]
    ranked = [(row, a, b) for row, a, b in values if a is not None and b is not None]
    if len(ranked) < 3:
        return None
    rows, ours, published = zip(*ranked, strict=True)
    our_signs, published_signs = _signs(ours), _signs(published)
    pairs = list(itertools.combinations(range(len(rows)), 2))
    found = {pair: compare(rows[pair[0]], rows[pair[1]], column, findings.chance(column)) for pair in pairs}
    ordered = [pair for pair in pairs if published_signs[pair]]
    same = [int(our_signs[pair] * published_signs[pair]) for pair in ordered]
    distinguished = [-found[pair].sign(found[pair].p_value) * int(published_signs[pair]) for pair in ordered]
    has_ranks = bool(our_signs.any() and published_signs.any())
    our_order, published_order = stats.rankdata(ours), stats.rankdata(published)
    adjusted = holm({repr(pair): found[pair].p_value for pair in pairs})
    signs = {pair: found[pair].sign(adjusted[repr(pair)]) for pair in pairs}
    higher = findings.rows[0].scores[column].metric.higher_is_better
    return Agreement(
        column=column,
        rows=len(rows),
        same=same.count(1),
        opposite=same.count(-1),
        tied=same.count(0),
        distinguished_same=distinguished.count(1),
        distinguished_opposite=distinguished.count(-1),
        tested=sum(not math.isnan(found[pair].p_value) for pair in ordered),
        kendall=float(stats.kendalltau(our_order, published_order).statistic) if has_ranks else math.nan,
        spearman=float(stats.spearmanr(our_order, published_order).statistic) if has_ranks else math.nan,
        p_value=tau_p_value(ours, published) if has_ranks else math.nan,
        ranks=_ranks(rows, {(b, a): sign * (1 if higher else -1) for (a, b), sign in signs.items()}),
        published_ranks=_ranks(rows, {(a, b): int(published_signs[a, b]) * (1 if higher else -1) for a, b in pairs}),
    )


def tau_p_value(ours: Sequence[float], published: Sequence[float]) -> float:
    """Return the two-sided p-value of Kendall's tau if the two orders have nothing to do with each other.

    Without ties the exact one; with ties, over permutations of the rows, or for many rows the normal approximation for ties.
    """
    ranks = stats.rankdata(published)
    has_ties = any(len(set(each)) < len(each) for each in (ours, published))
    if not has_ties or len(ours) > MOST_PERMUTED:
        return float(stats.kendalltau(stats.rankdata(ours), ranks).pvalue)
    signs = _signs(ours)

    def concordance(order: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        """Return the number of pairs in the same order minus that in the opposite one, for each permutation."""
        assert axis == -1
        return np.asarray((np.sign(order[..., :, None] - order[..., None, :]) * signs).sum((-1, -2)))

    found = stats.permutation_test(
        (ranks,), concordance, permutation_type="pairings", n_resamples=RESAMPLES, vectorized=True, batch=500, rng=0
    )
    return min(1.0, float(found.pvalue))


def _signs(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the sign of value i minus value j for every pair of rows; values may be infinite."""
    ranks = stats.rankdata(values)
    return np.sign(ranks[:, None] - ranks[None, :])


def _ranks(rows: Sequence[Row], signs: Mapping[tuple[int, int], int]) -> dict[Row, Ranks]:
    """Return the ranks that rows can have if the first row of a pair is better (+1) or worse (-1) than the second."""
    better, worse = [0] * len(rows), [0] * len(rows)
    for (first, second), sign in signs.items():
        if sign:
            upper, lower = (first, second) if sign > 0 else (second, first)
            worse[upper] += 1
            better[lower] += 1
    return {row: (1 + better[number], len(rows) - worse[number]) for number, row in enumerate(rows)}
