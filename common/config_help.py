"""Help and JSON schemas of configurations, from the types, defaults and docstrings of their fields."""

import textwrap
from collections.abc import Iterator
from typing import Any, cast

from pydantic.fields import FieldInfo

from common.config import Config, is_section
from common.config_messages import type_name


def describe(cls: type[Config]) -> str:
    """Return the help text of a config class: every dotted key with its type, default and description."""
    lines = []
    for key, field in all_fields(cls):
        default = (
            "required"
            if field.is_required()
            else f"default {_format_value(field.get_default(call_default_factory=True))}"
        )
        lines.append(f"  {key}  ({type_name(field.annotation)}; {default})")
        lines += [f"      {line}" for line in textwrap.wrap(" ".join((field.description or "").split()), 110)]
    return "\n".join(lines)


def all_fields(cls: type[Config], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, field) of a config class and its sections, depth first; a section itself is not yielded."""
    for name, field in cls.model_fields.items():
        if is_section(field.annotation):
            yield from all_fields(cast(type[Config], field.annotation), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def recipe_schema(cls: type[Config]) -> dict[str, Any]:
    """Return the JSON schema of a stage's recipes: every key is optional, since a recipe may extend another one."""
    schema = _as_yaml(cls.model_json_schema())
    for section in (schema, *schema.get("$defs", {}).values()):
        section.pop("required", None)
    extends = {
        "type": "string",
        "description": "Recipe that this one extends, relative to its folder; this one's keys win.",
    }
    schema["properties"] = {"extends": extends, **schema["properties"]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def file_schema(cls: type[Config]) -> dict[str, Any]:
    """Return the JSON schema of the files that are read as a `cls`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_as_yaml(cls.model_json_schema())}


def _as_yaml(schema: Any) -> Any:
    """Return a schema that takes what YAML may make of a value: `none` for null, and a number or a boolean for text."""
    if isinstance(schema, list):
        return [_as_yaml(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = {key for key in ("title", "default") if isinstance(schema.get(key), str if key == "title" else dict)}
    converted = {key: _as_yaml(value) for key, value in schema.items() if key not in dropped}
    if schema.get("type") == "null":
        return {"enum": [None, "none"]}
    if schema.get("type") == "string" and not schema.keys() & {"enum", "const", "pattern"}:
        converted["type"] = ["string", "number", "boolean"]
    return converted


def _format_value(value: Any) -> str:
    """Return a default as written in YAML."""
    if isinstance(value, tuple):
        return f"[{', '.join(_format_value(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return "none" if value is None else str(value).lower()
    return '""' if value == "" else str(value)
