"""Claims of `report.pairs` whose sides several rows match: they would never be measured, since a claim is about two rows."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recipes.study.absent_cells import is_removed
from recipes.study.published import entries_match
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.scale_rules import format_level
from recipes.study.specification import Axis

Row = Mapping[str, Any]
"""Columns and values of a row of the report."""


def matches(row: Row, side: Row) -> bool:
    """Return whether a row has the values of a side of a claim in all of its columns."""
    return all(column in row and entries_match(row[column], value) for column, value in side.items())


def ambiguous_claims(
    report: ReportSpec | TableReportSpec,
    axes: Iterable[Axis],
    without: Iterable[Mapping[str, str]],
    kept: Mapping[str, tuple[str, ...]],
) -> Iterator[str]:
    """Yield a problem for every side of a claim that matches more than one of the rows that are run."""
    if not isinstance(report, TableReportSpec) or not report.pairs:
        return
    rows = list(_rows(report, axes, tuple(without), kept))
    for number, pair in enumerate(report.pairs, start=1):
        for name, side in (("base", pair.base), ("other", pair.other)):
            found = [row for row in rows if matches(row, side)]
            if len(found) > 1:
                yield f"report.pairs.{number}.{name} = {_text(side)}: matches {len(found)} rows{_remedy(side, found)}"


def _rows(
    report: TableReportSpec,
    axes: Iterable[Axis],
    without: tuple[Mapping[str, str], ...],
    kept: Mapping[str, tuple[str, ...]],
) -> Iterator[Row]:
    """Yield the rows of a report: the combinations of the levels of all axes but the repeats and the draws of a distribution."""
    draws = report.figure.x if report.figure.kind == "distribution" else None
    varied = [axis for axis in axes if axis.name not in (report.repeats, draws)]
    for names in itertools.product(*(kept.get(axis.name, tuple(axis.levels)) for axis in varied)):
        levels = {axis.name: name for axis, name in zip(varied, names, strict=True)}
        if not is_removed(levels, without):
            parts = (axis.columns.get(levels[axis.name], {axis.name: levels[axis.name]}) for axis in varied)
            yield {column: value for part in parts for column, value in part.items()}


def _remedy(side: Row, found: list[Row]) -> str:
    """Return how the rows that match a side differ, and what to add to it."""
    columns = dict.fromkeys(column for row in found for column in row if column not in side)
    differing = [column for column in columns if any(row.get(column) != found[0].get(column) for row in found)]
    if not differing:
        return " with the same columns, since two axes share the name of a column. Rename it in one of them."
    added = {column: found[0][column] for column in differing if column in found[0]}
    names = ", ".join(differing)
    return f". Add {names}, in which they differ, as in {_text({**side, **added})}."


def _text(columns: Row) -> str:
    """Return columns and values as they stand in a study file."""
    return f"{{{', '.join(f'{column}: {format_level(value)}' for column, value in columns.items())}}}"
