"""Section `report` of a study file: a comparison of levels along a curve, or a comparison with a published table.

report: {metric: test_top1, x: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}

report: {..., starts: [public, continued]}    # further levels of training, with claims of their own

report:
  table: scaled_relu_table1                 # name in published/papers.yaml; omitted if the paper prints no numbers
  metrics:                                  # published column -> metric of the last stage, at its end or after a part of its epochs
    top1: test_top1
    top1_epoch50: {metric: validation_top1, at: 0.166667}
  repeats: seed
  figure: {kind: rows}                      # rows | layers; curve | distribution | gap with x; all with panels
  pairs:                                    # each side has the columns that identify one row
    - claim: the conv stem carries the larger rate
      base: {stem: patchify, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
      other: {stem: conv, lr: 1.0e-3, optimizer: adamw, warmup_epochs: 5}
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from common.errors import did_you_mean
from common.yaml_words import Word, values_of
from recipes.study.metric_names import has_error
from recipes.study.report_forms import ComparisonReport, MetricDuringTraining, PairEntry, TableReport
from recipes.study.report_specification import Figure, Pair, Price, ReportSpec, TableReportSpec
from recipes.study.scale_rules import find_level, format_level, is_number, name_value
from recipes.study.specification import Axis

_KEYS_OF_LABELS = ("fraction", "images_per_class", "subset_file", "source", "train_split", "metadata_file", "leave_out")
"""Keys of the section `data` that change how many labeled images a run is trained on."""


def build_report_spec(
    entry: ComparisonReport | TableReport, axes: Mapping[str, Axis], problems: list[str]
) -> ReportSpec | TableReportSpec:
    """Return the section `report`, its axes and levels validated against those of the study."""
    for key, axis in (("x", getattr(entry, "x", None)), ("repeats", entry.repeats)):
        if axis is not None and axis not in axes:
            problems.append(f"report.{key} = {axis}: no such axis. Known axes: {', '.join(axes)}.")
    notes = tuple(" ".join(note.split()) for note in entry.notes)
    if isinstance(entry, TableReport):
        columns = _columns(axes, entry.repeats)
        figure = Figure(entry.figure.kind, getattr(entry.figure, "x", None), entry.figure.panels)
        _check_figure(figure, [*columns, *axes], list(axes), problems)
        problems += _without_error(entry)
        pairs = tuple(_pair(number, pair, columns, problems) for number, pair in enumerate(entry.pairs, start=1))
        metrics = {column: _metric_key(metric) for column, metric in entry.metrics.items()}
        return TableReportSpec(entry.table, metrics, entry.repeats, figure, pairs, entry.titles, notes)
    if entry.x in axes:
        invalid = [level for level in axes[entry.x].levels if not is_number(level)]
        problems += [f"report.x: level {level} of {entry.x} is not a number." for level in invalid]
        numbers = Counter(float(level) for level in axes[entry.x].levels if level not in invalid)
        problems += [
            f"report.x: {count} levels of {entry.x} are {number:g}. Remove all but one."
            for number, count in numbers.items()
            if count > 1
        ]
    problems += _two_roles(entry)
    compare = {
        name: pair for name, levels in entry.compare.items() if (pair := _compared(name, levels, axes, problems))
    }
    metric_name, x_name = entry.metric_name or entry.metric, entry.x_name or entry.x
    return ReportSpec(
        entry.metric,
        metric_name,
        entry.x,
        x_name,
        entry.repeats,
        compare,
        entry.titles,
        notes,
        _saving_at(entry, axes, problems),
        entry.higher_is_better,
        entry.metric_range,
        None if entry.price is None else Price(entry.price.label, entry.price.device_hour, entry.price.currency),
        _starts(entry, compare, axes, problems),
        tuple(" ".join(sentence.split()) for sentence in entry.skipped),
        entry.x not in axes or _sets(axes[entry.x], *_KEYS_OF_LABELS),
        entry.x not in axes or _sets(axes[entry.x], "fraction"),
    )


def _two_roles(entry: ComparisonReport) -> Iterator[str]:
    """Yield a problem for every axis that the report names for two purposes."""
    if entry.repeats == entry.x:
        yield f"report.repeats = {entry.repeats}: is report.x, too. Name the axis of the seeds, or another x."
    for name in entry.compare:
        for key in ("x", "repeats"):
            if name == getattr(entry, key):
                yield f"report.compare.{name}: is report.{key}, too. Compare levels of another axis."


def _starts(
    entry: ComparisonReport, compare: Mapping[str, tuple[str, str]], axes: Mapping[str, Axis], problems: list[str]
) -> tuple[str, ...]:
    """Return the further levels of the first compared axis that the report has claims on."""
    main = next(iter(entry.compare))
    if not entry.starts or main not in compare:
        return ()
    levels = [level for level in axes[main].levels if level not in compare[main]]
    found: list[str] = []
    for value in entry.starts:
        level, name = find_level(value, levels), name_value(value)
        if level is None:
            hint = did_you_mean(name, levels)
            known = ", ".join(levels) or "no others"
            problems.append(
                f"report.starts = {name}: must be a level of {main} besides those that are compared.{hint} It has {known}."
            )
        elif level in found:
            problems.append(f"report.starts = {name}: is there twice. Remove one of them.")
        else:
            found.append(level)
    return tuple(found)


def _sets(axis: Axis, *names: str) -> bool:
    """Return whether a level of an axis sets one of these keys of the section `data`."""
    return any(key.split(".")[-2:] == ["data", name] for key in axis.all_keys() for name in names)


def _saving_at(entry: ComparisonReport, axes: Mapping[str, Axis], problems: list[str]) -> str | None:
    """Return the level of x at which label savings are declared, or None if the study declares none."""
    if entry.metric_range is not None and not entry.metric_range[0] < entry.metric_range[1]:
        problems.append(f"report.metric_range = {list(entry.metric_range)}: must be [low, high] with low < high.")
    if entry.saving_at is None or entry.x not in axes:
        return None
    if not _sets(axes[entry.x], *_KEYS_OF_LABELS):
        problems.append(
            f"report.saving_at = {name_value(entry.saving_at)}: no level of {entry.x} changes the number of labels. Remove"
            " saving_at, or take an axis with data.fraction or data.images_per_class as report.x."
        )
        return None
    level = find_level(entry.saving_at, axes[entry.x].levels)
    if level is None:
        known = ", ".join(axes[entry.x].levels)
        problems.append(
            f"report.saving_at = {name_value(entry.saving_at)}: not a level of {entry.x}, which has {known}."
        )
    return level


def _metric_key(metric: str | MetricDuringTraining) -> str:
    """Return a metric as reports look it up: `name`, or `name@part` during training."""
    return metric if isinstance(metric, str) else f"{metric.metric}@{metric.at!r}"


def _compared(
    name: str, pair: tuple[Any, ...], axes: Mapping[str, Axis], problems: list[str]
) -> tuple[str, str] | None:
    """Return the two levels of an axis that are compared, or None if they are not two of its levels."""
    levels = list(axes[name].levels) if name in axes else []
    found = [find_level(level, levels) for level in pair]
    if len(found) == 2 and found[0] is not None and found[1] is not None and found[0] != found[1]:
        return found[0], found[1]
    known = f"{name} has {', '.join(levels) or 'none'}"
    problems.append(
        f"report.compare.{name} = {values_of(pair)}: must be two different levels of an axis, [base, other]; {known}."
    )
    return None


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


def _check_figure(figure: Figure, columns: list[str], axes: list[str], problems: list[str]) -> None:
    """Append a problem for every column of a figure that does not exist, and for draws that are no axis."""
    if figure.kind == "distribution" and figure.x in columns and figure.x not in axes:
        problems.append(f"report.figure.x = {figure.x}: the draws must be an axis. Give one of {', '.join(axes)}.")
    for name, column in (("x", figure.x), ("panels", figure.panels)):
        if column is not None and column not in columns:
            problems.append(f"report.figure.{name} = {column}: no such column. Known columns: {', '.join(columns)}.")


def _without_error(entry: TableReport) -> Iterator[str]:
    """Yield a problem for every metric of a distribution that has no error: of a loss the highest value would be the best."""
    for column, metric in entry.metrics.items():
        name = metric if isinstance(metric, str) else metric.metric
        if entry.figure.kind == "distribution" and not has_error(name):
            yield (
                f"report.metrics.{column} = {name}: a figure of kind distribution shows errors (100 - metric), for metrics in"
                " percent of which more is better. Give such a metric, such as test_top1, or choose another kind of figure."
            )


def _pair(number: int, entry: PairEntry, columns: Mapping[str, set[str]], problems: list[str]) -> Pair:
    """Return one of `pairs`, its columns and values validated."""
    sides: list[dict[str, Any]] = []
    for name, side in (("base", entry.base), ("other", entry.other)):
        sides.append({})
        for column, value in side.items():
            found = find_level(value, columns.get(column, ()))
            if found is None:
                known = f"known values: {', '.join(sorted(columns[column]))}" if column in columns else "no such column"
                problems.append(
                    f"report.pairs.{number}.{name}.{column} = {name_value(value)}: matches no row; {known}."
                )
            sides[-1][column] = found if isinstance(value, Word) and str(value) == found else values_of(value)
    return Pair(entry.claim, *sides)
