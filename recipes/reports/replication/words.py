"""Wording of a report compared with a published table: the headline, and the sentences about claims, order and divergence."""

from collections.abc import Sequence

from recipes.reports.replication.agreement import Agreement
from recipes.reports.replication.claim_words import ClaimWords
from recipes.reports.replication.claims import Claim
from recipes.reports.replication.divergence_words import DivergenceWords
from recipes.reports.replication.findings import TableFindings
from recipes.reports.replication.order_words import OrderWords
from recipes.reports.replication.row_words import DOUBTFUL as DOUBTFUL
from recipes.run.runner import pluralize


class TableWords(ClaimWords, OrderWords, DivergenceWords):
    """Formatting of the columns, rows and numbers of a table, and the sentences built from them."""

    def __init__(self, findings: TableFindings, claims: Sequence[Claim], agreements: Sequence[Agreement]) -> None:
        """Take the findings, claims and agreements to describe."""
        super().__init__(findings, claims)
        self.agreements = agreements

    def headline(self) -> str:
        """Return the answer in one line: the claims; without any, the order of the rows; otherwise the best row."""
        if all(row.rank_value(self.findings.main) is None for row in self.findings.rows):
            return "No row of this table has been measured yet."
        if found := self.claims_headline():
            return found
        if self.agreements and self.agreements[0].has_order:
            return self.order_headline(self.agreements[0])
        return self.best_row() or f"All {pluralize(sum(row.ended for row in self.findings.rows), 'run')} diverged."
