"""Types of the recipe keys that a study sets: an unquoted word is text for a key whose type is text, otherwise its value."""

import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from common.config import read_value
from common.yaml_words import Word, values_of
from recipes.stages import STAGES
from recipes.study.scale_rules import ScaleRule
from recipes.study.schema_types import type_in_schema


@dataclass(frozen=True)
class KeyTypes:
    """The stages of a study, by which the types of recipe keys are found: module by name of the stage."""

    modules: Mapping[str, str] = field(default_factory=dict)

    def read_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings with every word replaced by its text or its value."""
        return {key: self.read(key, value) for key, value in settings.items()}

    def read_rule(self, key: str, rule: ScaleRule) -> ScaleRule:
        """Return a scale's rule for a key with every word of its values replaced by its text or its value."""
        values = {
            level: self.read_settings(other) if isinstance(other, dict) else self.read(key, other)
            for level, other in rule.values.items()
        }
        return replace(rule, values=values)

    def read(self, key: str, value: Any) -> Any:
        """Return the value of a key with every word replaced by its text or its value."""
        hint = self._type_of(key)
        if type(value) is str or not (_has_words(value) or _is_text(hint)):
            return value
        try:
            found = read_value(value, hint)
        except PydanticCustomError:  # the stage's config reports it
            found = value
        return values_of(list(found) if isinstance(found, tuple) else found)

    def _type_of(self, key: str) -> Any:
        """Return the type of a key: that of the stage whose name is its prefix, or of the first stage that has the key."""
        for stage, module in self.modules.items():
            own = key.removeprefix(f"{stage}.")
            if module in STAGES and (own != key or not key.startswith(tuple(f"{name}." for name in self.modules))):
                hint = type_in_schema(module, own)
                if hint is not None:
                    return hint
        return None


def _has_words(value: Any) -> bool:
    """Return whether a value is or contains a word."""
    if isinstance(value, dict):
        return any(map(_has_words, value.values()))
    return any(map(_has_words, value)) if isinstance(value, list | tuple) else isinstance(value, Word)


def _is_text(hint: Any) -> bool:
    """Return whether a type is text, possibly one of a choice or none."""
    return hint is str or typing.get_origin(hint) is Literal or any(map(_is_text, typing.get_args(hint)))
