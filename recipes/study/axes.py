"""Axes of a study file: named levels, values of a key, rows of a table, or a random search.

stem: {levels: {patchify: {model.stem: patchify}, conv: {model.stem: conv}}}
fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
row:                                      # rows of a published table; or inline, as `rows: [{...}, ...]`
  table: scaled_relu_table1
  keys:                                   # column -> key or list of keys; or value of the column -> keys with their values
    stem: finetune.model.stem
    optimizer: {adamw: {finetune.optim.name: adamw}, sam: {finetune.optim.name: sam, finetune.optim.base: adamw}}
draw:                                     # log-uniform samples of a value, or (`*`) of a factor on the value that is set
  draws: 64
  seed: 0
  keys: {finetune.optim.lr*: [0.1, 10], finetune.optim.weight_decay*: [0.1, 10]}
"""

from collections.abc import Mapping
from typing import Any

from common.errors import did_you_mean
from recipes.study.published import load_published_table, published_table_names
from recipes.study.random_search import Interval, draw_points
from recipes.study.scale_rules import format_level
from recipes.study.sections import check_section, named_entries
from recipes.study.specification import Axis

FORMS = "levels; key and values; table or rows, with keys; or draws and keys"


def build_axis(name: str, entry: Any, problems: list[str]) -> Axis:
    """Return one entry of `axes`; append its errors to `problems`."""
    where = f"axes.{name}"
    allowed = ("levels", "key", "values", "table", "rows", "keys", "draws", "seed")
    fields = check_section(entry, where, allowed, (), problems)
    given = set(fields)
    if given == {"levels"}:
        return _levels(name, fields["levels"], where, problems)
    if given == {"key", "values"}:
        return _values(name, fields["key"], fields["values"], where, problems)
    if given in ({"table", "keys"}, {"rows", "keys"}):
        return _rows(name, fields, where, problems)
    if given in ({"draws", "keys"}, {"draws", "keys", "seed"}):
        return _draws(name, fields, where, problems)
    problems.append(f"{where}: must have one of these forms: {FORMS}.")
    return Axis(name, {})


def _levels(name: str, entry: Any, where: str, problems: list[str]) -> Axis:
    """Return an axis of named levels."""
    pairs = named_entries(entry, f"{where}.levels", problems)
    invalid = [level for level, settings in pairs if not isinstance(settings, dict)]
    problems += [f"{where}.levels.{level}: must be a mapping of recipe keys to values." for level in invalid]
    return Axis(name, {level: settings for level, settings in pairs if isinstance(settings, dict)})


def _values(name: str, key: Any, values: Any, where: str, problems: list[str]) -> Axis:
    """Return an axis whose levels are the values of a key, or of several keys that share each value."""
    if not isinstance(values, list) or not values or not isinstance(key, str | list):
        problems.append(f"{where}: needs a key, or a list of keys, and a list of values.")
        return Axis(name, {})
    keys = [key] if isinstance(key, str) else key
    levels = {format_level(value): {str(one): value for one in keys} for value in values}
    return Axis(name, levels, {format_level(value): {name: value} for value in values})


def _rows(name: str, fields: Mapping[str, Any], where: str, problems: list[str]) -> Axis:
    """Return an axis whose levels are the rows of a table; a row's values form the level's name."""
    rows = fields.get("rows")
    if "table" in fields:
        if fields["table"] not in published_table_names():
            hint = did_you_mean(str(fields["table"]), published_table_names())
            problems.append(f"{where}.table = {fields['table']}: no such published table.{hint}")
            return Axis(name, {})
        rows = [dict(row.entries) for row in load_published_table(fields["table"]).rows]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        problems.append(f"{where}.rows: must be a list of rows, each a mapping of columns to values.")
        return Axis(name, {})
    setters = dict(named_entries(fields["keys"], f"{where}.keys", problems))
    levels: dict[str, Mapping[str, Any]] = {}
    columns: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows, start=1):
        missing = [column for column in setters if column not in row]
        if missing:
            problems.append(f"{where}: row {number} has no {', '.join(missing)}. It has {', '.join(row)}.")
            continue
        name_columns = [column for column, setter in setters.items() if setter is not None] or list(setters)
        level = "-".join(format_level(row[column]) for column in name_columns)
        if level in levels:
            problems.append(
                f"{where}: row {number} repeats an earlier row, {level}. Add the column that distinguishes them to keys."
            )
        levels[level] = _row_settings(setters, row, where, problems)
        columns[level] = {column: row[column] for column in setters}
    return Axis(name, levels, columns)


def _row_settings(
    setters: Mapping[str, Any], row: Mapping[str, Any], where: str, problems: list[str]
) -> dict[str, Any]:
    """Return the keys that a row sets."""
    settings: dict[str, Any] = {}
    for column, setter in setters.items():
        if isinstance(setter, dict):
            keys_by_value = {format_level(value): keys for value, keys in setter.items()}
            value = format_level(row[column])
            keys = keys_by_value.get(value)
            if not isinstance(keys, dict):
                problems.append(
                    f"{where}.keys.{column}: has no entry for {value}, only for {', '.join(keys_by_value)}."
                )
            else:
                settings |= keys
        elif setter is not None:
            settings |= {str(key): row[column] for key in (setter if isinstance(setter, list) else [setter])}
    return settings


def _draws(name: str, fields: Mapping[str, Any], where: str, problems: list[str]) -> Axis:
    """Return an axis whose levels are the points of a random search, numbered from 0."""
    count, seed = fields["draws"], fields.get("seed", 0)
    if not isinstance(count, int) or count < 1 or not isinstance(seed, int):
        problems.append(f"{where}: draws must be a number of points of at least 1, seed an integer.")
        return Axis(name, {})
    intervals = {}
    for key, ends in named_entries(fields["keys"], f"{where}.keys", problems):
        try:
            low, high = (float(end) for end in ends)
        except (TypeError, ValueError):
            low, high = 0.0, 0.0
        if not 0 < low < high:
            problems.append(
                f"{where}.keys.{key} = {ends}: must be [low, high] with 0 < low < high; samples are log-uniform."
            )
        else:
            intervals[key] = Interval(low, high)
    points = draw_points(intervals, count=count, seed=seed)
    return Axis(name, {f"{number:0{len(str(count - 1))}d}": point for number, point in enumerate(points)})
