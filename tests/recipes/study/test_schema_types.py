"""Types of keys from schemas: every word is read as by the config class."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from common.config import read_value
from common.config_places import section_in
from common.yaml_text import parse_yaml
from recipes.stages import STAGES, config_class
from recipes.study.key_types import KeyTypes
from recipes.study.schema_types import type_in_schema

WORDS = (
    "0",
    "007",
    "1e3",
    "5.0e-4",
    "none",
    "null",
    "true",
    "adamw",
    "'1'",
    "[1, 2]",
    "[0.5, 1]",
    "[1, 2, 3]",
    "[a, 007]",
)


def keys_of(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, type) for every key of a config class that is not a section."""
    for name, field in cls.model_fields.items():
        section = section_in(field.annotation)
        if section is None:
            yield prefix + name, field.annotation
        else:
            yield from keys_of(section, f"{prefix}{name}.")


def reading(value: Any, hint: Any) -> Any:
    """Return what a value is read as, with its type."""
    try:
        found = read_value(value, hint)
    except PydanticCustomError as error:
        return str(error)
    return repr(found)


@pytest.mark.parametrize("module", STAGES)
def test_words_are_read_as_by_the_config_class(module: str) -> None:
    keys = dict(keys_of(config_class(module)))
    assert keys
    for key, hint in keys.items():
        found = type_in_schema(module, key)
        assert found is not None, key
        for text in WORDS:
            value = parse_yaml(text)
            assert reading(value, found) == reading(value, hint), f"{module} {key}={text}"


def test_unknown_keys_have_no_type() -> None:
    assert type_in_schema("finetune", "optim.rate") is None
    assert type_in_schema("finetune", "optim.lr.value") is None
    assert type_in_schema("finetune", "momentum") is None


def test_words_are_text_for_keys_that_are_text() -> None:
    types = KeyTypes({"finetune": "finetune"})
    assert types.read("finetune.data.source", parse_yaml("007")) == "007"
    assert types.read("finetune.data.fraction", parse_yaml("1")) == 1.0
