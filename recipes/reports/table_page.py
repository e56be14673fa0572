"""Owns the page of a study that stands beside a printed table: the answer, cards, notes, and where to be careful."""

from recipes.reports.agreement import Outcome, find_agreements, find_claims, find_crashes
from recipes.reports.captions import TABLE_NOTES, fill
from recipes.reports.cost import arm_costs
from recipes.reports.page import Card, Page
from recipes.reports.printed_tables import PrintedTables
from recipes.reports.results import StudyRecord
from recipes.reports.sentences import capital, signed
from recipes.reports.table_findings import TableFindings, find_table
from recipes.reports.table_words import DOUBTFUL, TableWords
from recipes.reports.tables import Table
from recipes.run.runner import counted
from recipes.study.published import CRASH
from recipes.study.scales import PAPER_SCALE


class TablePage(Page):
    """The content of the report of a study that stands beside a printed table."""

    template = "table"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from a study's folder as it was read."""
        self.findings: TableFindings = find_table(study)
        self.claims = find_claims(self.findings)
        self.agreements = find_agreements(self.findings)
        self.crashes = find_crashes(self.findings)
        self.words = TableWords(self.findings, self.claims, self.agreements)
        self.tables = PrintedTables(study, self.findings, self.words)
        super().__init__(study, arm_costs(study, self._row_axes(study)))

    def answer(self) -> list[str]:
        """Return what our runs say on each claim, and how far they agree with the paper."""
        words = self.words
        order = [words.order(agreement) for agreement in self.agreements[:1]]
        said = [*words.claims_told(), *order, words.crashes_told(self.crashes), words.best()]
        return [sentence for sentence in said if sentence and sentence != words.headline()]

    def cards(self) -> list[Card]:
        """Return the findings at a glance: claims, order of the rows, crashes."""
        cards = []
        main = [claim.outcome for claim in self.claims if claim.column == self.findings.main]
        measured = [outcome for outcome in main if outcome is not Outcome.MISSING]
        if measured:
            same, opposite = measured.count(Outcome.SAME), measured.count(Outcome.OPPOSITE)
            one = measured.count(Outcome.SAME_ONE) + measured.count(Outcome.OPPOSITE_ONE)
            unclear = len(measured) - same - opposite - one
            tone = "up" if same and not opposite else "down" if opposite > same else ""
            told = f"{opposite} reversed, {unclear} not distinguishable"
            told += f", {one} with one {self.findings.reading.repeats} alone" if one else ""
            cards.append(Card("Claims of the paper that hold here", f"{same} of {len(measured)}", told, "", tone))
        for agreement in self.agreements[:1]:
            share = f"{100 * agreement.same / agreement.pairs:.0f}%" if agreement.pairs else "–"
            ranks = f"Kendall's τ {signed(agreement.kendall, 2)}, {agreement.rows} rows"
            cards.append(Card("Pairs of rows in the paper's order", share, ranks, "", ""))
        both, theirs = len(self.crashes.both), len(self.crashes.both) + len(self.crashes.printed)
        if theirs or self.crashes.ours:
            told = f"{len(self.crashes.ours)} here alone"
            cards.append(Card("Printed crashes that crash here", f"{both} of {theirs}", told, "", ""))
        return cards

    def warnings(self) -> list[str]:
        """Return what to know first: the scale, the number of repeats, rows without a printed value, and the runs."""
        findings, repeats = self.findings, self.findings.reading.repeats
        said = []
        scale = self.study.plan.study.scale
        if findings.printed and scale not in (None, PAPER_SCALE):
            said.append(
                f"These runs are at the scale {scale}: only directions compare with the paper; differences of values say nothing."
            )
        if len(findings.repeats) < 3 and not findings.is_distribution:
            meaning = "there are no intervals" if len(findings.repeats) < 2 else "the intervals are wide"
            said.append(f"{counted(len(findings.repeats), repeats).capitalize()} only: {meaning}.")
        alone = sum(row.scores[findings.main].printed is None for row in findings.rows)
        if findings.printed and alone and any(findings.main in row.entries for row in findings.printed.rows):
            said.append(f"{alone} of {counted(len(findings.rows), 'row')} stand beside no printed value.")
        return [*said, *super().warnings()]

    def table_title(self) -> str:
        """Return the heading of the table."""
        metric, over = self.words.metric(self.findings.main), self.words.title(self.findings.reading.figure.over or "")
        kinds = {"rows": "Row by row", "curve": f"{capital(metric)} over {over}", "gap": f"The gap to the last {over}"}
        kinds |= {"layers": "Layer by layer", "distribution": "Draw by draw"}
        printed = any(score.printed is not None for row in self.findings.rows for score in row.scores.values())
        beside = ", beside the paper" if printed else ""
        return kinds[self.findings.reading.figure.kind] + beside

    def main_tables(self) -> list[Table]:
        """Return the tables of the figure's numbers: the rows, or the layers, the draws, the gaps before them."""
        kind, tables = self.findings.reading.figure.kind, self.tables
        first = {"layers": tables.layers, "distribution": tables.distribution, "gap": tables.gaps}.get(kind)
        rows = [tables.rows()] if kind not in ("layers", "distribution") else []
        endings = tables.endings()
        return [*([first()] if first else []), *rows, *([endings] if endings.rows else [])]

    def table_lead(self) -> list[str]:
        """Return what stands above the table: what the paper prints, and what all rows share."""
        printed = self.findings.printed
        caption = [f"The paper's table: {printed.caption}."] if printed else ["The paper prints no values for this."]
        return [*caption, *([constants] if (constants := self.words.constants()) else [])]

    def footnotes(self) -> list[str]:
        """Return the marks of the table, and where values on the way were read."""
        said = []
        if any(score.doubtful for row in self.findings.rows for score in row.scores.values()):
            said.append(
                f"{DOUBTFUL} The printed value looks like a fault of the text recognition; it is kept as it stands, and left out "
                "where the orders of the rows are compared."
            )
        for metric, epochs in self.findings.epochs_read.items():
            name, _, share = metric.partition("@")
            read = ", ".join(f"{epoch} of {last}" for epoch, last in epochs)
            name = capital(self.words.title(name))
            said.append(f"{name} after {100 * float(share):.3g}% of the epochs: read after epoch {read}.")
        return said

    def notes(self) -> list[str]:
        """Return how to read the numbers: what the study says of itself, then what holds for every such report."""
        findings = self.findings
        axes = [axis for axis in self.study.plan.study.axes if axis.name == findings.reading.repeats]
        keys = sorted({key for axis in axes for level in axis.levels.values() for key in level})
        kinds = [findings.reading.figure.kind, *(["crash"] if self._has_crash() else [])]
        kinds += ["order"] * bool(self.agreements) + ["claims"] * bool(self.claims)
        standing = [
            fill(
                text,
                repeats=findings.reading.repeats,
                count=counted(len(findings.repeats), findings.reading.repeats),
                keys=" and ".join(keys) or "nothing",
            )
            for kind in ("all", *kinds)
            for text in TABLE_NOTES.get(kind, ())
        ]
        return [*findings.reading.notes, *self.chance(), *standing]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of every measure goes."""
        return self._row_axes(self.study)

    def _has_crash(self) -> bool:
        """Tell whether a run crashed, or a printed value is a crash."""
        printed = [score.printed for row in self.findings.rows for score in row.scores.values()]
        return CRASH in printed or any(row.crashes for row in self.findings.rows)

    def _row_axes(self, study: StudyRecord) -> list[str]:
        """Return the axes whose levels name a row."""
        reading = self.findings.reading
        drawn = reading.figure.over if self.findings.is_distribution else None
        return [axis.name for axis in study.plan.study.axes if axis.name not in (reading.repeats, drawn)]
