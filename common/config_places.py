"""Types of configuration fields taken apart, and where an error of pydantic is: section, dotted key, expected type."""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Place:
    """Where an error is: the innermost section, the dotted key, the type expected there, and the rest of the error's location."""

    section: Any
    """Config class of the section, or None if the error is in none."""
    keys: tuple[str, ...]
    hint: Any
    metadata: tuple[Any, ...]
    description: str
    rest: tuple[int | str, ...]

    @property
    def key(self) -> str:
        """Return the dotted key, without the position in a list of scalars."""
        return ".".join(self.keys)


def locate(hint: Any, location: tuple[int | str, ...], where: tuple[str, ...]) -> Place:
    """Return the place of an error: keys of sections and mappings, numbers of sections in lists; union members are passed over."""
    section, keys, rest = None, list(where), location
    metadata, description = tuple(annotations_in(hint)), ""
    while rest:
        hint, step = bare(hint), rest[0]
        tagged = _tagged_members(hint)
        if step in tagged:
            hint, rest = tagged[step], rest[1:]
            continue
        is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        inner = section_in(hint) if is_union and not tagged else None
        if inner is not None and step == inner.__name__:
            hint, rest = inner, rest[1:]
            continue
        arguments = typing.get_args(hint)
        if is_section(hint):
            section = hint
            field = hint.model_fields.get(str(step))
            hint = field.annotation if field is not None else None
            metadata = (*field.metadata, *annotations_in(hint)) if field is not None else ()
            description = (field.description or "") if field is not None else ""
            keys.append(str(step))
        elif typing.get_origin(hint) is dict:
            hint = arguments[1]
            metadata = tuple(annotations_in(hint))
            keys.append(str(step))
        elif typing.get_origin(hint) is tuple and isinstance(step, int) and section_in(arguments[0]) is not None:
            hint = arguments[0]
            keys.append(str(step + 1))
        else:
            break
        rest = () if rest[1:] == ("[key]",) else rest[1:]
    return Place(section, tuple(keys), hint, metadata, description, rest)


def bare(hint: Any) -> Any:
    """Return a type without annotations and without none as an alternative."""
    while typing.get_origin(hint) is typing.Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        return bare(members[0]) if len(members) == 1 else hint
    return hint


def _tagged_members(hint: Any) -> dict[int | str, Any]:
    """Return the members of a union by their tags; empty if it has none."""
    return {
        each.tag: member
        for member in typing.get_args(hint)
        for each in getattr(member, "__metadata__", ())
        if isinstance(each, Tag)
    }


def is_section(hint: Any) -> bool:
    """Return whether a type is a section."""
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def section_in(hint: Any) -> Any:
    """Return the section that a type is, possibly in an annotation or a union with none; None if it is none."""
    if is_section(hint):
        return hint
    return next((each for each in map(section_in, typing.get_args(hint)) if each is not None), None)


def annotations_in(hint: Any) -> Iterator[Any]:
    """Yield the annotations inside a type."""
    for each in getattr(hint, "__metadata__", ()):
        yield from each.metadata if isinstance(each, FieldInfo) else (each,)
    for argument in typing.get_args(hint) if typing.get_origin(hint) is not Literal else ():
        yield from annotations_in(argument)
