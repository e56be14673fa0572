"""Types of the sections of study and scale files: settings of recipe keys, factors on them, and levels.

A level is a mapping of recipe keys to values. Where it says more, its settings are in `set`:

    OST: {finetune.optim.lr: 5e-4}
    TST: {set: {finetune.optim.lr: 1e-4}, starts_from: {finetune: pretrain}}
    sgd: {set: {optim.name: sgd}, factors: {optim.lr: 0.125}}

`TST: {finetune.starts_from: pretrain}` is short for the second, without settings.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, WithJsonSchema

from common.config import Config
from common.config_messages import TYPE, Otherwise, Problem, rules_error
from common.config_types import Positive
from recipes.study.scale_rules import format_level


class FileSection(Config):
    """Base class of the sections of study and scale files."""

    dotted_keys: ClassVar[bool] = False


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings of recipe keys; raise for what has a field of its own."""
    if found := [*_keys_with_fields(settings)]:
        raise rules_error(found)
    return settings


def _keys_with_fields(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield a problem for every factor and every start among recipe keys."""
    for key, value in settings.items():
        stage, _, last = key.rpartition(".")
        if key.endswith("*"):
            field = f"factors: {{{key.rstrip('*')}: {format_level(value)}}}"
            yield key, f"a factor has a field of its own, beside set. Replace it by {field}."
        elif last == "needs":
            start = str(value) if isinstance(value, str) else "<stage>"
            fields = (
                f"starts_from: {start} in the stage, or by starts_from: {{{stage or '<stage>'}: {start}}} in a level"
            )
            yield key, f"what a stage starts from has a field of its own, beside set. Replace it by {fields}."


def check_key(key: str) -> str:
    """Return a recipe key; raise for a factor, which a column cannot set."""
    return next(iter(check_settings({key: "<factor>"})))


NAMED = Field(min_length=1), Otherwise("must be a mapping with at least one entry.")
"""Bounds of a mapping of names to sections."""

Settings = Annotated[dict[str, Any], AfterValidator(check_settings)]
"""Values of recipe keys: a key of every stage, or of one stage if that stage's name is its prefix."""
Factors = dict[str, Positive]
"""Factors by recipe key: each multiplies the value that is set for the key."""
RecipeKey = Annotated[str, AfterValidator(check_key)]
"""A recipe key that takes the value of a column."""


class LevelEntry(FileSection):
    """A level that does more than set recipe keys."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})  # an empty level is one that sets no key

    set: Settings = {}
    """Values of recipe keys."""
    factors: Factors = {}
    """Factors by recipe key: each multiplies the value that the study or its scale sets for the key."""
    starts_from: dict[str, str | None] = {}
    """By stage, the earlier stage whose run it starts from, if that is not the stage's own `starts_from`; none: no run."""


_LEVEL_FIELDS = frozenset(LevelEntry.model_fields)


def level_form(value: Any) -> str | None:
    """Return the form of a level, or None if it is not a mapping."""
    if isinstance(value, LevelEntry):
        return "entry"
    if not isinstance(value, dict):
        return None
    return "entry" if _LEVEL_FIELDS & value.keys() else "settings"


def expand_level(value: Any) -> Any:
    """Return a level with what stages start from in its field, where it was written as `<stage>.starts_from`."""
    if level_form(value) != "settings" or isinstance(value, LevelEntry):
        return value
    starts = {key.removesuffix(_START): start for key, start in value.items() if str(key).endswith(_START)}
    settings = {key: setting for key, setting in value.items() if not str(key).endswith(_START)}
    return {"set": settings, "starts_from": starts} if starts else value


_START = ".starts_from"
_SHORT_SCHEMA = {"type": "object", "propertyNames": {"not": {"enum": sorted(_LEVEL_FIELDS)}}}
ShortLevel = Annotated[dict[str, Any], AfterValidator(check_settings), WithJsonSchema(_SHORT_SCHEMA)]
"""A level as a mapping of recipe keys to values."""
Level = Annotated[
    Annotated[LevelEntry, Tag("entry")] | Annotated[ShortLevel, Tag("settings")],
    Discriminator(
        level_form, custom_error_type=TYPE, custom_error_message="must be a mapping of recipe keys to values."
    ),
    BeforeValidator(expand_level),
]
"""A level, as a mapping of recipe keys to values or with fields of its own."""


def level_entry(level: LevelEntry | dict[str, Any]) -> LevelEntry:
    """Return a level with its settings in `set`."""
    return level if isinstance(level, LevelEntry) else LevelEntry.model_construct(set=level)
