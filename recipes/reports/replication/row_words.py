"""Formatting of the columns, rows and numbers of a table."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.reports.formatting import capital, mean_and_bounds, number, signed
from recipes.reports.replication.captions import PAPER_MARKS, SEPARATE_AXES
from recipes.reports.replication.findings import Row, TableFindings
from recipes.reports.replication.row_values import NEAR_BEST
from recipes.reports.statistics import Interval
from recipes.study.published import PublishedValue, as_number

DOUBTFUL = "†"
"""Mark of a published value that looks like an error of the text recognition."""
MOST_LISTED = 6
"""Most rows or claims that a sentence lists."""
TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "adamw": "AdamW",
    "sgd": "SGD",
    "sam": "SAM",
    "warmup_epochs": "warm-up epochs",
}
"""Titles of names to which a study gives none."""


class RowWords:
    """Formatting of the columns, rows and numbers of a table."""

    def __init__(self, findings: TableFindings) -> None:
        """Take the findings to describe."""
        self.findings, self.spec = findings, findings.spec
        self.varied = findings.varied
        self.naming = _identifying_columns(findings) if findings.is_distribution else self.varied

    @property
    def where(self) -> str:
        """Return where our runs are, at the end of a statement."""
        return "here" if self.findings.is_paper_scale else f"at scale {self.findings.scale}"

    def title(self, name: str) -> str:
        """Return the title that the study gives to a column, a level or a metric, or its name with spaces."""
        return str({**TITLES, **self.spec.titles}.get(name, name.replace("_", " ")))

    def entry(self, value: Any) -> str:
        """Return an entry of a row as text: numbers in their shortest form, lists with commas."""
        if isinstance(value, list | tuple):
            return ", ".join(map(self.entry, value))
        titles = {**TITLES, **self.spec.titles}
        number = None if str(value) in titles else as_number(value)
        return str(titles.get(str(value), value)) if number is None else f"{number:g}"

    def label(self, columns: Mapping[str, Any], excluded: Sequence[str] = (), *, unnamed: str = "all runs") -> str:
        """Return the name of a row: its entries in the columns in which rows differ, numbers preceded by their column.

        `unnamed` is that of a row without such entries.
        """
        parts = []
        for name, value in columns.items():
            if name in self.naming and name not in excluded and value is not None:
                needs_title = as_number(value) is not None or isinstance(value, list | tuple)
                parts.append(f"{self.title(name)} {self.entry(value)}" if needs_title else self.entry(value))
        return ", ".join(parts) or unnamed

    def named(self, rows: Sequence[Row]) -> str:
        """Return the names of rows; of many, the first ones and how many others there are."""
        return at_most([self.label(row.columns) for row in rows])

    def constants(self) -> str:
        """Return the sentence on the columns in which all rows agree, or an empty string."""
        if not self.findings.rows:
            return ""
        same = {name: self.findings.rows[0].columns[name] for name in self.findings.columns if name not in self.varied}
        settings = [f"{self.title(name)} {self.entry(value)}" for name, value in same.items() if value is not None]
        return f"Identical in all rows: {', '.join(settings)}." if settings else ""

    def digits(self, column: str) -> int:
        """Return the number of decimals of a column: one for percentages, three for values of up to about 1."""
        scores = [row.scores[column] for row in self.findings.rows]
        ours = [abs(score.interval.mean) for score in scores if not math.isnan(score.interval.mean)]
        published = [abs(score.published) for score in scores if isinstance(score.published, float)]
        return 3 if (ours or published) and max([*ours, *published]) <= 1.5 else 1

    def metric(self, column: str) -> str:
        """Return the name of a column's metric; in a distribution it is the fraction of good draws."""
        if self.findings.is_distribution:
            return f"fraction of the draws within {NEAR_BEST:g} points of the best {self.title(column)}"
        return self.title(column)

    def ours(self, row: Row, column: str) -> str:
        """Return our value of a row: mean and bounds, or how many of its runs diverged."""
        value = mean_and_bounds(row.scores[column].interval, self.digits(column))
        if self.findings.is_distribution or not row.crashes:
            return value
        if row.ended == 1:
            return "diverged"
        if not row.runs:
            return f"all {row.ended} diverged"
        count = f"{len(row.crashes)} of {row.ended} diverged"
        return count if row.crashed else f"{value}, {count}"

    def published(self, row: Row, column: str) -> str:
        """Return the published value of a row, with a mark if it is doubtful."""
        score = row.scores[column]
        return self.value(score.published, column) + (DOUBTFUL if score.doubtful else "")

    def value(self, value: PublishedValue, column: str) -> str:
        """Return a published value as text."""
        return "–" if value is None else value if isinstance(value, str) else f"{value:.{self.digits(column)}f}"

    def difference(self, row: Row, column: str) -> str:
        """Return our value minus the published one, or that our runs diverged or the paper has a crash."""
        published, ours = row.scores[column].published, row.rank_value(column)
        if published is None or ours is None:
            return "–"
        if isinstance(published, str):
            return "diverged as in the paper" if row.crashed else "crash only in the paper"
        return "diverged only here" if row.crashed else signed(ours - published, self.digits(column))

    def bounds(self, interval: Interval, column: str) -> str:
        """Return the bounds of an interval of differences."""
        digits = self.digits(column)
        known = f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
        return known if interval.is_known else "–"

    def number(self, value: float, column: str) -> str:
        """Return a value of a column; a dash if there is none."""
        return "–" if math.isnan(value) else number(value, self.digits(column))

    def covered(self, column: str) -> str:
        """Return what the intervals of a column cover."""
        repeats = f"{self.spec.repeats}s" if not self.findings.is_distribution else "draws"
        return f"{repeats} and test images" if self.findings.covers_images(column) else f"{repeats} alone"

    def paper_marks(self) -> str:
        """Return what marks the published values in the figure; empty where they are not drawn."""
        has_published = any(row.scores[self.findings.main].published is not None for row in self.findings.rows)
        kind = self.spec.figure.kind
        if not has_published:
            return ""
        marks = PAPER_MARKS.get(kind, "") if self.findings.is_paper_scale else SEPARATE_AXES if kind == "rows" else ""
        return f" {' '.join(marks.split())}" if marks else ""

    def coverage(self) -> str:
        """Return the sentence on what the intervals of the table cover, and why not the test images; empty without intervals."""
        columns = [
            column
            for column in self.spec.metrics
            if any(row.scores[column].interval.is_known for row in self.findings.rows)
        ]
        if not columns or self.findings.is_distribution:
            return ""
        repeats = f"{self.spec.repeats}s"
        without = [column for column in columns if not self.findings.covers_images(column)]
        if not without:
            return (
                f"The intervals cover the {repeats} and the sampling of the test images: they are for future images of the "
                "same kind."
            )
        where = "" if len(without) == len(columns) else f" of {at_most([self.title(column) for column in without])}"
        reasons = dict.fromkeys(problem for column in without for problem in self.findings.values[column].problems)
        return f"The intervals{where} cover the {repeats} alone, for these test images: {at_most(list(reasons))}."

    def shared_starts(self) -> str:
        """Return that the repeats of rows share an earlier run, whose variance no interval covers; empty if they do not."""
        if not self.findings.shared_starts or len(self.findings.repeats) < 2:
            return ""
        stages, repeats = at_most(list(self.findings.shared_starts)), self.spec.repeats
        return f"Several {repeats}s of a row start from one run of {stages}: the intervals leave its variance out."


def at_most(items: Sequence[str], most: int = MOST_LISTED) -> str:
    """Return items separated by semicolons; of more than `most`, the first ones and how many others there are."""
    rest = len(items) - most
    return "; ".join([*items[:most], *([f"and {rest} more"] if rest > 0 else [])])


def head(title: str) -> str:
    """Return a title as the header of a column."""
    return {"lr": "Learning rate"}.get(title, capital(title))


def _identifying_columns(findings: TableFindings) -> list[str]:
    """Return the varied columns that suffice to identify the rows: a learning rate specific to a network adds nothing."""
    names = findings.varied
    for name in reversed(findings.varied):
        fewer = [other for other in names if other != name]
        if len({repr([row.columns.get(other) for other in fewer]) for row in findings.rows}) == len(findings.rows):
            names = fewer
    return names
