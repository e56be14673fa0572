"""Section `without` of a study file: combinations of levels that are no cells, because one level has no counterpart at another.

without:
  - {training: public, stem: conv}       # the public weights have one stem
  - {training: continued, stem: conv}

A cell is removed if its levels include all of an entry's. What a report compares, and every level, must keep its cells.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from common.errors import did_you_mean
from recipes.study.absent_cells import is_removed
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.scale_rules import find_level, name_value
from recipes.study.specification import Axis

Entries = tuple[Mapping[str, str], ...]


def build_without(
    entries: Sequence[Mapping[str, Any]],
    axes: Mapping[str, Axis],
    report: ReportSpec | TableReportSpec,
    scaled_away: Mapping[str, Sequence[str]],
    problems: list[str],
) -> Entries:
    """Return the entries with their levels by name; append a problem for each that cannot be removed.

    Entries with a level that a scale excludes (`scaled_away`, by axis) are dropped: they have no cells.
    """
    found: list[Mapping[str, str]] = []
    invalid = len(problems)
    for number, entry in enumerate(entries, start=1):
        where = f"without.{number}"
        if not entry:
            problems.append(f"{where} = {{}}: names no level, so every cell would be removed. Name a level of an axis.")
        levels = {
            axis: level
            for axis, value in entry.items()
            if (level := _level(where, axis, value, axes, scaled_away, problems))
        }
        problems += _partial(where, levels, report)
        if len(levels) == len(entry) and not any(level in scaled_away.get(axis, ()) for axis, level in levels.items()):
            found.append(levels)
    if len(problems) == invalid:
        problems += _needed(found, axes, report)
    return tuple(found)


def _level(
    where: str,
    axis: str,
    value: Any,
    axes: Mapping[str, Axis],
    scaled_away: Mapping[str, Sequence[str]],
    problems: list[str],
) -> str | None:
    """Return a level by its name, or None, with a problem, if there is none."""
    if axis not in axes:
        problems.append(f"{where}.{axis}: no such axis.{did_you_mean(axis, axes)} Known axes: {', '.join(axes)}.")
        return None
    known = list(axes[axis].levels)
    level = find_level(value, [*known, *scaled_away.get(axis, ())])
    if level is None:
        name = name_value(value)
        problems.append(
            f"{where}.{axis} = {name}: no such level.{did_you_mean(name, known)} {axis} has {', '.join(known)}."
        )
    return level


def _partial(where: str, levels: Mapping[str, str], report: ReportSpec | TableReportSpec) -> Iterator[str]:
    """Yield a problem for each axis of an entry on which only a part of a result would be left."""
    along = {report.repeats: "repeats"} | ({report.x: "x"} if isinstance(report, ReportSpec) else {})
    for axis in levels:
        if axis in along:
            yield (
                f"{where}.{axis}: is report.{along[axis]}, so a part of a result would be missing. Remove {axis} from the"
                " entry: it then applies to all of its levels."
            )


def _needed(
    entries: Sequence[Mapping[str, str]], axes: Mapping[str, Axis], report: ReportSpec | TableReportSpec
) -> Iterator[str]:
    """Yield a problem for every level without a cell, and for every pair of levels that is compared and lacks one."""
    if not entries:
        return
    cells = [
        dict(zip(axes, names, strict=True)) for names in itertools.product(*(axis.levels for axis in axes.values()))
    ]
    left = [cell for cell in cells if not is_removed(cell, entries)]
    for name, axis in axes.items():
        for level in axis.levels:
            if not any(cell[name] == level for cell in left):
                yield f"without: removes every cell of the level {level} of {name}. Remove the level, or an entry."
    compared = report.compare if isinstance(report, ReportSpec) else {}
    needed = [cell for cell in cells if all(cell[axis] in pair for axis, pair in compared.items())]
    if compared and (cell := next((cell for cell in needed if is_removed(cell, entries)), None)):
        names = ", ".join(cell[axis] for axis in compared)
        yield f"without: removes {names}, which report.compare needs. Remove the entry, or compare other levels."
    starts = report.starts if isinstance(report, ReportSpec) else ()
    main = next(iter(compared), "")
    if starts and not any(all({**cell, main: level} in left for level in starts) for cell in left):
        yield (
            f"without: leaves no combination of the other axes with all of report.starts ({', '.join(starts)}), which are compared"
            " there. Remove an entry."
        )
