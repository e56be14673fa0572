"""Page of a study compared with a published table: the answer, cards, notes and warnings."""

from collections.abc import Sequence

from recipes.reports.arm_costs import arm_costs
from recipes.reports.captions import fill
from recipes.reports.formatting import capital
from recipes.reports.page import Card, Page
from recipes.reports.replication.agreement import Agreement, find_agreements
from recipes.reports.replication.captions import NOTES
from recipes.reports.replication.claims import Outcome, find_claims
from recipes.reports.replication.divergences import count_diverged, find_divergences
from recipes.reports.replication.findings import Row, TableFindings, compute_table_findings
from recipes.reports.replication.tables import PublishedTables
from recipes.reports.replication.words import DOUBTFUL, TableWords
from recipes.reports.results import StudyRecord
from recipes.reports.run_tables import Table
from recipes.run.runner import pluralize
from recipes.study.published import CRASH


class TablePage(Page):
    """Content of the report of a study that is compared with a published table."""

    template = "table"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from the record of a study's folder."""
        self.findings: TableFindings = compute_table_findings(study)
        self.claims = find_claims(self.findings)
        self.agreements = find_agreements(self.findings)
        self.divergences = find_divergences(self.findings)
        self.words = TableWords(self.findings, self.claims, self.agreements)
        self.tables = PublishedTables(study, self.findings, self.words)
        super().__init__(study, arm_costs(study, self._row_axes(study)))

    def answer(self) -> list[str]:
        """Return the outcome of each claim, the agreement with the paper, and what the intervals cover."""
        words = self.words
        sentences = [
            *words.claim_sentences(),
            *(words.ranking_sentence(agreement) for agreement in self.agreements[:1]),
            words.divergence_sentence(self.divergences),
            words.best_row(),
            words.coverage(),
            words.shared_starts(),
        ]
        return [sentence for sentence in dict.fromkeys(sentences) if sentence and sentence != words.headline()]

    def cards(self) -> list[Card]:
        """Return the summary cards: claims, order of the rows, divergence."""
        cards = []
        main = [claim.outcome for claim in self.claims if claim.column == self.findings.main]
        measured = [outcome for outcome in main if outcome is not Outcome.MISSING]
        if measured:
            same, opposite = measured.count(Outcome.SAME), measured.count(Outcome.OPPOSITE)
            single = measured.count(Outcome.SAME_ONE) + measured.count(Outcome.OPPOSITE_ONE)
            depends, inconclusive = measured.count(Outcome.DEPENDS), measured.count(Outcome.INCONCLUSIVE)
            tone = "up" if same and not opposite else "down" if opposite > same else ""
            others = f"{opposite} reversed, {inconclusive} inconclusive"
            others += f", {depends} depending on diverged runs" if depends else ""
            others += f", {single} with a single {self.findings.spec.repeats}" if single else ""
            owner = "Claims of the paper" if self.words.are_published else "Claims of the study"
            cards.append(Card(f"{owner} that hold here", f"{same} of {len(measured)}", others, "", tone))
        cards += [self._order_card(agreement) for agreement in self.agreements[:1]]
        found = self.divergences
        if found.crash:
            diverged, total = count_diverged(found.crash)
            others = f"{diverged} of {total} runs of these rows, {self._count(found.value)} of the others"
            title = "Rows with a crash in the paper that diverge here"
            cards.append(Card(title, f"{found.crash_rows_diverged} of {len(found.crash)}", others, "", ""))
        elif found.rates:
            diverged, total = count_diverged([*found.value, *found.unpublished])
            cards.append(
                Card(
                    "Runs that diverged here",
                    f"{diverged} of {total}",
                    f"in {pluralize(len(found.rates), 'row')}",
                    "",
                    "",
                )
            )
        return cards

    def _arms_note(self) -> str:
        """Return the name of the note on what the arms spend."""
        if not self.findings.published:
            return "unmatched"
        return "paper" if self.findings.is_paper_scale else "scaled"

    def _order_card(self, agreement: Agreement) -> Card:
        """Return the card of the order of the rows: the share of the pairs in the paper's order, of those that are not tied."""
        title = "Pairs of rows in the paper's order"
        if not agreement.has_order:
            return Card(title, "–", "no order", self.words.ranking_sentence(agreement), "")
        percent = f"{100 * agreement.same / agreement.ordered:.0f}%"
        ties = f", without {pluralize(agreement.tied, 'tied pair')}" if agreement.tied else ""
        return Card(
            title, percent, f"by chance 50%; {self.words.correlation(agreement)}, {agreement.rows} rows{ties}", "", ""
        )

    def _count(self, rows: Sequence[Row]) -> str:
        """Return how many runs of rows diverged."""
        diverged, total = count_diverged(rows)
        return f"{diverged} of {total}"

    def warnings(self) -> list[str]:
        """Return the warnings: the number of repeats, rows without a published value, and the runs."""
        findings, repeats = self.findings, self.findings.spec.repeats
        warnings = []
        if len(findings.repeats) < 3 and not findings.is_distribution:
            meaning = "the intervals are wide, and no difference counts as significant"
            if len(findings.repeats) < 2:
                meaning = "there are no intervals"
            warnings.append(f"Only {pluralize(len(findings.repeats), repeats)}: {meaning}.")
        missing = sum(row.scores[findings.main].published is None for row in findings.rows)
        if findings.published and missing and any(findings.main in row.entries for row in findings.published.rows):
            warnings.append(f"No published value for {missing} of {pluralize(len(findings.rows), 'row')}.")
        return [*warnings, *super().warnings()]

    def table_title(self) -> str:
        """Return the heading of the table."""
        metric, x = self.words.metric(self.findings.main), self.words.title(self.findings.spec.figure.x or "")
        kinds = {
            "rows": "Results by row",
            "curve": f"{capital(metric)} over {x}",
            "gap": f"Gap to the last value of {x}",
        }
        kinds |= {"layers": "Results by layer", "distribution": "Distribution over the draws"}
        has_published = any(score.published is not None for row in self.findings.rows for score in row.scores.values())
        suffix = ", compared with the paper" if has_published else ""
        return kinds[self.findings.spec.figure.kind] + suffix

    def main_tables(self) -> list[Table]:
        """Return the tables of the figure's numbers (layers, draws, gaps), of the rows, and of the failures."""
        kind, tables = self.findings.spec.figure.kind, self.tables
        divergences = tables.divergences(self.divergences)
        first = {"layers": tables.layers, "distribution": tables.distribution, "gap": tables.gaps}.get(kind)
        rows = [tables.rows()] if kind not in ("layers", "distribution") else []
        failures = [table for table in (divergences, tables.failures()) if table.rows]
        return [*([first()] if first else []), *rows, *failures]

    def table_lead(self) -> list[str]:
        """Return the sentences above the table: the caption of the paper's table, and what all rows have in common."""
        published = self.findings.published
        caption = [
            f"The paper's table: {published.caption}."
            if published
            else "The paper reports no values for this experiment."
        ]
        return [*caption, *([constants] if (constants := self.words.constants()) else [])]

    def footnotes(self) -> list[str]:
        """Return the explanation of the table's marks, and the epochs at which metrics during training were read."""
        footnotes = []
        if any(score.doubtful for row in self.findings.rows for score in row.scores.values()):
            footnotes.append(
                f"{DOUBTFUL} The published value looks like an error of the text recognition; it is kept unchanged, and excluded "
                "from the comparison of rankings."
            )
        for metric, epochs in self.findings.epochs_read.items():
            name, _, fraction = metric.partition("@")
            read = ", ".join(f"{epoch} of {last}" for epoch, last in epochs)
            name = capital(self.words.title(name))
            footnotes.append(f"{name} after {100 * float(fraction):.3g}% of the epochs: read after epoch {read}.")
        return footnotes

    def notes(self) -> list[str]:
        """Return how to read the numbers: the notes of the study, then those of every such report."""
        findings = self.findings
        axes = [axis for axis in self.study.plan.study.axes if axis.name == findings.spec.repeats]
        keys = sorted({key for axis in axes for level in axis.levels.values() for key in level})
        is_matched = getattr(self.study.plan.study, "match", "none") != "none"
        arms = [] if is_matched else [self._arms_note()]
        covers = [findings.covers_images(column) for column in findings.spec.metrics]
        has_one = (
            len(findings.repeats) < 2 or findings.is_distribution
        )  # the intervals of a distribution are over its draws
        covered = "one" if has_one else "images" if all(covers) else "repeats"
        kinds = [covered, *arms, findings.spec.figure.kind, *(["crash"] if self._has_crash() else [])]
        kinds += ["order"] * bool(self.agreements) + ["claims"] * bool(self.claims)
        has_ranks = not findings.is_paper_scale and any(agreement.tested for agreement in self.agreements)
        kinds += ["ranks"] * has_ranks
        fixed = [
            fill(
                text,
                repeats=findings.spec.repeats,
                scale=findings.scale,
                count=pluralize(len(findings.repeats), findings.spec.repeats),
                keys=" and ".join(keys) or "nothing",
            )
            for kind in kinds
            for text in NOTES.get(kind, ())
        ]
        return [*findings.spec.notes, *self.chance_level(), *fixed]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped."""
        return self._row_axes(self.study)

    def _has_crash(self) -> bool:
        """Return whether a run diverged, or a published value is a crash."""
        published = [score.published for row in self.findings.rows for score in row.scores.values()]
        return CRASH in published or any(row.crashes for row in self.findings.rows)

    def _row_axes(self, study: StudyRecord) -> list[str]:
        """Return the axes whose levels identify a row."""
        spec = self.findings.spec
        draws = spec.figure.x if self.findings.is_distribution else None
        return [axis.name for axis in study.plan.study.axes if axis.name not in (spec.repeats, draws)]
