"""Wording of the runs that diverged, compared with the crashes in the paper."""

from collections.abc import Sequence

from recipes.reports.replication.divergences import Divergences, count_diverged
from recipes.reports.replication.findings import Row
from recipes.reports.replication.row_words import RowWords, at_most
from recipes.run.runner import pluralize


class DivergenceWords(RowWords):
    """The sentences about runs that diverged."""

    def divergence_sentence(self, found: Divergences) -> str:
        """Return how many runs diverged where the paper has a crash, where the paper has a value, and in which rows."""
        if not found.rates:
            return ""
        count, total = count_diverged([*found.crash, *found.value, *found.unpublished])
        if count == total:
            crash = f", in the {pluralize(len(found.crash), 'row')} with a crash in the paper and in all others"
            return f"All {pluralize(total, 'run')} diverged{crash if found.crash and found.value else ''}."
        parts = []
        if found.crash:
            where = f"where the paper has a crash ({pluralize(len(found.crash), 'row')})"
            parts.append(self._part(where, found.crash, found.crash))
        if found.value:
            where = f"where the paper has a value ({pluralize(len(found.value), 'row')})"
            parts.append(self._part(where, found.value, [row for row in found.value if row.crashes]))
        if found.unpublished:
            where = f"in the {pluralize(len(found.unpublished), 'row')} without a published value" if parts else ""
            parts.append(self._part(where, found.unpublished, [row for row in found.unpublished if row.crashes]))
        return f"Diverged runs: {'. '.join(part[0].upper() + part[1:] if number else part for number, part in enumerate(parts))}."

    def _part(self, where: str, rows: Sequence[Row], named: Sequence[Row]) -> str:
        """Return how many runs of rows diverged, with the rate of the named ones."""
        count, total = count_diverged(rows)
        rates = at_most([f"{self.label(row.columns)}: {len(row.crashes)} of {row.ended}" for row in named])
        start = f"{where} " if where else ""
        return f"{start}{count} of {total}{f' ({rates})' if named and count else ''}"
