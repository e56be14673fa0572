"""Owns checking the mappings of a study's or a scale's file: unknown keys, missing keys, empty sections, all at once."""

import re
from typing import Any

import yaml

from common.config import nearest
from recipes.study.scale_rules import write_level


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in the recipes; PyYAML by itself takes it for a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+.0123456789")
)


def read_yaml(text: str) -> Any:
    """Return the content of a YAML text."""
    return yaml.load(text, Loader=_Loader)


def section(
    entry: Any, where: str, allowed: tuple[str, ...], required: tuple[str, ...], problems: list[str]
) -> dict[str, Any]:
    """Return a mapping after noting the keys it lacks and those nobody knows."""
    prefix = f"{where}." if where else ""
    if not isinstance(entry, dict):
        problems.append(f"{where}: missing, or not a mapping. It takes {', '.join(allowed)}.")
        return {}
    for key in entry:
        if key not in allowed:
            hint = nearest(str(key), list(allowed))
            problems.append(f"{prefix}{key}: unknown key.{hint} Known are {', '.join(allowed)}.")
    problems += [f"{prefix}{key}: missing." for key in required if key not in entry]
    return entry


def named(entry: Any, where: str, problems: list[str]) -> list[tuple[str, Any]]:
    """Return the (name, value) pairs of a mapping that must not be empty."""
    if not isinstance(entry, dict) or not entry:
        problems.append(f"{where}: needs a mapping with at least one entry.")
        return []
    return [(write_level(key), value) for key, value in entry.items()]


def is_number(text: str) -> bool:
    """Tell whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
