"""Tables of a report compared with a published table: the rows, the claims, and the numbers of each kind of figure."""

import math
from collections.abc import Sequence

import numpy as np

from recipes.reports.formatting import capital, crash_kind, mean_and_half, p_text, signed
from recipes.reports.replication.agreement import Agreement, difference
from recipes.reports.replication.claims import Claim
from recipes.reports.replication.divergences import Divergences
from recipes.reports.replication.findings import Row, TableFindings, layer_values, sorted_by
from recipes.reports.replication.row_words import head
from recipes.reports.replication.words import TableWords
from recipes.reports.results import StudyRecord
from recipes.reports.run_tables import RunTables, Table
from recipes.reports.statistics import student_interval
from recipes.result import DIVERGED
from recipes.study.published import CRASH

MAX_LISTED = 4
"""Most runs with the same status that are listed individually."""
WITHIN = (1.0, 2.0, 5.0)
"""Distances from the best, in points, within which the table of a distribution counts draws."""


class PublishedTables(RunTables):
    """The tables of one study that is compared with a published table."""

    def __init__(self, study: StudyRecord, findings: TableFindings, words: TableWords) -> None:
        """Take the record of a study's folder, its findings, and the wording."""
        super().__init__(study, words.title)
        self.findings, self.words = findings, words

    def rows(self) -> Table:
        """Return one line per row: its columns, for each metric our value and the published one, and what compares them.

        At the paper's scale that is the difference, at another one the ranks of the row here and in the paper.
        """
        words, metrics = self.words, self.findings.spec.metrics
        header = [head(words.title(name)) for name in words.varied]
        lines = [self._entries(row) for row in self.findings.rows]
        for column in metrics:
            name = capital(words.metric(column))
            header += [f"{name}, ours", *([f"{name}, paper"] if self.findings.published else [])]
            compared, cells = self._compared(column)
            header += compared
            for line, row, own in zip(lines, self.findings.rows, cells, strict=True):
                published = [words.published(row, column)] if self.findings.published else []
                line += [words.ours(row, column), *published, *own]
        header += [f"{capital(words.title(self.findings.spec.repeats))}s"]
        rows = [[*line, self._num_ended(row)] for line, row in zip(lines, self.findings.rows, strict=True)]
        return Table(header, rows, len(words.varied))

    def _compared(self, column: str) -> tuple[list[str], list[list[str]]]:
        """Return the columns that compare the rows with the paper's, and their cells by row."""
        words, rows = self.words, self.findings.rows
        if self.findings.is_paper_scale:
            has_published = self.findings.published is not None
            return (
                ["ours − paper"] if has_published else [],
                [[words.difference(row, column)] if has_published else [] for row in rows],
            )
        agreement = next((each for each in words.agreements if each.column == column), None)
        if agreement is None:
            return [], [[] for _ in rows]
        ranks = [[words.ranks_text(agreement.published_ranks.get(row))] for row in rows]
        if all(own == (1, agreement.rows) for own in agreement.ranks.values()):
            return ["Rank, paper"], ranks
        ours = [words.ranks_text(agreement.ranks.get(row)) for row in rows]
        return ["Rank, ours", "Rank, paper"], [[own, *published] for own, published in zip(ours, ranks, strict=True)]

    def divergences(self, found: Divergences) -> Table:
        """Return how many runs of a row diverged, where any did or the paper has a crash: count, rate with Wilson's interval."""
        lines = [
            [
                self.words.label(each.row.columns),
                f"{len(each.row.crashes)} of {each.row.ended}",
                f"{100 * each.low:.0f}% to {100 * each.high:.0f}%",
                *([self.words.published(each.row, self.findings.main)] if self.findings.published else []),
            ]
            for each in found.rates
        ]
        published = ["In the paper"] if self.findings.published else []
        return Table(["Row", "Diverged here", "95% CI of the rate", *published], lines)

    def failures(self) -> Table:
        """Return which runs diverged or collapsed: one line per row, status, stage and kind."""
        repeats = self.findings.spec.repeats
        name = capital(f"{repeats}s")
        lines = []
        for row in self.findings.rows:
            total = len(row.runs) + len(row.crashes)
            groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
            for repeat, crash in row.crashes.items():
                failure = DIVERGED, crash.stage, crash_kind(crash.kind) or "–"
                groups.setdefault(failure, []).append((repeat, f"{crash.step:,}"))
            for repeat, status in row.collapses.items():
                groups.setdefault((status.replace("_", " "), "–", "–"), []).append((repeat, ""))
            for (status, stage, kind), found in groups.items():
                steps = ", ".join(step for _, step in found[:MAX_LISTED] if step) + ", …" * (len(found) > MAX_LISTED)
                names = ", ".join(repeat for repeat, _ in found[:MAX_LISTED]) + ", …" * (len(found) > MAX_LISTED)
                count = f"{len(found)} of {max(total, len(found))}"
                lines.append([self.words.label(row.columns), status, stage, kind, steps or "–", count, names])
        return Table(["Row", "Status", "Stage", "Kind", "Step", "Runs", name], lines, 4)

    def claims(self, claims: Sequence[Claim]) -> Table:
        """Return every claim of the paper: its difference, ours with its interval, and the outcome."""
        several = len(self.findings.spec.metrics) > 1
        lines = [
            [
                claim.pair.claim,
                *([self.words.title(claim.column)] if several else []),
                self.words.claim_published(claim),
                self.words.claim_ours(claim),
                self.words.bounds(claim.interval, claim.column),
                "–" if math.isnan(claim.p_value) else p_text(claim.p_value).removeprefix("p = ").removeprefix("p "),
                self.words.outcome(claim),
            ]
            for claim in claims
        ]
        metric = ["Metric"] if several else []
        covered = list(dict.fromkeys(self.words.covered(claim.column) for claim in claims))
        interval = f"95% CI over {covered[0]}" if len(covered) == 1 else "95% CI"
        published = "Paper's difference" if self.findings.is_paper_scale else "In the paper"
        p_value = "p, adjusted" if len(claims) > 1 else "p"
        header = ["Claim", *metric, published, "Ours", interval, p_value, "Outcome here"]
        return Table(header, lines, 1 + several)

    def rankings(self, agreements: Sequence[Agreement]) -> Table:
        """Return how each column ranks the rows compared with the paper: pairs of rows, and two rank correlations."""
        lines = [
            [
                self.words.title(a.column),
                *map(str, (a.rows, a.pairs, a.same, a.opposite, a.tied)),
                f"{a.ordered / 2:g}",
                f"{a.distinguished_same} of {a.distinguished}" if a.tested else "–",
                f"{a.expected_false:.1f}" if a.tested else "–",
                *("–" if math.isnan(value) else signed(value, 2) for value in (a.kendall, a.spearman)),
                "–" if math.isnan(a.p_value) else p_text(a.p_value).removeprefix("p = ").removeprefix("p "),
            ]
            for a in agreements
        ]
        header = [
            "Metric",
            "Rows",
            "Pairs of rows",
            "Paper's order",
            "Opposite",
            "Tied",
            "Paper's order by chance",
            "Paper's order among significant pairs",
            "Significant pairs by chance",
        ]
        return Table([*header, "Kendall's τ", "Spearman's ρ", "p of τ"], lines)

    def distribution(self) -> Table:
        """Return, for each row, its best and median draw, the fraction of the draws near the best, and those that diverged."""
        name = self.words.title(self.findings.main)
        near = [f"within {points:g} of the best" for points in WITHIN]
        lines = []
        for row in self.findings.rows:
            values = np.array(list(row.draws.values()))
            cells = ["–"] * (2 + len(WITHIN))
            if len(values):
                fractions = [f"{100 * np.mean(values >= values.max() - points):.0f}%" for points in WITHIN]
                cells = [f"{values.max():.1f}", f"{np.median(values):.1f}", *fractions]
            lines.append([*self._entries(row), f"{len(values)}", *cells, f"{len(row.diverged_draws)}"])
        header = [head(self.words.title(column)) for column in self.words.varied]
        return Table([*header, "Draws", f"Best {name}", "Median", *near, "Diverged"], lines, len(header))

    def layers(self) -> Table:
        """Return the metric by layer, with a column for each row and the half-width over the repeats."""
        metric = self.findings.spec.metric
        rows = [row for row in self.findings.rows if row.runs]
        values = [[layer_values(run, metric) for run in row.runs.values()] for row in rows]
        depth = max((len(layers) for runs in values for layers in runs), default=0)
        lines = [
            [
                layer_name(number),
                *(mean_and_half(student_interval([v[number] for v in runs if number < len(v)]), 3) for runs in values),
            ]
            for number in range(depth)
        ]
        return Table(["Layer", *(self.words.label(row.columns) for row in rows)], lines)

    def gaps(self) -> Table:
        """Return how far the metric at each value of the figure's column is below that at the last one, ours and published."""
        x, words = self.findings.spec.figure.x or "", self.words
        names = [name for name in words.varied if name != x]
        heads, lines = {}, []
        for columns, rows in self.findings.groups([x]):
            ordered = sorted_by(rows, x)
            line = {}
            for row in ordered[:-1]:
                value = words.entry(row.columns[x])
                heads[value] = f"{words.entry(ordered[-1].columns[x])} − {value}"
                line[value] = self._gap(row, ordered[-1])
            lines.append(([words.entry(columns[name]) for name in names], line))
        table = [
            [*entries, *(cell for value in heads for cell in line.get(value, ["–", "–"]))] for entries, line in lines
        ]
        two = [f"{head}{side}" for head in heads.values() for side in (", ours", ", paper")]
        return Table([*(capital(words.title(name)) for name in names), *two], table, len(names))

    def level(self, axis: str, level: str) -> str:
        """Return the cell of a level: its columns in the published table if it has any, otherwise its name."""
        columns = next(candidate.columns for candidate in self.study.plan.study.axes if candidate.name == axis).get(
            level
        )
        return self.words.label(columns, unnamed=level) if columns else self.words.entry(level)

    def _entries(self, row: Row) -> list[str]:
        """Return the cells of a row in the columns in which rows differ."""
        return [self.words.entry(row.columns[name]) if name in row.columns else "–" for name in self.words.varied]

    def _num_ended(self, row: Row) -> str:
        """Return how many runs of a row have ended."""
        ended = len(row.runs) + len(row.crashes)
        return f"{ended}" if not row.waiting else f"{ended} of {ended + len(row.waiting)}" if ended else "–"

    def _gap(self, row: Row, last: Row) -> list[str]:
        """Return the cells of a gap: ours with its half-width, and the published one."""
        main = self.findings.main
        base, end = row.scores[main].published, last.scores[main].published
        published: str = CRASH if CRASH in (base, end) else "–"
        if isinstance(base, float) and isinstance(end, float):
            published = signed(end - base)
        if row.crashed or last.crashed:
            return [DIVERGED, published]
        return [mean_and_half(difference(row, last, main)[1]), published]


def layer_name(number: int) -> str:
    """Return the name of layer `number`: the output of the stem, the position embedding, then the blocks."""
    return ("stem", "position embedding")[number] if number < 2 else f"block {number - 1}"
