"""Published tables: values from studies/published/papers.yaml, and the published row that matches a row of a study."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError, did_you_mean
from common.yaml_text import read_yaml
from recipes.study.specification import STUDIES

PAPERS = STUDIES / "published" / "papers.yaml"
CRASH: Literal["crash"] = "crash"
"""How the papers print the result of a run that diverged, instead of a value."""
PublishedValue = float | Literal["crash"] | None
"""A published value; None if the paper prints none."""
MISSING = object()


@dataclass(frozen=True)
class PublishedRow:
    """A row of a published table: its settings and results, by column."""

    entries: Mapping[str, Any]
    doubtful: frozenset[str]
    """Columns whose value looks like an error of the text recognition; the value is kept unchanged."""

    def value(self, column: str) -> PublishedValue:
        """Return the published value in `column`."""
        entry = self.entries.get(column)
        return CRASH if entry == CRASH else None if entry is None else float(entry)


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper."""

    name: str
    caption: str
    rows: tuple[PublishedRow, ...]

    def find(self, columns: Mapping[str, Any], metrics: Collection[str]) -> PublishedRow | None:
        """Return the only row with the values of `columns`, or None if there is none or more than one.

        Columns that the table does not have, and the columns of `metrics`, are ignored.
        """
        published = {name for row in self.rows for name in row.entries} - set(metrics)
        wanted = {name: value for name, value in columns.items() if name in published}
        matches = [
            row
            for row in self.rows
            if all(entries_match(row.entries.get(name, MISSING), value) for name, value in wanted.items())
        ]
        return matches[0] if len(matches) == 1 else None


def published_table_names() -> list[str]:
    """Return the names of all published tables."""
    return list(_read(PAPERS))


@cache
def _read(path: Path) -> dict[str, Any]:
    """Return the content of the file of published tables."""
    tables: dict[str, Any] = read_yaml(path.read_text(encoding="utf-8"))
    return tables


def load_published_table(name: str, path: Path = PAPERS) -> PublishedTable:
    """Return the table `name`; raise UserError if there is no such table."""
    tables = _read(path)
    if name not in tables:
        hint = did_you_mean(name, list(tables))
        raise UserError(f"report.table = {name}: no such published table.{hint} Known tables: {', '.join(tables)}.")
    rows = tuple(
        PublishedRow(
            {key: value for key, value in row.items() if key != "doubtful"}, frozenset(row.get("doubtful", ()))
        )
        for row in tables[name]["rows"]
    )
    return PublishedTable(name, " ".join(str(tables[name]["caption"]).split()), rows)


def entries_match(one: Any, other: Any) -> bool:
    """Return whether two entries are equal: lists item by item, numbers as numbers (`1e-3` is 0.001), others as text."""
    if isinstance(one, list | tuple) or isinstance(other, list | tuple):
        lists = [list(each) if isinstance(each, list | tuple) else [each] for each in (one, other)]
        return len(lists[0]) == len(lists[1]) and all(map(entries_match, *lists))
    numbers = as_number(one), as_number(other)
    if numbers[0] is not None and numbers[1] is not None:
        return abs(numbers[0] - numbers[1]) <= 1e-9 * max(abs(numbers[0]), abs(numbers[1]))
    return str(one) == str(other)


def as_number(value: Any) -> float | None:
    """Return `value` as a number, also if YAML parsed it as text; None if it is not a number."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
