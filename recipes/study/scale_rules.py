"""Owns what a study's values become at another scale: numbers by a factor, names by a list."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError


@dataclass(frozen=True)
class Translation:
    """What the values of a key become: one that `values` names another value, or several keys; a number `times` a factor."""

    times: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False

    def apply(self, key: str, value: Any) -> dict[str, Any]:
        """Return the settings that stand for `key` = `value`."""
        written = write_level(value)
        if written in self.values:
            other = self.values[written]
            return dict(other) if isinstance(other, dict) else {key: other}
        if self.strict:
            raise UserError(f"{key} = {written}: this scale has no value for it, only for {', '.join(self.values)}.")
        if self.times is not None and isinstance(value, int | float):
            return {key: short(value * self.times)}
        return {key: value}


def write_level(value: Any) -> str:
    """Return a value as a level's name: numbers in their shortest form, lists with commas."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_level, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def short(value: float) -> float:
    """Return a number to six digits, so that a product is written as people would write it."""
    return float(f"{value:.6g}")
