"""Owns the papers' printed tables, read from one file: studies/printed/papers.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from recipes.sections import read_yaml
from recipes.study import STUDIES

PRINTED = STUDIES / "printed" / "papers.yaml"


@dataclass(frozen=True)
class PrintedTable:
    """A table as a paper prints it: its caption, and its rows as mappings of columns to values."""

    caption: str
    rows: tuple[Mapping[str, Any], ...]


@cache
def load_printed() -> Mapping[str, PrintedTable]:
    """Return every printed table by name."""
    tables = read_yaml(PRINTED.read_text(encoding="utf-8"))
    return {name: PrintedTable(table["caption"], tuple(table["rows"])) for name, table in tables.items()}
