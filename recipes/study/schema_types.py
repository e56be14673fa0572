"""Types of recipe keys by their JSON schema: the same as those of the config classes, which import all of training."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
"""Folder of the schemas that the repository's files name (`python -m recipes schema`)."""
_SCALARS = {"string": str, "number": float, "integer": int, "boolean": bool}


def type_in_schema(module: str, key: str) -> Any:
    """Return the type of a dotted key of a stage's recipes as a hint for `read_value`; None if there is no such key.

    A section is a dict, and the bounds of numbers are dropped.
    """
    schema = _schema(module.split()[-1])
    node: Any = schema
    for name in key.split("."):
        node = _section(node, schema).get("properties", {}).get(name)
        if node is None:
            return None
    return _hint(node)


@cache
def _schema(name: str) -> dict[str, Any]:
    """Return the schema of a kind of recipe."""
    content: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))
    return content


def _section(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a section, possibly in a union with none; an empty one if `node` is no section."""
    for part in node.get("anyOf", [node]):
        if "$ref" in part:
            section: dict[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]]
            return section
    return node if "properties" in node else {}


def _hint(node: dict[str, Any]) -> Any:
    """Return the type that a schema describes."""
    if "anyOf" in node:
        return Union[tuple(map(_hint, node["anyOf"]))]  # noqa: UP007 (of a number of types known only here)
    if "enum" in node:
        return None if None in node["enum"] else Literal[tuple(node["enum"])]
    if "prefixItems" in node:
        return tuple[tuple(map(_hint, node["prefixItems"]))]  # type: ignore[misc]
    if node.get("type") == "array":
        return tuple[_hint(node["items"]), ...]  # type: ignore[misc]
    kind = node.get("type")
    return str if isinstance(kind, list) else _SCALARS.get(kind or "", dict)
