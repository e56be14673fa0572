"""Scale rules: how a study's values change at another scale, by a factor or by a table of values; and names of levels."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import UserError
from common.yaml_words import Word, as_text, as_value

MAX_NUMBER = 1e300
"""Bound of the numbers that are multiplied and compared."""


@dataclass(frozen=True)
class ScaleRule:
    """Rule for the values of a key: `values` maps a value to another one, or to several keys; other numbers are scaled by `times`.

    With `strict`, a value that `values` does not list is an error.
    """

    times: float | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    factors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Factors by recipe key that come with a value of `values`."""
    starts_from: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """What stages start from with a value of `values`."""

    def apply(self, key: str, value: Any) -> dict[str, Any]:
        """Return the settings that replace `key` = `value`."""
        level = find_level(value, self.values)
        if level is not None:
            other = self.values[level]
            return dict(other) if isinstance(other, dict) else {key: other}
        if self.strict:
            raise UserError(
                f"{key} = {format_level(value)}: this scale has no value for it, only for {', '.join(self.values)}."
            )
        number = as_value(value)
        if self.times is not None and is_numeric(number):
            return {key: round_product(number * self.times)}
        return {key: value}

    def factors_of(self, value: Any) -> Mapping[str, float]:
        """Return the factors that come with a value."""
        return self.factors.get(find_level(value, self.values) or "", {})

    def starts_of(self, value: Any) -> Mapping[str, str | None]:
        """Return what stages start from with a value."""
        return self.starts_from.get(find_level(value, self.values) or "", {})


def format_level(value: Any) -> str:
    """Return a value as the name of a level: numbers in their shortest form, lists with commas, words as their values."""
    value = as_value(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(format_level, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def name_value(value: Any) -> str:
    """Return a value as it is named in messages and lists of levels: a word as it was typed, anything else as a level."""
    return as_text(value) if isinstance(value, Word) else format_level(value)


def find_level(value: Any, names: Iterable[str]) -> str | None:
    """Return the name that stands for a value: its text as it was typed, its name as a level, or the same number; or None."""
    names = list(names)
    if isinstance(value, Word) and as_text(value) in names:
        return as_text(value)
    if (name := format_level(value)) in names:
        return name
    number = as_value(value)
    if not is_numeric(number):
        return None
    return next((name for name in names if is_number(name) and float(name) == number), None)


def repeated_names(values: Iterable[Any]) -> Iterator[str]:
    """Yield what is wrong, with its remedy, for every value with the name of an earlier one: both would be the same level."""
    first: dict[str, Any] = {}
    for value in values:
        name, plain = format_level(value), as_value(value)
        if name not in first:
            first[name] = plain
        elif first[name] == plain:
            yield f"{name} is there twice. Remove one of them."
        else:
            yield (
                f"{first[name]!r} and {plain!r} have the same name, {name}: names of numbers have six digits. Remove one of them."
            )


def is_numeric(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_NUMBER


def is_number(text: str) -> bool:
    """Return whether `text` is a finite number."""
    try:
        return abs(float(text)) < float("inf")
    except ValueError:
        return False


def round_product(value: float) -> float:
    """Round a product to six significant digits: 0.3, not 0.30000000000000004."""
    return float(f"{value:.6g}")
