"""Owns the values that the papers print: reading studies/printed/papers.yaml, and finding the printed row that is one of ours."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from recipes.sections import read_yaml
from recipes.study import STUDIES

PRINTED = STUDIES / "printed" / "papers.yaml"
CRASH: Literal["crash"] = "crash"
"""The papers' word for a run that diverged, in the place of a value."""
PrintedValue = float | Literal["crash"] | None
"""A printed value; none where the paper prints nothing."""
MISSING = object()
"""What a printed row has in a column that it lacks: like nothing else."""


@dataclass(frozen=True)
class PrintedRow:
    """One row of a printed table: what it says of its settings and of its results, by column."""

    entries: Mapping[str, Any]
    doubtful: frozenset[str]
    """Columns whose value looks like a fault of the text recognition; kept as it stands."""

    def value(self, column: str) -> PrintedValue:
        """Return the printed value in `column`."""
        entry = self.entries.get(column)
        return CRASH if entry == CRASH else None if entry is None else float(entry)


@dataclass(frozen=True)
class PrintedTable:
    """A table as its paper prints it: its caption, and its rows as mappings of columns to values."""

    caption: str
    rows: tuple[Mapping[str, Any], ...]

    def find(self, columns: Mapping[str, Any], metrics: Collection[str]) -> PrintedRow | None:
        """Return the one row with the values of `columns`, or None where there is none, or more than one.

        Columns that the table prints nowhere, and those of the `metrics`, do not count.
        """
        printed = {name for row in self.rows for name in row} - {*metrics, "doubtful"}
        wanted = {name: value for name, value in columns.items() if name in printed}
        found = [row for row in self.rows if all(is_same(row.get(name, MISSING), wanted[name]) for name in wanted)]
        return PrintedRow(found[0], frozenset(found[0].get("doubtful", ()))) if len(found) == 1 else None


@cache
def load_printed() -> Mapping[str, PrintedTable]:
    """Return every printed table by name."""
    tables = read_yaml(PRINTED.read_text(encoding="utf-8"))
    return {
        name: PrintedTable(" ".join(str(table["caption"]).split()), tuple(table["rows"]))
        for name, table in tables.items()
    }


def is_same(one: Any, other: Any) -> bool:
    """Tell whether two entries say the same: lists item by item, numbers as numbers (`1e-3` is 0.001), others as text."""
    if isinstance(one, list | tuple) or isinstance(other, list | tuple):
        lists = [list(each) if isinstance(each, list | tuple) else [each] for each in (one, other)]
        return len(lists[0]) == len(lists[1]) and all(map(is_same, *lists))
    numbers = as_number(one), as_number(other)
    if numbers[0] is not None and numbers[1] is not None:
        return abs(numbers[0] - numbers[1]) <= 1e-9 * max(abs(numbers[0]), abs(numbers[1]))
    return str(one) == str(other)


def as_number(value: Any) -> float | None:
    """Return what `value` is as a number, also where YAML took it for text; None where it is none."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
