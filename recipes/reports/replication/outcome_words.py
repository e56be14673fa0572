"""Wording of the outcomes of a paper's claims and crashes, and of their counts."""

from collections.abc import Mapping

from recipes.reports.formatting import listed
from recipes.reports.replication.agreement import Outcome


def count_outcomes(counts: Mapping[Outcome, int], repeats: str) -> str:
    """Return how many of the paper's claims hold, in one sentence."""
    phrases = {
        Outcome.SAME: ("holds here", "hold here"),
        Outcome.SAME_ONE: (f"has the same direction in one {repeats}", f"have the same direction in one {repeats}"),
        Outcome.INCONCLUSIVE: ("is inconclusive here", "are inconclusive here"),
        Outcome.OPPOSITE: ("is reversed here", "are reversed here"),
        Outcome.OPPOSITE_ONE: (
            f"has the opposite direction in one {repeats}",
            f"have the opposite direction in one {repeats}",
        ),
        Outcome.MISSING: ("is not measured", "are not measured"),
    }
    total = sum(counts.values())
    parts = [
        f"{counts[outcome]} {phrase[counts[outcome] > 1]}" for outcome, phrase in phrases.items() if counts.get(outcome)
    ]
    if total == 1:
        return f"The paper's claim {parts[0][2:]}."
    if len(parts) == 1:
        return f"All of the paper's {total} claims {parts[0].partition(' ')[2]}."
    return f"Of the paper's {total} claims, {listed(parts)}."


def outcome_lead(outcome: Outcome, repeats: str) -> str:
    """Return the beginning of the sentence on the claims with an outcome."""
    return {
        Outcome.SAME: "As in the paper",
        Outcome.SAME_ONE: f"As in the paper, in a single {repeats}",
        Outcome.OPPOSITE: "Contrary to the paper",
        Outcome.OPPOSITE_ONE: f"Contrary to the paper, in a single {repeats}",
        Outcome.INCONCLUSIVE: "Inconclusive here",
        Outcome.MISSING: "Not measured yet",
    }[outcome]


def count_crashes(count: int, where: str) -> str:
    """Return how many rows crash, with the verb in agreement."""
    return f"{count or 'none'} {'crashes' if count < 2 else 'crash'} {where}"
