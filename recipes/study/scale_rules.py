"""Scale rules: how a study's values change at another scale, by a factor or by a table of values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError


@dataclass(frozen=True)
class ScaleRule:
    """Rule for the values of a key: `values` maps a value to another one, or to several keys; other numbers are scaled by `times`.

    With `strict`, a value that `values` does not list is an error.
    """

    times: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False

    def apply(self, key: str, value: Any) -> dict[str, Any]:
        """Return the settings that replace `key` = `value`."""
        level = format_level(value)
        if level in self.values:
            other = self.values[level]
            return dict(other) if isinstance(other, dict) else {key: other}
        if self.strict:
            raise UserError(f"{key} = {level}: this scale has no value for it, only for {', '.join(self.values)}.")
        if self.times is not None and isinstance(value, int | float):
            return {key: round_product(value * self.times)}
        return {key: value}


def format_level(value: Any) -> str:
    """Return a value as the name of a level: numbers in their shortest form, lists with commas."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_level, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def round_product(value: float) -> float:
    """Round a product to six significant digits: 0.3, not 0.30000000000000004."""
    return float(f"{value:.6g}")
