"""Typed configs: a recipe read by `recipe_files` is validated against a stage's dataclasses, all problems in one error.

A config is never mutated.
"""

import ast
import dataclasses
import inspect
import math
import textwrap
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import OmegaConf

from common.errors import UserError, did_you_mean
from common.recipe_files import resolve as resolve

Config = TypeVar("Config")


def load(cls: type[Config], path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Return the recipe at `path` as a `cls`; raise one UserError that lists every invalid key and value."""
    return build(cls, resolve(path, overrides), source=str(path))


def build(cls: type[Config], mapping: dict[str, Any], *, source: str) -> Config:
    """Return `mapping` as a `cls` (a dataclass of dataclasses); raise one UserError that lists all problems."""
    problems: list[str] = []
    config = _build_section(cls, mapping, "", problems)
    if not problems:
        problems += [f"{key}: {message}" for key, message in _range_problems(config, "")]
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise UserError(f"{source}: {count} in the recipe\n" + "\n".join(f"  {problem}" for problem in problems))
    return typing.cast(Config, config)


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a config as plain dicts, lists and scalars, ready for YAML."""
    return {
        field.name: to_mapping(value) if dataclasses.is_dataclass(value) else _plain(value)
        for field in dataclasses.fields(config)
        for value in [getattr(config, field.name)]
    }


def defaults(cls: type[Any]) -> dict[str, Any]:
    """Return the keys of a config class that have a default, with their defaults in the form of `to_mapping`."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if not _is_required(field):
            value = _default(field)
            found[field.name] = to_mapping(value) if dataclasses.is_dataclass(value) else _plain(value)
    return found


def to_yaml(config: Any) -> str:
    """Return a config as the YAML text of a recipe."""
    return str(OmegaConf.to_yaml(OmegaConf.create(to_mapping(config))))


def describe(cls: type[Any]) -> str:
    """Return the help text of a config class: every dotted key with its type, default and description."""
    lines = []
    for key, field, description in _all_fields(cls, ""):
        default = "required" if _is_required(field) else f"default {_format_value(_default(field))}"
        lines.append(f"  {key}  ({_type_name(field.type)}; {default})")
        lines += [f"      {line}" for line in textwrap.wrap(description, 110)]
    return "\n".join(lines)


def flatten(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _build_section(cls: Any, mapping: Any, prefix: str, problems: list[str]) -> Any:
    """Return `mapping` as a `cls`; otherwise append its problems to `problems` and return None."""
    if not isinstance(mapping, dict):
        problems.append(f"{prefix.rstrip('.')} = {mapping!r}: must be a mapping of keys to values.")
        return None
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in mapping:
        if key not in fields:
            problems.append(_unknown_key(str(key), list(fields), prefix))
    values = {}
    before = len(problems)
    for name, field in fields.items():
        if name in mapping:
            values[name] = _convert(_hints(cls)[name], mapping[name], f"{prefix}{name}", problems)
        elif dataclasses.is_dataclass(_hints(cls)[name]):
            values[name] = _build_section(_hints(cls)[name], {}, f"{prefix}{name}.", problems)
        elif _is_required(field):
            problems.append(f"{prefix}{name}: missing. Set it to {_type_name(field.type)}. {_description(cls, name)}")
    return cls(**values) if len(problems) == before else None


def _unknown_key(key: str, names: list[str], prefix: str) -> str:
    """Return the error message for an unknown key."""
    hint = did_you_mean(key, names, prefix=prefix)
    section = prefix.rstrip(".") or "this stage"
    return f"{prefix}{key}: unknown key.{hint} The keys of {section} are {', '.join(names)}."


def _convert(hint: Any, value: Any, key: str, problems: list[str]) -> Any:
    """Return `value` converted to the type `hint`; otherwise append a problem and return None."""
    if dataclasses.is_dataclass(hint):
        return _build_section(hint, value, f"{key}.", problems)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (value == "none" and type(None) in arguments):
            return None
        hint = _choose_alternative([argument for argument in arguments if argument is not type(None)], value)
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        choices = [str(argument) for argument in arguments]
        problems.append(f"{key} = {value!r}: must be one of {', '.join(choices)}.{did_you_mean(str(value), choices)}")
        return None
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            problems.append(f"{key} = {list(value)!r}: must have {len(arguments)} values, has {len(value)}.")
            return None
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        return tuple(_convert(kind, item, f"{key}[{i}]", problems) for i, (kind, item) in enumerate(zip(kinds, value)))
    if isinstance(value, int | float) and (bound := _number_problem(hint, value)):
        problems.append(f"{key} = {str(value)[:40]}: {bound}")
        return None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    if hint is str and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    problems.append(f"{key} = {value!r}: must be {_type_name(hint)}, not {_type_of(value)}.")
    return None


def _choose_alternative(hints: list[Any], value: Any) -> Any:
    """Return the member of a union to convert `value` to: the tuple for a list, otherwise the first."""
    lists = [hint for hint in hints if typing.get_origin(hint) is tuple]
    return lists[0] if lists and isinstance(value, list | tuple) else hints[0]


def _number_problem(hint: Any, value: float) -> str | None:
    """Return what is wrong with a number that no key accepts, not finite or an integer beyond 64 bits, or None."""
    if isinstance(value, int) and hint in (int, float):
        return None if -(2**63) <= value < 2**63 else "must fit into 64 bits."
    return None if hint is not float or math.isfinite(value) else "must be a finite number."


def _range_problems(config: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, message) for every problem that the `problems()` of the sections report."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _range_problems(value, f"{prefix}{field.name}.")
    if hasattr(config, "problems"):
        for name, message in config.problems():
            yield f"{prefix}{name}", message


def _all_fields(cls: Any, prefix: str) -> Iterator[tuple[str, Any, str]]:
    """Yield (dotted key, field, description) of a config class, depth first."""
    for field in dataclasses.fields(cls):
        hint = _hints(cls)[field.name]
        if dataclasses.is_dataclass(hint):
            yield from _all_fields(hint, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field, _description(cls, field.name)


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """Return the resolved type of each field of a dataclass."""
    return typing.get_type_hints(cls)


@cache
def _field_docstrings(cls: Any) -> dict[str, str]:
    """Return the string literal that follows each field in the source of a dataclass or of its base classes."""
    body = [
        statement
        for part in reversed(inspect.getmro(cls))
        if dataclasses.is_dataclass(part) and isinstance(part, type)
        for statement in typing.cast(ast.ClassDef, ast.parse(textwrap.dedent(inspect.getsource(part))).body[0]).body
    ]
    return {
        before.target.id: " ".join(str(after.value.value).split())
        for before, after in zip(body, body[1:])
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name)
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }


def _description(cls: Any, name: str) -> str:
    """Return the docstring of a field."""
    return _field_docstrings(cls).get(name, "")


def _is_required(field: Any) -> bool:
    """Return whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: Any) -> Any:
    """Return the default value of a field."""
    return field.default if field.default is not dataclasses.MISSING else field.default_factory()


def _plain(value: Any) -> Any:
    """Return tuples as lists, recursively, and anything else unchanged."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _format_value(value: Any) -> str:
    """Return a default as written in YAML."""
    if isinstance(value, tuple):
        return f"[{', '.join(_format_value(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return '""' if value == "" else str(value)


def _type_name(hint: Any) -> str:
    """Return the name of a type in error messages and help."""
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "none"}
    if hint in names:
        return names[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each {_type_name(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}, each {_type_name(arguments[0])}"
    return " or ".join(_type_name(argument) for argument in arguments) if arguments else str(hint)


def _type_of(value: Any) -> str:
    """Return the name of a given value's type."""
    return _type_name(type(value)) if type(value) in (int, float, str, bool, type(None)) else type(value).__name__
