"""Axes of a study file: named levels, values of a key, rows of a table, or a random search.

stem: {levels: {patchify: {model.stem: patchify}, conv: {model.stem: conv}}}
training: {levels: {OST: {}, TST: {starts_from: {finetune: pretrain}}}}      # fields of a level: `sections`
fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
row:                                      # rows of a published table; or inline, as `rows: [{...}, ...]`
  table: scaled_relu_table1
  keys:                                   # column -> key or list of keys; or value of the column -> level
    stem: finetune.model.stem
    optimizer: {adamw: {finetune.optim.name: adamw}, sam: {finetune.optim.name: sam, finetune.optim.base: adamw}}
draw:                                     # log-uniform samples of values (`keys`) or of factors on what is set (`factors`)
  draws: 64
  seed: 0
  factors: {finetune.optim.lr: [0.1, 10], finetune.optim.weight_decay: [0.1, 10]}
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from common.config import read
from common.errors import did_you_mean
from common.yaml_words import Word, as_text, values_of
from recipes.study.axis_forms import AxisEntry, DrawsAxis, LevelsAxis, RowsAxis, ValuesAxis
from recipes.study.key_types import KeyTypes
from recipes.study.published import load_published_table
from recipes.study.random_search import Interval, draw_points
from recipes.study.scale_rules import find_level, format_level, name_value, repeated_names
from recipes.study.sections import LevelEntry, level_entry
from recipes.study.specification import Axis, Stage


def build_axis(name: str, entry: Any, problems: list[str]) -> Axis:
    """Return one entry of `axes` as it stands in a file; append its errors to `problems`."""
    section, found = read(AxisEntry, entry, ("axes", name))
    problems += found
    return make_axis(name, section, KeyTypes(), problems) if section is not None else Axis(name, {})


def make_axis(name: str, entry: Any, types: KeyTypes, problems: list[str]) -> Axis:
    """Return an axis of one of the forms; append its errors to `problems`."""
    if isinstance(entry, LevelsAxis):
        return _from_levels(name, {level: level_entry(each) for level, each in entry.levels.items()}, {}, types)
    if isinstance(entry, ValuesAxis):
        return _from_values(name, entry, types, problems)
    if isinstance(entry, DrawsAxis):
        return _from_draws(name, entry)
    rows = (
        entry.rows
        if isinstance(entry, RowsAxis)
        else [dict(row.entries) for row in load_published_table(entry.table).rows]
    )
    return _from_rows(name, rows, entry.keys, types, problems)


def _from_levels(
    name: str, levels: Mapping[str, LevelEntry], columns: Mapping[str, Mapping[str, Any]], types: KeyTypes
) -> Axis:
    """Return an axis of levels."""
    return Axis(
        name,
        {level: types.read_settings(entry.set) for level, entry in levels.items()},
        columns,
        {level: entry.factors for level, entry in levels.items() if entry.factors},
        {level: entry.starts_from for level, entry in levels.items() if entry.starts_from},
    )


def _from_values(name: str, entry: ValuesAxis, types: KeyTypes, problems: list[str]) -> Axis:
    """Return an axis whose levels are the values of a key."""
    keys = [entry.key] if isinstance(entry.key, str) else entry.key
    values = [types.read(keys[0], value) for value in entry.values]
    problems += [f"axes.{name}.values: {problem}" for problem in repeated_names(values)]
    return Axis(
        name,
        {format_level(value): dict.fromkeys(keys, value) for value in values},
        {format_level(value): {name: value} for value in values},
    )


def _from_rows(name: str, rows: Any, setters: Mapping[str, Any], types: KeyTypes, problems: list[str]) -> Axis:
    """Return an axis whose levels are the rows of a table; a row's values form the level's name."""
    where = f"axes.{name}"
    levels: dict[str, LevelEntry] = {}
    columns: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        missing = [column for column in setters if column not in row]
        if missing:
            problems.append(f"{where}: row {number} has no {', '.join(missing)}. It has {', '.join(row)}.")
            continue
        values = {column: _column_value(setter, row[column], types) for column, setter in setters.items()}
        name_columns = [column for column, setter in setters.items() if setter is not None] or list(setters)
        level = "-".join(format_level(values[column]) for column in name_columns)
        if level in levels:
            problems.append(
                f"{where}: row {number} repeats an earlier row, {level}. Add the column that distinguishes them to keys."
            )
        levels[level] = _row_level(setters, row, values, where, problems)
        columns[level] = values
    return _from_levels(name, levels, columns, types)


def _column_value(setter: Any, value: Any, types: KeyTypes) -> Any:
    """Return a value of a column: a word as its key takes it, or as the level that it names."""
    if isinstance(setter, dict):
        return as_text(value) if isinstance(value, Word) and str(value) in setter else values_of(value)
    return types.read(setter if isinstance(setter, str) else setter[0], value) if setter else values_of(value)


def _row_level(
    setters: Mapping[str, Any], row: Mapping[str, Any], values: Mapping[str, Any], where: str, problems: list[str]
) -> LevelEntry:
    """Return what a row sets."""
    settings: dict[str, Any] = {}
    factors: dict[str, float] = {}
    starts: dict[str, str | None] = {}
    for column, setter in setters.items():
        if isinstance(setter, dict):
            level = find_level(row[column], setter)
            if level is None:
                value = name_value(row[column])
                problems.append(f"{where}.keys.{column}: has no entry for {value}, only for {', '.join(setter)}.")
                continue
            entry = level_entry(setter[level])
            settings |= entry.set
            factors |= {key: factors.get(key, 1.0) * factor for key, factor in entry.factors.items()}
            starts |= entry.starts_from
        elif setter is not None:
            settings |= dict.fromkeys([setter] if isinstance(setter, str) else setter, values[column])
    return LevelEntry.model_construct(set=settings, factors=factors, starts_from=starts)


def _from_draws(name: str, entry: DrawsAxis) -> Axis:
    """Return an axis whose levels are the points of a random search, numbered from 0.

    A factor's samples are those of its key with a `*`, so that a key and the factor on it have different ones.
    """
    intervals = {key: Interval(*ends) for key, ends in entry.keys.items()}
    factor_intervals = {f"{key}*": Interval(*ends) for key, ends in entry.factors.items()}
    points = draw_points(intervals, count=entry.draws, seed=entry.seed)
    factors = draw_points(factor_intervals, count=entry.draws, seed=entry.seed)
    names = [f"{number:0{len(str(entry.draws - 1))}d}" for number in range(entry.draws)]
    by_key = [{key.removesuffix("*"): factor for key, factor in point.items()} for point in factors]
    return Axis(name, dict(zip(names, points)), factors=dict(zip(names, by_key)) if factor_intervals else {})


def unknown_starts(stages: Iterable[Stage], axes: Mapping[str, Axis], names: list[str]) -> Iterator[str]:
    """Yield a problem for every stage of a `starts_from` that the study does not have."""
    starts = [(f"stages.{stage.name}.starts_from", stage.starts_from) for stage in stages]
    for axis in axes.values():
        for level, changes in axis.starts_from.items():
            where = f"axes.{axis.name}.levels.{level}.starts_from"
            starts += [(f"{where}.{stage}", start) for stage, start in changes.items()]
            starts += [(where, stage) for stage in changes]
    for where, start in starts:
        if start is not None and start not in names:
            yield f"{where} = {start}: no such stage.{did_you_mean(start, names)} Known stages: {', '.join(names)}."
