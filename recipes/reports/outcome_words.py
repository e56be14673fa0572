"""Owns the words for how the paper's claims and crashes turned out, and how they are counted."""

from collections.abc import Mapping

from recipes.reports.agreement import Outcome
from recipes.reports.sentences import listed


def count_outcomes(measured: Mapping[Outcome, int], repeats: str) -> str:
    """Return how many of the paper's claims hold, in one line."""
    words = {
        Outcome.SAME: ("holds here", "hold here"),
        Outcome.SAME_ONE: (f"points the same way in one {repeats}", f"point the same way in one {repeats}"),
        Outcome.UNCLEAR: ("cannot be told here", "cannot be told here"),
        Outcome.OPPOSITE: ("is reversed here", "are reversed here"),
        Outcome.OPPOSITE_ONE: (f"points the other way in one {repeats}", f"point the other way in one {repeats}"),
        Outcome.MISSING: ("is not measured", "are not measured"),
    }
    total = sum(measured.values())
    parts = [f"{measured[one]} {told[measured[one] > 1]}" for one, told in words.items() if measured.get(one)]
    if total == 1:
        return f"The paper's claim {parts[0][2:]}."
    if set(measured) == {Outcome.UNCLEAR}:
        return f"None of the paper's {total} claims can be told here."
    if len(parts) == 1:
        return f"All of the paper's {total} claims {parts[0].partition(' ')[2]}."
    return f"Of the paper's {total} claims, {listed(parts)}."


def lead_of(outcome: Outcome, repeats: str) -> str:
    """Return how the sentence on the claims with an outcome begins."""
    return {
        Outcome.SAME: "As in the paper",
        Outcome.SAME_ONE: f"As in the paper, by one {repeats} alone",
        Outcome.OPPOSITE: "Against the paper",
        Outcome.OPPOSITE_ONE: f"Against the paper, by one {repeats} alone",
        Outcome.UNCLEAR: "Not distinguishable here",
        Outcome.MISSING: "Not measured yet",
    }[outcome]


def crash_here(count: int, where: str) -> str:
    """Return how many rows crash, with the verb in its number."""
    return f"{count or 'none'} {'crashes' if count < 2 else 'crash'} {where}"
