"""Section `report` of a study file: a comparison of levels along a curve, or a comparison with a published table.

report: {metric: test_top1, x: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}

report:
  table: scaled_relu_table1                 # name in published/papers.yaml; omitted if the paper prints no numbers
  metrics: {top1: test_top1}                # published column -> metric of the last stage
  repeats: seed
  figure: {kind: rows}                      # rows | curve | layers | distribution | gap; with x and panels
  pairs:
    - claim: the conv stem carries the larger rate
      base: {stem: patchify, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
      other: {stem: conv, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
"""

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from common.errors import did_you_mean
from recipes.study.published import published_table_names
from recipes.study.scale_rules import format_level
from recipes.study.sections import check_section, is_number, named_entries
from recipes.study.specification import Axis, Figure, Pair, ReportSpec, TableReportSpec


def build_report_spec(entry: Any, axes: Mapping[str, Axis], problems: list[str]) -> ReportSpec | TableReportSpec:
    """Return the section `report`, its axes and levels validated against those of the study."""
    if isinstance(entry, dict) and "metrics" in entry:
        return _table_report_spec(entry, axes, problems)
    return _comparison_report_spec(entry, axes, problems)


def _comparison_report_spec(entry: Any, axes: Mapping[str, Axis], problems: list[str]) -> ReportSpec:
    """Return the spec of a comparison of levels."""
    required = ("metric", "x", "repeats", "compare")
    fields = check_section(entry, "report", (*required, "metric_name", "x_name", "titles", "notes"), required, problems)
    for key in ("x", "repeats"):
        if key in fields and fields[key] not in axes:
            problems.append(f"report.{key} = {fields[key]}: no such axis. Known axes: {', '.join(axes)}.")
    if fields.get("x") in axes:
        invalid = [level for level in axes[fields["x"]].levels if not is_number(level)]
        problems += [f"report.x: level {level} of {fields['x']} is not a number." for level in invalid]
    compare: dict[str, tuple[str, str]] = {}
    for name, pair in named_entries(fields.get("compare"), "report.compare", problems) if fields else []:
        levels = list(axes[name].levels) if name in axes else []
        if not isinstance(pair, list) or len(pair) != 2 or any(level not in levels for level in pair):
            known = f"{name} has {', '.join(levels) or 'none'}"
            problems.append(f"report.compare.{name} = {pair}: must be two levels of an axis, [base, other]; {known}.")
        else:
            compare[name] = (pair[0], pair[1])
    metric, x = str(fields.get("metric", "")), str(fields.get("x", ""))
    metric_name, x_name = str(fields.get("metric_name", metric)), str(fields.get("x_name", x))
    titles, repeats = fields.get("titles", {}), str(fields.get("repeats", ""))
    return ReportSpec(metric, metric_name, x, x_name, repeats, compare, titles, _notes(fields))


def _table_report_spec(entry: Mapping[str, Any], axes: Mapping[str, Axis], problems: list[str]) -> TableReportSpec:
    """Return the spec of a comparison with a published table."""
    required = ("metrics", "repeats", "figure")
    fields = check_section(entry, "report", (*required, "table", "pairs", "titles", "notes"), required, problems)
    table = fields.get("table")
    if table is not None and table not in published_table_names():
        hint = did_you_mean(str(table), published_table_names())
        problems.append(f"report.table = {table}: no such published table.{hint}")
    if fields.get("repeats") not in axes:
        problems.append(f"report.repeats = {fields.get('repeats')}: no such axis. Known axes: {', '.join(axes)}.")
    columns = _columns(axes, str(fields.get("repeats")))
    metrics = {name: str(value) for name, value in named_entries(fields.get("metrics"), "report.metrics", problems)}
    figure = _figure(fields.get("figure"), [*columns, *axes], problems)
    pairs = tuple(
        _pair(number, pair, columns, problems) for number, pair in enumerate(fields.get("pairs", []), start=1)
    )
    repeats = str(fields.get("repeats", ""))
    return TableReportSpec(table, metrics, repeats, figure, pairs, fields.get("titles", {}), _notes(fields))


def _columns(axes: Mapping[str, Axis], repeats: str) -> dict[str, set[str]]:
    """Return the values of every table column, in the form of level names."""
    columns: dict[str, set[str]] = {}
    for axis in axes.values():
        if axis.name != repeats:
            rows = axis.columns.values() if axis.columns else [{axis.name: level} for level in axis.levels]
            for row in rows:
                for column, value in row.items():
                    columns.setdefault(column, set()).add(format_level(value))
    return columns


def _figure(entry: Any, columns: list[str], problems: list[str]) -> Figure:
    """Return the section `figure`."""
    fields = check_section(entry, "report.figure", ("kind", "x", "panels"), ("kind",), problems)
    kinds = get_args(get_type_hints(Figure)["kind"])
    kind, x, panels = fields.get("kind"), fields.get("x"), fields.get("panels")
    if kind is None or kind not in kinds:
        problems.append(f"report.figure.kind = {kind}: unknown. Known kinds: {', '.join(kinds)}.")
        return Figure("rows")
    if (x is None) != (kind in ("rows", "layers")):
        reason = "must name a column" if x is None else "is not used"
        problems.append(f"report.figure.x = {x}: {reason} in a figure of kind {kind}.")
    for name, column in (("x", x), ("panels", panels)):
        if column is not None and column not in columns:
            problems.append(f"report.figure.{name} = {column}: no such column. Known columns: {', '.join(columns)}.")
    return Figure(kind, x, panels)


def _pair(number: int, entry: Any, columns: Mapping[str, set[str]], problems: list[str]) -> Pair:
    """Return one of `pairs`, its columns and values validated."""
    where = f"report.pairs.{number}"
    fields = check_section(entry, where, ("claim", "base", "other"), ("claim", "base", "other"), problems)
    for side in ("base", "other"):
        for column, value in named_entries(fields.get(side), f"{where}.{side}", problems):
            if format_level(value) not in columns.get(column, set()):
                known = f"known values: {', '.join(sorted(columns[column]))}" if column in columns else "no such column"
                problems.append(f"{where}.{side}.{column} = {format_level(value)}: matches no row; {known}.")
    return Pair(str(fields.get("claim", "")), fields.get("base") or {}, fields.get("other") or {})


def _notes(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the notes, each on one line."""
    return tuple(" ".join(str(note).split()) for note in fields.get("notes", ()))
