"""Owns the values that the papers print: reading studies/printed/papers.yaml, and finding the printed row that is one of ours."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from common.config import nearest
from common.errors import UserError
from recipes.study.sections import read_yaml
from recipes.study.specification import STUDIES

PAPERS = STUDIES / "printed" / "papers.yaml"
CRASH: Literal["crash"] = "crash"
"""The papers' word for a run that diverged, in the place of a value."""
PrintedValue = float | Literal["crash"] | None
"""A printed value; none where the paper prints nothing."""
SENTINEL = object()


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
    """A table as its paper prints it."""

    name: str
    caption: str
    rows: tuple[PrintedRow, ...]

    def find(self, columns: Mapping[str, Any], metrics: Collection[str]) -> PrintedRow | None:
        """Return the one row with the values of `columns`, or None where there is none, or more than one.

        Columns that the table prints nowhere, and those of the `metrics`, do not count.
        """
        printed = {name for row in self.rows for name in row.entries} - set(metrics)
        wanted = {name: value for name, value in columns.items() if name in printed}
        found = [
            row for row in self.rows if all(is_same(row.entries.get(name, SENTINEL), wanted[name]) for name in wanted)
        ]
        return found[0] if len(found) == 1 else None


def printed_names() -> list[str]:
    """Return the names of all printed tables."""
    return list(_read(PAPERS))


@cache
def _read(path: Path) -> dict[str, Any]:
    """Return the file of the printed tables."""
    tables: dict[str, Any] = read_yaml(path.read_text(encoding="utf-8"))
    return tables


def load_printed(name: str, path: Path = PAPERS) -> PrintedTable:
    """Return the table called `name`; raise UserError where there is none of that name."""
    tables = _read(path)
    if name not in tables:
        raise UserError(
            f"report.table = {name}: no such printed table.{nearest(name, list(tables))} There are {', '.join(tables)}."
        )
    rows = tuple(
        PrintedRow({key: value for key, value in row.items() if key != "doubtful"}, frozenset(row.get("doubtful", ())))
        for row in tables[name]["rows"]
    )
    return PrintedTable(name, " ".join(str(tables[name]["caption"]).split()), rows)


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
