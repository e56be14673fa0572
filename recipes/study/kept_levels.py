"""Section `levels` of a study, or --levels: the levels of an axis that are run, so that a part of a study has a report of its own.

levels: {fraction: [0.1], optimizer: [sam]}      # optimizer: a column of an axis of rows

The part is taken from the plan of the whole study: its runs have the names, budgets and chosen lengths that they have there.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from common.errors import UserError, did_you_mean
from common.yaml_text import parse_override
from recipes.study.plan import Cell, Plan
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.scale_rules import find_level, format_level, name_value
from recipes.study.specification import Axis, Study

Levels = Mapping[str, Sequence[Any]]
Kept = Mapping[str, tuple[str, ...]]
_COMMA = re.compile(r",(?![^\[\]]*\])")
"""A comma outside of the brackets of a level that is a list."""


def parse_levels(words: Sequence[str]) -> dict[str, list[Any]]:
    """Return the levels by axis of the words AXIS=LEVEL,LEVEL of the command line."""
    found: dict[str, list[Any]] = {}
    for word in words:
        axis, _, names = word.partition("=")
        levels = [name.strip() for name in _COMMA.split(names)]
        if not axis.strip() or not all(levels):
            raise UserError(f"--levels {word}: must be an axis and some of its levels, such as fraction=0.1,1.0.")
        found.setdefault(axis.strip(), []).extend(map(parse_override, levels))
    return found


def name_of_part(mapping: Mapping[str, Any]) -> str:
    """Return what the names of the folders of a part add to that of the study; empty for a whole study."""
    parts = (f"{axis}{'-'.join(map(name_value, names))}" for axis, names in (mapping.get("levels") or {}).items())
    return re.sub(r"[^\w.+-]+", "_", "_".join(parts))


def find_kept(
    levels: Levels, axes: Mapping[str, Axis], report: ReportSpec | TableReportSpec, problems: list[str]
) -> Kept:
    """Return the names of the levels that are run, of every axis that `levels` restricts; append a problem for what is wrong."""
    invalid, kept = len(problems), {}
    problems += _unknown(levels, axes.values())
    for axis in axes.values():
        names = list(axis.levels)
        for key in levels:
            if not (values := _values(axis, key)):
                continue
            joined = find_level(",".join(map(name_value, levels[key])), values)  # one level whose name has commas
            found = [joined] if joined else [_find(key, value, list(values), problems) for value in levels[key]]
            names = [name for name in names if any(name in values[each] for each in found if each)]
        if len(problems) == invalid and not names:
            given = " and ".join(
                f"{key}={','.join(map(name_value, levels[key]))}" for key in levels if _values(axis, key)
            )
            problems.append(f"levels: no row of {axis.name} has {given}. Give levels that a row has together.")
        if names != list(axis.levels):
            kept[axis.name] = tuple(names)
    if len(problems) == invalid and isinstance(report, ReportSpec):
        arms = next(iter(report.compare), "")
        if not set(report.compare.get(arms, ())) <= set(kept.get(arms, axes[arms].levels if arms in axes else ())):
            pair = " and ".join(report.compare[arms])
            problems.append(f"levels.{arms}: the report compares {pair}. Keep both.")
    return kept


def _values(axis: Axis, key: str) -> dict[str, set[str]]:
    """Return the levels of an axis by their names, if it has the name `key`, and by their values in the column `key`."""
    found: dict[str, set[str]] = {}
    for name in axis.levels:
        row = axis.columns.get(name, {})
        for value in ([name] if key == axis.name else []) + ([format_level(row[key])] if key in row else []):
            found.setdefault(value, set()).add(name)
    return found


def _find(key: str, value: Any, known: list[str], problems: list[str]) -> str | None:
    """Return a known value; append a problem if it is none."""
    if (found := find_level(value, known)) is None:
        name = name_value(value)
        problems.append(
            f"levels.{key} = {name}: no such level.{did_you_mean(name, known)} {key} has {', '.join(known)}."
        )
    return found


def _unknown(levels: Levels, axes: Iterable[Axis]) -> Iterator[str]:
    """Yield a problem for every name that is neither an axis nor a column of one."""
    names = [name for axis in axes for name in [axis.name, *(key for row in axis.columns.values() for key in row)]]
    known = list(dict.fromkeys(names))
    for name in levels:
        if name not in known:
            yield f"levels.{name}: no such axis.{did_you_mean(name, known)} Known axes: {', '.join(known)}."


def kept_plan(plan: Plan, baselines: Iterable[str]) -> Plan:
    """Return the part of a plan that its study keeps; `baselines` are the hashes of the baselines of the cells that are kept."""
    cells = kept_cells(plan)
    by_id, digests = {run.id: run for run in plan.runs}, set(baselines)
    needed = [name for cell in cells for name in cell.runs.values()]
    needed += [run.id for run in plan.runs if run.digest in digests]
    ids: set[str] = set()
    while needed:
        name = needed.pop()
        ids.add(name)
        if (start := by_id[name].needs) is not None and start not in ids:
            needed.append(start)
    return replace(
        plan, study=kept_study(plan.study), runs=tuple(run for run in plan.runs if run.id in ids), cells=cells
    )


def kept_cells(plan: Plan) -> tuple[Cell, ...]:
    """Return the cells of a plan whose levels its study keeps."""
    kept = plan.study.kept
    return tuple(cell for cell in plan.cells if all(cell.levels[axis] in names for axis, names in kept.items()))


def kept_study(study: Study) -> Study:
    """Return a study with the levels that it keeps alone, for the report on them."""
    if not study.kept:
        return study
    axes = tuple(
        replace(axis, levels={name: axis.levels[name] for name in study.kept[axis.name]})
        if axis.name in study.kept
        else axis
        for axis in study.axes
    )
    levels = {axis.name: set(axis.levels) for axis in axes}
    without = tuple(entry for entry in study.without if all(level in levels[axis] for axis, level in entry.items()))
    return replace(study, axes=axes, report=_kept_report(study, axes), without=without, kept={})


def _kept_report(study: Study, axes: Sequence[Axis]) -> ReportSpec | TableReportSpec:
    """Return what is left of a report: comparisons, further starts and claims whose levels are all kept."""
    report, levels = study.report, {axis.name: set(axis.levels) for axis in axes}
    if isinstance(report, ReportSpec):
        compare = {name: pair for name, pair in report.compare.items() if set(pair) <= levels[name]}
        starts = tuple(level for level in report.starts if level in levels[next(iter(report.compare))])
        saving_at = report.saving_at if report.saving_at in levels[report.x] else None
        return replace(report, compare=compare, starts=starts, saving_at=saving_at)
    pairs = tuple(
        pair for pair in report.pairs if all(_has_row(side, axes, report.repeats) for side in (pair.base, pair.other))
    )
    if left_out := len(report.pairs) - len(pairs):
        words = "1 claim is" if left_out == 1 else f"{left_out} claims are"
        return replace(report, pairs=pairs, notes=(*report.notes, f"{words} about levels that were not run (levels)."))
    return report


def _has_row(side: Mapping[str, Any], axes: Sequence[Axis], repeats: str) -> bool:
    """Return whether a side of a claim has a row among the levels."""
    rows = [
        [axis.columns.get(level, {axis.name: level}) for level in axis.levels] for axis in axes if axis.name != repeats
    ]
    for parts in itertools.product(*rows):
        row = {column: format_level(value) for part in parts for column, value in part.items()}
        if all(column in row and find_level(value, [row[column]]) is not None for column, value in side.items()):
            return True
    return False
