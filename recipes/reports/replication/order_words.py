"""Wording of the order of the rows: compared with the paper's, and which row is the best."""

import math

from recipes.reports.formatting import capital, p_text, signed
from recipes.reports.replication.agreement import Agreement, Ranks
from recipes.reports.replication.differences import compare
from recipes.reports.replication.findings import Row
from recipes.reports.replication.row_words import MOST_LISTED, RowWords
from recipes.reports.statistics import holm
from recipes.run.runner import pluralize


class OrderWords(RowWords):
    """The sentences and entries about the order of the rows."""

    def ranks_text(self, ranks: Ranks | None) -> str:
        """Return the ranks that a row can have."""
        if ranks is None:
            return "–"
        return f"{ranks[0]}" if ranks[0] == ranks[1] else f"{ranks[0]}–{ranks[1]}"

    def correlation(self, agreement: Agreement) -> str:
        """Return Kendall's tau with its p-value."""
        return f"Kendall's τ {signed(agreement.kendall, 2)}, {p_text(agreement.p_value)}"

    def order_headline(self, agreement: Agreement) -> str:
        """Return the share of the pairs in the paper's order, of those that are not tied, beside that of chance."""
        ties = f", without {pluralize(agreement.tied, 'tied pair')}" if agreement.tied else ""
        return (
            f"{agreement.same} of {agreement.ordered} pairs of rows are in the paper's order {self.where}{ties}; by chance it "
            f"would be half of them ({self.correlation(agreement)})."
        )

    def ranking_sentence(self, agreement: Agreement) -> str:
        """Return the sentence on the order of the rows by one column."""
        where = f" by {self.title(agreement.column)}" if len(self.spec.metrics) > 1 else ""
        if not agreement.has_order:
            return self._no_order(agreement)
        ranks = (
            f"{self.correlation(agreement)}, Spearman's ρ {signed(agreement.spearman, 2)}, n = {agreement.rows} rows"
        )
        found, chance = f" and {agreement.opposite} the opposite order", "half of them"
        if agreement.tied:
            found = f", {agreement.opposite} the opposite order, and {agreement.tied} {'is' if agreement.tied == 1 else 'are'} tied"
            chance = f"half of the {agreement.ordered} others"
        return (
            f"Of the {pluralize(agreement.pairs, 'pair')} of rows that the paper orders{where}, {agreement.same} have the same "
            f"order here{found}; by chance {chance} would have the same order ({ranks}). {self._distinguished(agreement)}"
        )

    def _distinguished(self, agreement: Agreement) -> str:
        """Return how many pairs differ significantly, beside how many would by chance."""
        if not agreement.tested:
            return f"With fewer than three {self.spec.repeats}s the noise of this order is unknown."
        count, false = agreement.distinguished, f"about {agreement.expected_false:.1f} would if no two rows differed"
        if not count:
            return f"None of the {pluralize(agreement.tested, 'pair')} differs significantly by itself; {false}."
        return (
            f"{count} of the {pluralize(agreement.tested, 'pair')} {'differs' if count == 1 else 'differ'} significantly by "
            f"{'itself' if count == 1 else 'themselves'}, {agreement.distinguished_same} in the paper's order; {false}."
        )

    def _no_order(self, agreement: Agreement) -> str:
        """Return that our runs do not order the rows."""
        if math.isnan(agreement.kendall):
            return "The rows cannot be ordered: here or in the paper all of them are equal."
        tau = f"Kendall's τ with the paper: {p_text(agreement.p_value)}"
        return f"Our runs do not order the rows ({tau}). {self._distinguished(agreement)}"

    def best_row(self) -> str:
        """Return the sentence on the row that is best here, or on those within noise of it, and on the best in the paper."""
        column, rows = self.findings.main, [row for row in self.findings.rows if not row.crashed]
        measured = [row for row in rows if row.rank_value(column) is not None]
        if not measured:
            return ""
        if len(self.findings.rows) == 1:
            published = f", {self.published(measured[0], column)} in the paper" if self.findings.published else ""
            return f"{capital(self.metric(column))}: {self.ours(measured[0], column)} here{published}."
        higher = measured[0].scores[column].metric.higher_is_better
        sign = 1 if higher else -1
        top = max(measured, key=lambda row: sign * (row.rank_value(column) or 0.0))
        return (
            f"{self._best_here(top, measured, column, 'highest' if higher else 'lowest')}{self._best_in_paper(column)}"
        )

    def _best_here(self, top: Row, measured: list[Row], column: str, best: str) -> str:
        """Return the sentence on the best row here, tested against each other one (Holm)."""
        others = [row for row in measured if row is not top]
        found = {
            str(number): compare(row, top, column, self.findings.chance(column)) for number, row in enumerate(others)
        }
        adjusted = holm({name: each.p_value for name, each in found.items()})
        within = [row for number, row in enumerate(others) if not found[str(number)].sign(adjusted[str(number)])]
        name, value = self.label(top.columns), self.number(top.scores[column].interval.mean, column)
        metric = self.metric(column)
        tied = [row for row in within if row.rank_value(column) == top.rank_value(column)]
        if not within:
            side = "above" if best == "highest" else "below"
            end = f", significantly {side} every other row" if others else ""
            return f"{capital(best)} {metric} here: {name} with {self.ours(top, column)}{end}."
        if all(math.isnan(each.p_value) for each in found.values()) and not tied:
            return f"{capital(best)} {metric} here: {name} with {self.ours(top, column)}; the noise is unknown."
        if len(within) == len(others):
            return f"No best row: all {len(measured)} rows are within noise of the {best} {metric} here ({value})."
        start = f"{len(within) + 1} of {len(measured)} rows are within noise of the {best} {metric} here ({value})"
        if len(within) < MOST_LISTED:
            return f"{start}: {self.named([top, *within])}."
        below = [row for row in others if row not in within]
        return f"{start}, all but {self.named(below)}." if len(below) <= MOST_LISTED else f"{start}."

    def _best_in_paper(self, column: str) -> str:
        """Return the sentence on the best row in the paper; empty if it has no values."""
        values = [(row, row.published_rank_value(column)) for row in self.findings.rows]
        known = [(row, value) for row, value in values if value is not None and math.isfinite(value)]
        if not known:
            return ""
        higher = known[0][0].scores[column].metric.higher_is_better
        best = (max if higher else min)(value for _, value in known)
        rows = [row for row, value in known if value == best]
        names = self.named(rows) if len(rows) <= 2 else f"{len(rows)} rows tied"
        value = f" with {self.value(best, column)}" if self.findings.is_paper_scale else ""
        return f" {'Highest' if higher else 'Lowest'} in the paper: {names}{value}."
