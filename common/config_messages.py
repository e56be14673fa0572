"""Messages about invalid configurations: what pydantic found, in the words of a recipe, with the key, its value and the remedy."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from common.config_places import Place, bare, locate
from common.errors import did_you_mean
from common.yaml_words import Unreadable, values_of

Problem = tuple[str, str]
"""A key and a message about its value, which begins with the value."""

TYPE, VALUE, RULES, FORM, WORD = "wrong_type", "wrong_value", "broken_rules", "wrong_form", "wrong_word"
"""Kinds of our own errors: a value of another type, a value out of its bounds, rules that involve several fields, a section in
none of its forms, a value that is neither of a type nor one of some words."""

_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "none",
}
_WRONG_TYPES = {
    "int_type", "float_type", "bool_type", "string_type", "tuple_type", "dict_type", "mapping_type", "model_type", "list_type",
}  # fmt: skip
_ABOUT_VALUES = {
    "greater_than", "greater_than_equal", "less_than", "less_than_equal", "multiple_of", "too_short", "too_long",
    "string_too_short", "string_pattern_mismatch", VALUE, RULES,
}  # fmt: skip


@dataclass(frozen=True)
class Otherwise:
    """Annotation of a bounded type: what the message says after a value that is out of the bounds, instead of the bounds."""

    text: str
    too_large: str | None = None
    """The same for a value above the upper bound, if `text` is about the lower one only."""


class BeyondInt64(str):
    """The digits of an integer that does not fit into 64 bits: no value of any type."""


def rules_error(problems: list[Problem]) -> PydanticCustomError:
    """Return the error that a validator raises for violated rules, each with the key below the validated value."""
    return PydanticCustomError(
        RULES, "{message}", {"message": "; ".join(map(": ".join, problems)), "problems": problems}
    )


def is_about_types(error: ValidationError) -> bool:
    """Return whether an error has more to say than that values are out of bounds or break rules: keys, types, lengths."""
    return any(each["type"] not in _ABOUT_VALUES for each in error.errors(include_url=False))


def describe_problems(hint: Any, error: ValidationError, where: tuple[str, ...] = ()) -> list[str]:
    """Return one line for each problem of a value at the key `where` that is not a `hint`."""
    found: dict[str, list[tuple[Place, Any]]] = {}
    for each in error.errors(include_url=False):
        place = locate(hint, each["loc"], where)
        found.setdefault(place.key, []).append((place, each))
    return [line for errors in found.values() for each in _of_one_key(errors) for line in _describe(*each)]


def _of_one_key(errors: list[tuple[Place, Any]]) -> list[tuple[Place, Any]]:
    """Return the errors of one key that are about what its value was meant as; no word and no value of other types is one error."""
    errors = [each for each in errors if _is_of_the_alternative_meant(each[0].rest, each[1]["input"])] or errors
    others = [each for each in errors if each[1]["type"] != "literal_error"]
    if not others or len(others) == len(errors):
        return errors
    if any(error["type"] not in _WRONG_TYPES for _, error in others):  # it is of that type
        return others
    place, value = others[0][0], others[0][1]["input"]
    hint = did_you_mean(str(value), list(map(str, _literals(place.hint))))
    return [(place, {"type": WORD, "input": value, "msg": f"must be {type_name(bare(place.hint))}.{hint}"})]


def _is_of_the_alternative_meant(rest: tuple[int | str, ...], value: Any) -> bool:
    """Return whether an error is about the member of a union that a value was meant as: the tuple for a list, else the others."""
    tags = [each for each in rest if isinstance(each, str)]
    if not tags or any(isinstance(each, int) for each in rest):
        return True
    return tags[0].startswith("tuple") == isinstance(value, tuple | list)


def _describe(place: Place, error: Any) -> Iterator[str]:
    """Yield the lines of one error."""
    kind, key, value = error["type"], place.key, error["input"]
    position = "".join(f"[{each}]" for each in place.rest if isinstance(each, int))
    if kind == RULES:
        prefix = f"{key}." if key else ""
        yield from (f"{prefix}{name}: {message}" for name, message in error["ctx"]["problems"])
    elif isinstance(value, BeyondInt64):
        yield f"{key}{position} = {_shown(value)}: must fit into 64 bits."
    elif kind == "extra_forbidden":
        yield _unknown_key(place)
    elif kind == "missing":
        yield f"{key}: missing. Set it to {type_name(place.hint)}. {place.description}".rstrip()
    elif kind == VALUE:
        yield f"{key}: {_shown(value)} {error['msg']}"
    elif kind == FORM:
        yield f"{key}: {error['msg']}"
    elif kind == TYPE:
        yield f"{key}{position} = {_shown(value)}: {error['msg']}"
    elif kind == WORD:
        yield f"{key}{position} = {_quoted(value)}: {error['msg']}"
    elif kind == "finite_number":
        yield f"{key}{position} = {_shown(value)}: must be a finite number."
    elif kind == "literal_error":
        choices = [str(choice) for choice in _literals(place.hint)]
        hint = did_you_mean(str(value), choices)
        yield f"{key}{position} = {values_of(value)!r}: must be one of {', '.join(choices)}.{hint}"
    elif kind in ("model_type", "dict_type", "mapping_type"):
        yield f"{key} = {_quoted(value)}: must be a mapping of keys to values.{_reason(value)}"
    elif kind in _WRONG_TYPES:
        expected = {"int": int, "float": float, "bool": bool, "string": str}.get(kind.split("_")[0])
        name = _NAMES[expected] if expected is not None else type_name(bare(place.hint))
        remedy = (
            " Put it in quotes to take it as text." if expected is str and isinstance(value, list) and value else ""
        )
        actual = "" if isinstance(value, Unreadable) else f", not {_type_of(value)}"
        yield f"{key}{position} = {_quoted(value)}: must be {name}{actual}.{_reason(value)}{remedy}"
    else:
        message = _bounds_message(place, error)
        yield f"{key}: {_shown(value)}{'' if message.startswith(':') else ' '}{message}"


def _reason(value: Any) -> str:
    """Return a sentence that says why text that begins like a list or a mapping is none, or an empty string."""
    return f" YAML cannot read it: {value.reason}." if isinstance(value, Unreadable) else ""


def _unknown_key(place: Place) -> str:
    """Return the message about an unknown key."""
    assert place.section is not None
    names, section = list(place.section.model_fields), ".".join(place.keys[:-1])
    if not place.section.dotted_keys:
        return f"{place.key}: unknown key.{did_you_mean(place.keys[-1], names)} Known keys: {', '.join(names)}."
    hint = did_you_mean(place.keys[-1], names, prefix=f"{section}." if section else "")
    return f"{place.key}: unknown key.{hint} The keys of {section or 'this stage'} are {', '.join(names)}."


def _bounds_message(place: Place, error: Any) -> str:
    """Return what is said after a value that is out of its bounds."""
    for each in place.metadata:
        if isinstance(each, Otherwise):
            is_too_large = error["type"] in ("less_than", "less_than_equal")
            return each.too_large if is_too_large and each.too_large is not None else each.text
    bounds = {
        name: getattr(each, name) for each in place.metadata for name in ("ge", "gt", "le", "lt") if hasattr(each, name)
    }
    low, high = bounds.keys() & {"ge", "gt"}, bounds.keys() & {"le", "lt"}
    if low and high and isinstance(error["input"], float):
        left = f"[{bounds['ge']:g}" if "ge" in bounds else f"({bounds['gt']:g}"
        right = f"{bounds['le']:g}]" if "le" in bounds else f"{bounds['lt']:g})"
        return f"must lie in {left}, {right}."
    phrases = {
        "greater_than": "above {gt:g}", "greater_than_equal": "at least {ge:g}", "less_than": "below {lt:g}",
        "less_than_equal": "at most {le}", "multiple_of": "a multiple of {multiple_of}",
    }  # fmt: skip
    if error["type"] in phrases:
        return f"must be {phrases[error['type']].format(**error['ctx'])}."
    return f"is not valid: {error['msg']}."


def _literals(hint: Any) -> tuple[Any, ...]:
    """Return the choices of the first literal in a type."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return next((found for found in map(_literals, typing.get_args(hint)) if found), ())


def type_name(hint: Any) -> str:
    """Return the name of a type in messages and help."""
    if hint in _NAMES:
        return _NAMES[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return f"a list, each {type_name(arguments[0])}"
    if origin is tuple:
        return f"a list of {len(arguments)}, each {type_name(arguments[0])}"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(type_name, arguments)))
    if hint is Any:
        return "any value"
    return "a mapping" if origin is not None or isinstance(hint, type) else str(hint)


def _shown(value: Any) -> str:
    """Return a value as it stands in a message: numbers and words plainly, tuples as lists, long ones cut."""
    value = values_of(value)
    text = str(value) if str(value).strip() else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _quoted(value: Any) -> str:
    """Return a value that is not of its type, with quotes around text; long ones are cut."""
    text = repr(values_of(value))
    return text if len(text) <= 500 else f"{text[:500]}..."


def _type_of(value: Any) -> str:
    """Return the name of a given value's type."""
    plain = values_of(value)
    names: dict[type, str] = {**_NAMES, list: "a list", dict: "a mapping"}
    return names.get(type(plain), "a value")
