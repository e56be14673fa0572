"""Formatting of numbers, intervals and lists in reports."""

import math
from collections.abc import Sequence

from recipes.reports.statistics import MIN_SEEDS, SIGNIFICANCE, Interval

NO_DIFFERENCE = 1e-9
"""Absolute value up to which a difference is an error of rounding."""


def signed(value: float, digits: int = 1) -> str:
    """Return a number with its sign, using the typographic minus; without a sign if it rounds to zero."""
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


def signed_distinctly(value: float, digits: int = 1) -> str:
    """Return a number with its sign; with one more digit if it is not zero and would be rounded to it."""
    return signed(value, digits + (abs(value) > NO_DIFFERENCE and round(value, digits) == 0))


def number(value: float, digits: int = 1) -> str:
    """Return a number with the typographic minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def within_95(interval: Interval, digits: int = 1) -> str:
    """Return the bounds of a difference as text; with more digits where one would be rounded to zero, or both to the same."""
    if not interval.is_known:
        return f"no interval: {_why_unknown(interval)}" if interval.count else "not measured"
    bounds = interval.low, interval.high
    if any(round(bound, digits) == 0 and abs(bound) > NO_DIFFERENCE for bound in bounds):
        digits += 1
    if round(bounds[0], digits) == round(bounds[1], digits):
        digits += 1
    return f"95% CI {signed(interval.low, digits)} to {signed(interval.high, digits)}"


def _why_unknown(interval: Interval) -> str:
    """Return why there are no bounds."""
    return "one repeat" if interval.count == 1 else "all repeats are equal"


def p_text(p_value: float) -> str:
    """Return a p-value as text, with more digits where two would put it on the other side of 0.05."""
    if p_value < 0.001:
        return "p < 0.001"
    texts = (f"{p_value:.{digits}g}" for digits in range(2, 18))
    return f"p = {next(text for text in texts if (float(text) < SIGNIFICANCE) == (p_value < SIGNIFICANCE))}"


def conclusion(interval: Interval) -> str:
    """Return whether an interval differs significantly from zero, as text."""
    if not interval.is_known:
        return f"inconclusive ({_why_unknown(interval)})" if interval.count else "not measured"
    if interval.count < MIN_SEEDS:
        return f"inconclusive ({interval.count} repeats)"
    return {1: "significantly above zero", -1: "significantly below zero", 0: "not significant"}[interval.sign]


def mean_and_half(interval: Interval, digits: int = 1) -> str:
    """Return `97.1 ± 0.6` for a table; a dash if nothing is measured."""
    if math.isnan(interval.mean):
        return "–"
    half = f" ± {interval.half_width:.{digits}f}" if interval.is_known else ""
    return number(interval.mean, digits) + half


def mean_and_bounds(interval: Interval, digits: int = 1) -> str:
    """Return `97.1 (95.2 to 98.3)` for a table; a dash if nothing is measured."""
    if math.isnan(interval.mean):
        return "–"
    bounds = f" ({number(interval.low, digits)} to {number(interval.high, digits)})" if interval.is_known else ""
    return number(interval.mean, digits) + bounds


def crash_kind(kind: str) -> str:
    """Return the kind of a crash in readable form."""
    return kind.replace("non_finite", "non-finite").replace("_", " ")


def listed(items: Sequence[str]) -> str:
    """Return items as an enumeration: `a`, `a and b`, `a, b and c`."""
    return " and ".join([*([", ".join(items[:-1])] if len(items) > 1 else []), *items[-1:]])


def capital(text: str) -> str:
    """Return `text` with its first letter capitalized."""
    return text[:1].upper() + text[1:]
