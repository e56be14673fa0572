"""Page of a study compared with a published table: the answer, cards, notes and warnings."""

import math

from recipes.reports.arm_costs import arm_costs
from recipes.reports.captions import fill
from recipes.reports.formatting import capital, signed
from recipes.reports.page import Card, Page
from recipes.reports.replication.agreement import Outcome, find_agreements, find_claims, find_crashes
from recipes.reports.replication.captions import NOTES
from recipes.reports.replication.findings import TableFindings, compute_table_findings
from recipes.reports.replication.tables import PublishedTables
from recipes.reports.replication.words import DOUBTFUL, TableWords
from recipes.reports.results import StudyRecord
from recipes.reports.run_tables import Table
from recipes.run.runner import pluralize
from recipes.study.published import CRASH
from recipes.study.scales import PAPER_SCALE


class TablePage(Page):
    """Content of the report of a study that is compared with a published table."""

    template = "table"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from the record of a study's folder."""
        self.findings: TableFindings = compute_table_findings(study)
        self.claims = find_claims(self.findings)
        self.agreements = find_agreements(self.findings)
        self.crashes = find_crashes(self.findings)
        self.words = TableWords(self.findings, self.claims, self.agreements)
        self.tables = PublishedTables(study, self.findings, self.words)
        super().__init__(study, arm_costs(study, self._row_axes(study)))

    def answer(self) -> list[str]:
        """Return the outcome of each claim, and the agreement with the paper."""
        words = self.words
        ranking = [words.ranking_sentence(agreement) for agreement in self.agreements[:1]]
        sentences = *words.claim_sentences(), *ranking, words.crash_sentence(self.crashes), words.best_row()
        return [sentence for sentence in sentences if sentence and sentence != words.headline()]

    def cards(self) -> list[Card]:
        """Return the summary cards: claims, ranking of the rows, crashes."""
        cards = []
        main = [claim.outcome for claim in self.claims if claim.column == self.findings.main]
        measured = [outcome for outcome in main if outcome is not Outcome.MISSING]
        if measured:
            same, opposite = measured.count(Outcome.SAME), measured.count(Outcome.OPPOSITE)
            single = measured.count(Outcome.SAME_ONE) + measured.count(Outcome.OPPOSITE_ONE)
            inconclusive = len(measured) - same - opposite - single
            tone = "up" if same and not opposite else "down" if opposite > same else ""
            others = f"{opposite} reversed, {inconclusive} inconclusive"
            others += f", {single} with a single {self.findings.spec.repeats}" if single else ""
            cards.append(Card("Claims of the paper that hold here", f"{same} of {len(measured)}", others, "", tone))
        for agreement in self.agreements[:1]:
            percent = f"{100 * agreement.same / agreement.pairs:.0f}%" if agreement.pairs else "–"
            ranks = f"{agreement.rows} rows{f', {agreement.tied} pairs tied' if agreement.tied else ''}; by chance 50%"
            if not math.isnan(agreement.kendall):
                ranks = f"Kendall's τ {signed(agreement.kendall, 2)}, {ranks}"
            cards.append(Card("Pairs of rows in the paper's order", percent, ranks, "", ""))
        both, published = len(self.crashes.both), len(self.crashes.both) + len(self.crashes.published_only)
        if published or self.crashes.ours_only:
            ours_only = f"{len(self.crashes.ours_only)} only here"
            cards.append(Card("Published crashes that crash here", f"{both} of {published}", ours_only, "", ""))
        return cards

    def warnings(self) -> list[str]:
        """Return the warnings: the scale, the number of repeats, rows without a published value, and the runs."""
        findings, repeats = self.findings, self.findings.spec.repeats
        warnings = []
        scale = self.study.plan.study.scale
        if findings.published and scale not in (None, PAPER_SCALE):
            warnings.append(
                f"These runs are at scale {scale}: compare only directions with the paper; differences in value are not meaningful."
            )
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
        first = {"layers": tables.layers, "distribution": tables.distribution, "gap": tables.gaps}.get(kind)
        rows = [tables.rows()] if kind not in ("layers", "distribution") else []
        failures = tables.failures()
        return [*([first()] if first else []), *rows, *([failures] if failures.rows else [])]

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
        arms = [] if is_matched else ["paper" if findings.published else "unmatched"]
        kinds = [*arms, findings.spec.figure.kind, *(["crash"] if self._has_crash() else [])]
        kinds += ["order"] * bool(self.agreements) + ["claims"] * bool(self.claims)
        fixed = [
            fill(
                text,
                repeats=findings.spec.repeats,
                count=pluralize(len(findings.repeats), findings.spec.repeats),
                keys=" and ".join(keys) or "nothing",
            )
            for kind in ("all", *kinds)
            for text in NOTES.get(kind, ())
        ]
        return [*findings.spec.notes, *self.chance_level(), *fixed]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped."""
        return self._row_axes(self.study)

    def _has_crash(self) -> bool:
        """Return whether a run crashed, or a published value is a crash."""
        published = [score.published for row in self.findings.rows for score in row.scores.values()]
        return CRASH in published or any(row.crashes for row in self.findings.rows)

    def _row_axes(self, study: StudyRecord) -> list[str]:
        """Return the axes whose levels identify a row."""
        spec = self.findings.spec
        draws = spec.figure.x if self.findings.is_distribution else None
        return [axis.name for axis in study.plan.study.axes if axis.name not in (spec.repeats, draws)]
