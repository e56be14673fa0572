"""Owns the tables of a report beside a printed table: the rows, the claims, and what each kind of figure shows in numbers."""

import math
from collections.abc import Sequence

import numpy as np

from recipes.reports.agreement import Agreement, Claim, difference
from recipes.reports.results import StudyRecord
from recipes.reports.sentences import capital, crash_kind, mean_and_half, signed
from recipes.reports.statistics import student_interval
from recipes.reports.table_findings import Row, TableFindings, layer_values, sorted_by
from recipes.reports.table_words import TableWords
from recipes.reports.tables import RunTables, Table
from recipes.study.published import CRASH

MOST_LISTED = 4
"""Runs of a kind that are named one by one."""
WITHIN = (1.0, 2.0, 5.0)
"""Points below the best within which the table of a distribution counts its draws."""


class PrintedTables(RunTables):
    """The tables of one study that stands beside a printed one."""

    def __init__(self, study: StudyRecord, findings: TableFindings, words: TableWords) -> None:
        """Take a study's folder as it was read, what was found in it, and how to write it."""
        super().__init__(study, words.title)
        self.findings, self.words = findings, words

    def rows(self) -> Table:
        """Return a line for each row: its columns, and for each metric ours, the printed value and the difference."""
        words, metrics = self.words, self.findings.reading.metrics
        heads = [capital(words.title(name)) for name in words.varied]
        for column in metrics:
            name = capital(words.metric(column))
            heads += [f"{name}, ours"] + ([f"{name}, paper", "ours − paper"] if self.findings.printed else [])
        heads += [f"{capital(words.title(self.findings.reading.repeats))}s"]
        lines = []
        for row in self.findings.rows:
            line = self._entries(row)
            for column in metrics:
                line += [words.ours(row, column)]
                if self.findings.printed:
                    line += [words.printed(row, column), words.beside(row, column)]
            lines.append([*line, self._ended(row)])
        return Table(heads, lines, len(words.varied))

    def endings(self) -> Table:
        """Return how the runs of a row crashed or collapsed: a line for each row, verdict, stage and kind."""
        repeats = self.findings.reading.repeats
        name = capital(f"{repeats}s")
        lines = []
        for row in self.findings.rows:
            total = len(row.runs) + len(row.crashes)
            groups: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
            for repeat, crash in row.crashes.items():
                ending = CRASH, crash.stage, crash_kind(crash.kind) or "–"
                groups.setdefault(ending, []).append((repeat, f"{crash.step:,}"))
            for repeat, verdict in row.collapses.items():
                groups.setdefault((verdict.replace("_", " "), "–", "–"), []).append((repeat, ""))
            for (verdict, stage, kind), found in groups.items():
                steps = ", ".join(step for _, step in found[:MOST_LISTED] if step) + ", …" * (len(found) > MOST_LISTED)
                which = ", ".join(repeat for repeat, _ in found[:MOST_LISTED]) + ", …" * (len(found) > MOST_LISTED)
                ended = f"{len(found)} of {max(total, len(found))}"
                lines.append([self.words.label(row.columns), verdict, stage, kind, steps or "–", ended, which])
        return Table(["Row", "Verdict", "Stage", "Kind", "Step", "Runs", name], lines, 4)

    def claims(self, claims: Sequence[Claim]) -> Table:
        """Return every claim of the paper: its difference, ours with its interval, and what that says."""
        several = len(self.findings.reading.metrics) > 1
        lines = [
            [
                claim.pair.claim,
                *([self.words.title(claim.column)] if several else []),
                self.words.claim_printed(claim),
                self.words.claim_ours(claim),
                self.words.bounds(claim.interval, claim.column),
                self.words.outcome(claim),
            ]
            for claim in claims
        ]
        metric = ["Metric"] if several else []
        heads = ["Claim of the paper", *metric, "Paper's difference", "Ours", "95% interval", "Here"]
        return Table(heads, lines, 1 + several)

    def orders(self, agreements: Sequence[Agreement]) -> Table:
        """Return how each column orders the rows against the paper: pairs of rows, and the two rank correlations."""
        lines = [
            [
                self.words.title(one.column),
                *map(str, (one.rows, one.pairs, one.same, one.opposite, one.tied)),
                f"{one.told_same} of {one.told_same + one.told_opposite}",
                *("–" if math.isnan(value) else signed(value, 2) for value in (one.kendall, one.spearman)),
            ]
            for one in agreements
        ]
        heads = [
            "Metric",
            "Rows",
            "Pairs of rows",
            "Paper's order",
            "Opposite",
            "Tied",
            "Of those told apart, paper's order",
        ]
        return Table([*heads, "Kendall's τ", "Spearman's ρ"], lines)

    def distribution(self) -> Table:
        """Return for each row its best and median draw, the share of the draws near the best, and the crashes."""
        name = self.words.title(self.findings.main)
        near = [f"within {points:g} of the best" for points in WITHIN]
        lines = []
        for row in self.findings.rows:
            values = np.array(list(row.draws.values()))
            cells = ["–"] * (2 + len(WITHIN))
            if len(values):
                shares = [f"{100 * np.mean(values >= values.max() - points):.0f}%" for points in WITHIN]
                cells = [f"{values.max():.1f}", f"{np.median(values):.1f}", *shares]
            lines.append([*self._entries(row), f"{len(values)}", *cells, f"{len(row.crashes)}"])
        heads = [capital(self.words.title(one)) for one in self.words.varied]
        return Table([*heads, "Draws", f"Best {name}", "Median", *near, "Crashes"], lines, len(heads))

    def layers(self) -> Table:
        """Return the metric layer by layer, a column for each row, with the half-width over the repeats."""
        metric = self.findings.reading.metric
        rows = [row for row in self.findings.rows if row.runs]
        values = [[layer_values(run, metric) for run in row.runs.values()] for row in rows]
        depth = max((len(one) for ones in values for one in ones), default=0)
        lines = [
            [
                layer_name(number),
                *(mean_and_half(student_interval([v[number] for v in ones if number < len(v)]), 3) for ones in values),
            ]
            for number in range(depth)
        ]
        return Table(["Layer", *(self.words.label(row.columns) for row in rows)], lines)

    def gaps(self) -> Table:
        """Return how far each value of the figure's column is below the last one, ours and printed."""
        over, words = self.findings.reading.figure.over or "", self.words
        names = [name for name in words.varied if name != over]
        heads, lines = {}, []
        for columns, rows in self.findings.groups([over]):
            ordered = sorted_by(rows, over)
            line = {}
            for row in ordered[:-1]:
                value = words.entry(row.columns[over])
                heads[value] = f"{words.entry(ordered[-1].columns[over])} − {value}"
                line[value] = self._gap(row, ordered[-1])
            lines.append(([words.entry(columns[name]) for name in names], line))
        table = [
            [*entries, *(cell for value in heads for cell in line.get(value, ["–", "–"]))] for entries, line in lines
        ]
        two = [f"{head}{side}" for head in heads.values() for side in (", ours", ", paper")]
        return Table([*(capital(words.title(name)) for name in names), *two], table, len(names))

    def level(self, axis: str, level: str) -> str:
        """Return a level as a cell: what the table prints of it where that is more than its name."""
        columns = next(one.columns for one in self.study.plan.study.axes if one.name == axis).get(level)
        return self.words.label(columns) if columns else self.words.entry(level)

    def _entries(self, row: Row) -> list[str]:
        """Return a row's cells in the columns in which rows differ."""
        return [self.words.entry(row.columns[name]) if name in row.columns else "–" for name in self.words.varied]

    def _ended(self, row: Row) -> str:
        """Return how many of a row's runs have ended."""
        ended = len(row.runs) + len(row.crashes)
        return f"{ended}" if not row.waiting else f"{ended} of {ended + len(row.waiting)}" if ended else "–"

    def _gap(self, row: Row, last: Row) -> list[str]:
        """Return the cells of a gap: ours with its half-width, and the printed one."""
        main = self.findings.main
        printed = row.scores[main].printed, last.scores[main].printed
        theirs: str = CRASH if CRASH in printed else "–"
        if isinstance(printed[0], float) and isinstance(printed[1], float):
            theirs = signed(printed[1] - printed[0])
        if row.crashed or last.crashed:
            return [CRASH, theirs]
        return [mean_and_half(difference(row, last, main)[1]), theirs]


def layer_name(number: int) -> str:
    """Return what layer `number` is: the stem's output, with the position embedding, then block after block."""
    return ("stem", "position embedding")[number] if number < 2 else f"block {number - 1}"
