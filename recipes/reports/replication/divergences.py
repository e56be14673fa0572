"""Diverged runs by row, compared with the crashes that the paper prints."""

from collections.abc import Sequence
from dataclasses import dataclass

from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.statistics import rate_interval
from recipes.study.published import CRASH


@dataclass(frozen=True)
class Divergence:
    """Rate at which the runs of a row diverged, with Wilson's interval."""

    row: Row
    low: float
    high: float


@dataclass(frozen=True)
class Divergences:
    """Rows with runs that ended, by what the paper prints in the first column."""

    crash: tuple[Row, ...]
    """Rows with a crash in the paper."""
    value: tuple[Row, ...]
    """Rows with a value in the paper."""
    unpublished: tuple[Row, ...]

    @property
    def rates(self) -> tuple[Divergence, ...]:
        """Return the rate of every row that has a diverged run here, or a crash in the paper."""
        return tuple(
            Divergence(row, *rate_interval(len(row.crashes), row.ended))
            for rows in (self.crash, self.value, self.unpublished)
            for row in rows
            if row.crashes or rows is self.crash
        )

    @property
    def crash_rows_diverged(self) -> int:
        """Return in how many of the rows with a crash in the paper at least half of the runs diverged."""
        return sum(row.crashed for row in self.crash)


def find_divergences(findings: TableFindings) -> Divergences:
    """Return the rows with runs that ended, by what the paper prints."""
    groups: dict[str, list[Row]] = {"crash": [], "value": [], "unpublished": []}
    for row in findings.rows:
        if row.ended:
            published = row.scores[findings.main].published
            groups["crash" if published == CRASH else "unpublished" if published is None else "value"].append(row)
    return Divergences(**{name: tuple(rows) for name, rows in groups.items()})


def count_diverged(rows: Sequence[Row]) -> tuple[int, int]:
    """Return how many runs of these rows diverged, and how many ended."""
    return sum(len(row.crashes) for row in rows), sum(row.ended for row in rows)
