"""Owns reading the section `report` of a study's file: a comparison of arms along a curve, or a table beside a printed one.

report: {metric: test_top1, over: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}

report:
  table: scaled_relu_table1                 # name in printed/papers.yaml; none where the paper prints no numbers
  metrics: {top1: test_top1}                # printed column -> metric of the last stage
  repeats: seed
  figure: {kind: rows}                      # rows | curve | layers | distribution | gap, with over and panels
  pairs:
    - claim: the conv stem carries the larger rate
      base: {stem: patchify, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
      other: {stem: conv, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
"""

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from common.config import nearest
from recipes.study.published import printed_names
from recipes.study.scale_rules import write_level
from recipes.study.sections import is_number, named, section
from recipes.study.specification import Axis, Figure, Pair, Reading, TableReading


def build_reading(entry: Any, axes: Mapping[str, Axis], problems: list[str]) -> Reading | TableReading:
    """Return the section `report`, its axes and levels checked against the study's."""
    if isinstance(entry, dict) and "metrics" in entry:
        return _table_reading(entry, axes, problems)
    return _comparison(entry, axes, problems)


def _comparison(entry: Any, axes: Mapping[str, Axis], problems: list[str]) -> Reading:
    """Return how a comparison of arms is read."""
    required = ("metric", "over", "repeats", "compare")
    fields = section(entry, "report", (*required, "metric_name", "over_name", "titles", "notes"), required, problems)
    for key in ("over", "repeats"):
        if key in fields and fields[key] not in axes:
            problems.append(f"report.{key} = {fields[key]}: no such axis. There are {', '.join(axes)}.")
    if fields.get("over") in axes:
        wrong = [level for level in axes[fields["over"]].levels if not is_number(level)]
        problems += [f"report.over: level {level} of {fields['over']} is not a number." for level in wrong]
    compare: dict[str, tuple[str, str]] = {}
    for name, pair in named(fields.get("compare"), "report.compare", problems) if fields else []:
        levels = list(axes[name].levels) if name in axes else []
        if not isinstance(pair, list) or len(pair) != 2 or any(level not in levels for level in pair):
            has = f"{name} has {', '.join(levels) or 'none'}"
            problems.append(f"report.compare.{name} = {pair}: needs two levels of an axis, [base, other]; {has}.")
        else:
            compare[name] = (pair[0], pair[1])
    metric, over = str(fields.get("metric", "")), str(fields.get("over", ""))
    names = str(fields.get("metric_name", metric)), str(fields.get("over_name", over))
    titles, repeats = fields.get("titles", {}), str(fields.get("repeats", ""))
    return Reading(metric, names[0], over, names[1], repeats, compare, titles, _notes(fields))


def _table_reading(entry: Mapping[str, Any], axes: Mapping[str, Axis], problems: list[str]) -> TableReading:
    """Return how a study is read beside a printed table."""
    required = ("metrics", "repeats", "figure")
    fields = section(entry, "report", (*required, "table", "pairs", "titles", "notes"), required, problems)
    table = fields.get("table")
    if table is not None and table not in printed_names():
        hint = nearest(str(table), printed_names())
        problems.append(f"report.table = {table}: no such printed table.{hint}")
    if fields.get("repeats") not in axes:
        problems.append(f"report.repeats = {fields.get('repeats')}: no such axis. There are {', '.join(axes)}.")
    columns = _columns(axes, str(fields.get("repeats")))
    metrics = {column: str(metric) for column, metric in named(fields.get("metrics"), "report.metrics", problems)}
    figure = _figure(fields.get("figure"), [*columns, *axes], problems)
    pairs = tuple(
        _pair(number, pair, columns, problems) for number, pair in enumerate(fields.get("pairs", []), start=1)
    )
    repeats = str(fields.get("repeats", ""))
    return TableReading(table, metrics, repeats, figure, pairs, fields.get("titles", {}), _notes(fields))


def _columns(axes: Mapping[str, Axis], repeats: str) -> dict[str, set[str]]:
    """Return the written values of every column that a row of the table prints."""
    columns: dict[str, set[str]] = {}
    for axis in axes.values():
        if axis.name != repeats:
            rows = axis.columns.values() if axis.columns else [{axis.name: level} for level in axis.levels]
            for row in rows:
                for column, value in row.items():
                    columns.setdefault(column, set()).add(write_level(value))
    return columns


def _figure(entry: Any, columns: list[str], problems: list[str]) -> Figure:
    """Return the section `figure`."""
    fields = section(entry, "report.figure", ("kind", "over", "panels"), ("kind",), problems)
    kinds = get_args(get_type_hints(Figure)["kind"])
    kind, over, panels = fields.get("kind"), fields.get("over"), fields.get("panels")
    if kind is None or kind not in kinds:
        problems.append(f"report.figure.kind = {kind}: unknown. There are {', '.join(kinds)}.")
        return Figure("rows")
    if (over is None) != (kind in ("rows", "layers")):
        needs = "needs a column" if over is None else "is not read"
        problems.append(f"report.figure.over = {over}: {needs} in a figure of kind {kind}.")
    for name, column in (("over", over), ("panels", panels)):
        if column is not None and column not in columns:
            problems.append(f"report.figure.{name} = {column}: no such column. There are {', '.join(columns)}.")
    return Figure(kind, over, panels)


def _pair(number: int, entry: Any, columns: Mapping[str, set[str]], problems: list[str]) -> Pair:
    """Return one of `pairs`, its columns and values checked."""
    where = f"report.pairs.{number}"
    fields = section(entry, where, ("claim", "base", "other"), ("claim", "base", "other"), problems)
    for side in ("base", "other"):
        for column, value in named(fields.get(side), f"{where}.{side}", problems):
            if write_level(value) not in columns.get(column, set()):
                told = f"there are {', '.join(sorted(columns[column]))}" if column in columns else "no such column"
                problems.append(f"{where}.{side}.{column} = {write_level(value)}: no row has it; {told}.")
    return Pair(str(fields.get("claim", "")), fields.get("base") or {}, fields.get("other") or {})


def _notes(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the notes, each on one line."""
    return tuple(" ".join(str(note).split()) for note in fields.get("notes", ()))
