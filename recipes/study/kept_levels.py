"""Section `levels` of a study, or --levels: the levels of an axis that are run, so that a part of a study is a study of its own.

levels: {fraction: [0.1], stem: [conv]}

Its runs are those of the whole study, with the same names and folders.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from common.errors import UserError, did_you_mean
from common.yaml_text import parse_override
from recipes.study.scale_rules import find_level, format_level, name_value
from recipes.study.specification import Axis

Pair = TypeVar("Pair")


def parse_levels(words: Sequence[str]) -> dict[str, list[Any]]:
    """Return the levels by axis of the words AXIS=LEVEL,LEVEL of the command line."""
    found: dict[str, list[Any]] = {}
    for word in words:
        axis, _, names = word.partition("=")
        levels = [name.strip() for name in names.split(",")]
        if not axis.strip() or not all(levels):
            raise UserError(f"--levels {word}: must be an axis and some of its levels, such as fraction=0.1,1.0.")
        found.setdefault(axis.strip(), []).extend(map(parse_override, levels))
    return found


def kept_levels(
    axis: Axis, names: Sequence[str], levels: Mapping[str, Sequence[Any]], problems: list[str]
) -> list[str]:
    """Return those of the level names of an axis that `levels` keeps, by axis or by column; append a problem for unknown ones.

    An axis of a table's rows has columns: `{optimizer: [sam]}` keeps the rows with this value.
    """
    rows = {name: axis.columns.get(name, {}) for name in names}
    columns = dict.fromkeys(column for row in rows.values() for column in row)
    of = {axis.name: {name: name for name in names}}
    of |= {
        column: {name: format_level(row[column]) for name, row in rows.items() if column in row} for column in columns
    }
    kept = list(names)
    for key in levels.keys() & of.keys():
        found = _find(key, list(dict.fromkeys(of[key].values())), levels[key], problems)
        kept = [name for name in kept if of[key].get(name) in found]
    return kept


def _find(key: str, known: list[str], values: Sequence[Any], problems: list[str]) -> set[str]:
    """Return the known values that are among `values`; append a problem for each value that is not known."""
    if whole := find_level(",".join(map(name_value, values)), known):  # one level whose name has commas
        return {whole}
    found = {name_value(value): find_level(value, known) for value in values}
    problems += [
        f"levels.{key} = {value}: no such level.{did_you_mean(value, known)} {key} has {', '.join(known)}."
        for value, name in found.items()
        if name is None
    ]
    return {name for name in found.values() if name is not None}


def unknown_axes(levels: Mapping[str, Sequence[Any]], axes: Iterable[Axis]) -> list[str]:
    """Return a problem for every name that is neither an axis nor a column of one."""
    known = list(
        dict.fromkeys(
            name for axis in axes for name in [axis.name, *(key for row in axis.columns.values() for key in row)]
        )
    )
    return [
        f"levels.{name}: no such axis.{did_you_mean(name, known)} Known axes: {', '.join(known)}."
        for name in levels
        if name not in known
    ]


def still_compared(
    compare: Mapping[str, Pair], levels: Mapping[str, Sequence[Any]], axes: Mapping[str, Axis]
) -> dict[str, Pair]:
    """Return the comparisons of a report without those of which `levels` leave one level, unless it is the first.

    The first compares the arms: without it there is no report.
    """
    first = next(iter(compare), "")
    return {
        name: pair
        for name, pair in compare.items()
        if name == first or name not in levels or name not in axes or len(axes[name].levels) > 1
    }
