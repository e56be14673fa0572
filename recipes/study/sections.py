"""Validation of the sections of study and scale files: unknown keys, missing keys and empty sections, all reported together."""

import re
from typing import Any

import yaml

from common.errors import did_you_mean
from recipes.study.scale_rules import format_level


class _Loader(yaml.SafeLoader):
    """YAML loader that parses 1e-3 as a number, as in recipes; PyYAML's default parses it as text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Return the content of a YAML document."""
    return yaml.load(text, Loader=_Loader)


def check_section(
    entry: Any, where: str, allowed: tuple[str, ...], required: tuple[str, ...], problems: list[str]
) -> dict[str, Any]:
    """Return a section, or an empty one if it is not a mapping; append its unknown and missing keys to `problems`."""
    prefix = f"{where}." if where else ""
    if not isinstance(entry, dict):
        problems.append(f"{where}: missing, or not a mapping. Known keys: {', '.join(allowed)}.")
        return {}
    for key in entry:
        if key not in allowed:
            hint = did_you_mean(str(key), list(allowed))
            problems.append(f"{prefix}{key}: unknown key.{hint} Known keys: {', '.join(allowed)}.")
    problems += [f"{prefix}{key}: missing." for key in required if key not in entry]
    return entry


def named_entries(entry: Any, where: str, problems: list[str]) -> list[tuple[str, Any]]:
    """Return the (name, value) pairs of a mapping; an empty mapping is a problem."""
    if not isinstance(entry, dict) or not entry:
        problems.append(f"{where}: must be a mapping with at least one entry.")
        return []
    return [(format_level(key), value) for key, value in entry.items()]


def is_number(text: str) -> bool:
    """Return whether `text` is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
