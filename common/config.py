"""The configuration system of recipes, studies and scales: frozen pydantic models, all problems in one message.

A section is a `Config`: a pydantic model whose fields carry their bounds and, as attribute docstrings, their help. `build`
validates a mapping and raises one `UserError` that names every unknown key, wrong type, value out of its bounds and violated rule.
Text stays text: a key whose type is text takes an unquoted word of YAML as it was typed (`common.yaml_text`).
"""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from common.config_messages import TYPE, BeyondInt64, Problem, describe_problems, is_about_types, rules_error
from common.config_places import is_section as is_section
from common.config_places import section_in
from common.errors import UserError
from common.paths import is_text
from common.recipe_files import resolve as resolve
from common.yaml_text import dump_yaml
from common.yaml_words import as_text, as_value, values_of

Section = TypeVar("Section", bound="Config")

NONE = "none"
"""Text that means none where a key takes none, as YAML's `null`, `~` and an empty value do."""


class Config(BaseModel):
    """Base class of the sections of recipes, studies and scales.

    A field's docstring is its help. Its type, `Annotated` with bounds (pydantic's `Field`, `common.config_types`), says what it
    takes; `problems` holds the rules that involve several fields.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        defer_build=True,
    )

    dotted_keys: ClassVar[bool] = True
    """Whether a message suggests a key with its section as prefix, as the command line takes it."""

    def problems(self) -> Iterator[Problem]:
        """Yield (field, message) for every violated rule that involves several fields."""
        return iter(())

    @field_validator("*", mode="before")
    @classmethod
    def _read_value(cls, value: Any, info: ValidationInfo) -> Any:
        """Return a value of YAML as a value of the field's type where that is possible."""
        assert info.field_name is not None
        return read_value(value, cls.model_fields[info.field_name].annotation)

    @model_validator(mode="after")
    def _check_rules(self) -> typing.Self:
        """Raise the problems of this section."""
        if found := list(self.problems()):
            raise rules_error(found)
        return self


def read_value(value: Any, hint: Any) -> Any:
    """Return a value of YAML as one of the type `hint`: words as text or as their value, lists as tuples, integers as floats.

    A value that is not of the type is returned with its words replaced by their values, for pydantic to refuse.

    Raises:
        PydanticCustomError: for a list of another length than the type's.
    """
    hint, takes_none = _without_none(hint, value)
    if value is None or as_value(value) is None or (takes_none and as_value(value) == NONE):
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return read_value(value, arguments[0])
    if isinstance(value, Config) or is_section(hint):
        return as_value(value)
    if hint is Any:
        return value
    if hint is str:
        return as_text(value) if _is_scalar(value) else values_of(value)
    if origin is Literal:
        return as_text(value) if _is_scalar(value) and as_text(value) in arguments else values_of(value)
    if origin is tuple and isinstance(value, list | tuple):
        return _read_items(value, arguments)
    if origin is not None and isinstance(value, dict) and issubclass(origin, typing.Mapping):  # type: ignore[arg-type]
        return {key: read_value(item, arguments[1]) for key, item in value.items()}
    value = values_of(value)
    if isinstance(value, int) and not isinstance(value, bool) and hint in (int, float):
        if not -(2**63) <= value < 2**63:
            return BeyondInt64(value)
        return float(value) if hint is float else value
    return value


def _read_items(value: list[Any] | tuple[Any, ...], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a list as a tuple of the item types `arguments`."""
    if arguments[-1] is Ellipsis:
        return tuple(read_value(item, arguments[0]) for item in value)
    if len(value) != len(arguments):
        raise PydanticCustomError(TYPE, f"must have {len(arguments)} values, has {len(value)}.")
    return tuple(map(read_value, value, arguments))


def _without_none(hint: Any, value: Any) -> tuple[Any, bool]:
    """Return the member of a union to read `value` as, and whether none is a member, too.

    A list is read as a tuple and a mapping as a mapping or section, if there is such a member, anything else as the first one.
    """
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    wanted = "list" if isinstance(value, list | tuple) else "mapping" if isinstance(value, dict) else None
    chosen = next((member for member in members if wanted is not None and _container(member) == wanted), members[0])
    return chosen, len(members) < len(typing.get_args(hint))


def _container(hint: Any) -> str | None:
    """Return what a type is read from: a list, a mapping, or None for a scalar."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _container(typing.get_args(hint)[0])
    return "list" if origin is tuple else "mapping" if origin is dict or is_section(hint) else None


def _is_scalar(value: Any) -> bool:
    """Return whether a value is a scalar of YAML."""
    return isinstance(value, str | int | float)


def load(cls: type[Section], path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Section:
    """Return the recipe at `path` as a `cls`; raise one UserError that lists every invalid key and value."""
    for word in overrides:
        if not is_text(word):
            raise UserError(f"{word}: not valid UTF-8, so no recipe can hold it. Rename that file or folder.")
    return build(cls, resolve(path, overrides), source=str(path))


def build(cls: type[Section], mapping: Any, *, source: str, kind: str = "recipe") -> Section:
    """Return `mapping` as a `cls`; raise one UserError that lists all problems."""
    problems = []
    try:
        return cls.model_validate(mapping)
    except ValidationError as error:
        problems = describe_problems(cls, error)
        if not is_about_types(error):  # then every rule can be checked, also where a value is out of bounds
            problems += [f"{key}: {message}" for key, message in _violated_rules(_unchecked(cls, mapping), "")]
    raise problems_error(source, problems, f" in the {kind}")


def read(hint: Any, value: Any, where: tuple[str, ...] = ()) -> tuple[Any, list[str]]:
    """Return a value as one of the type `hint`, or None, and its problems, one line each; its key in the file is `where`."""
    try:
        return hint.model_validate(value) if is_section(hint) else TypeAdapter(hint).validate_python(value), []
    except ValidationError as error:
        return None, describe_problems(hint, error, where)


def problems_error(source: str, problems: list[str], ending: str = "") -> UserError:
    """Return the error that lists all problems, each once."""
    problems = list(dict.fromkeys(problems))
    count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
    return UserError(f"{source}: {count}{ending}\n" + "\n".join(f"  {problem}" for problem in problems))


def _unchecked(cls: type[Section], mapping: dict[str, Any]) -> Section:
    """Return a mapping whose values have the right types as a `cls`, without its bounds and rules."""
    values = {}
    for name, value in mapping.items():
        hint = cls.model_fields[name].annotation
        section = section_in(hint) if isinstance(value, dict) else None
        values[name] = read_value(value, hint) if section is None else _unchecked(section, value)
    return cls.model_construct(**values)


def _violated_rules(config: Config, prefix: str) -> Iterator[Problem]:
    """Yield (dotted key, message) for every rule that a section or one of its sections violates."""
    for name, value in config:
        if isinstance(value, Config):
            yield from _violated_rules(value, f"{prefix}{name}.")
    for name, message in config.problems():
        yield f"{prefix}{name}", message


def to_mapping(config: Config) -> dict[str, Any]:
    """Return a config as plain dicts, lists and scalars, ready for YAML."""
    return {name: _plain(value) for name, value in config}


def _plain(value: Any) -> Any:
    """Return sections as dicts and tuples as lists, recursively, and anything else unchanged."""
    if isinstance(value, Config):
        return to_mapping(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def defaults(cls: type[Config]) -> dict[str, Any]:
    """Return the keys of a config class that have a default, with their defaults in the form of `to_mapping`."""
    return {
        name: _plain(field.get_default(call_default_factory=True))
        for name, field in cls.model_fields.items()
        if not field.is_required()
    }


def default_of(cls: type[Config], name: str) -> Any:
    """Return the default of a field."""
    return cls.model_fields[name].get_default(call_default_factory=True)


def to_yaml(config: Config) -> str:
    """Return a config as the YAML text of a recipe."""
    return dump_yaml(to_mapping(config))


def flatten(mapping: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one dict with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
