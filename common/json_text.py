"""JSON of RFC 8259, which has no NaN and no infinity: `null` instead in files that others read, exact in checkpoints."""

import json
import math
from collections.abc import Callable
from typing import Any

NON_FINITE = "float"
"""Only key of the object that stands for a number that is not finite where it must be restored: {"float": "nan"}."""


def to_json(value: Any, **options: Any) -> str:
    """Return a value as JSON, with `null` for a number that is not finite; `options` are those of `json.dumps`."""
    return _dumps(value, lambda number: None, options)


def to_exact_json(value: Any) -> str:
    """Return a value as JSON from which `from_exact_json` restores every number."""
    return _dumps(value, lambda number: {NON_FINITE: str(number)}, {})


def from_exact_json(text: str) -> Any:
    """Return the value of which `to_exact_json`, or `json.dumps`, made the text; raise ValueError for anything else."""
    return json.loads(text, object_hook=_restored)


def _dumps(value: Any, replace: Callable[[float], Any], options: dict[str, Any]) -> str:
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:  # it does not say where, and most values have nothing to replace
        return json.dumps(_replaced(value, replace), allow_nan=False, **options)


def _replaced(value: Any, replace: Callable[[float], Any]) -> Any:
    """Return a copy of a value in which `replace` was applied to the numbers that are not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else replace(value)
    if isinstance(value, dict):
        return {name: _replaced(item, replace) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(item, replace) for item in value]
    return value


def _restored(found: dict[str, Any]) -> Any:
    """Return the number that an object stands for, or the object."""
    return float(found[NON_FINITE]) if found.keys() == {NON_FINITE} and isinstance(found[NON_FINITE], str) else found
