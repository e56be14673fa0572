"""Wording of the outcomes of claims, and of their counts."""

from collections.abc import Mapping, Sequence

from recipes.reports.formatting import listed
from recipes.reports.replication.claims import Outcome
from recipes.reports.replication.row_words import at_most

MOST_NAMED = 2
"""Most claims of an outcome that a headline names."""
_NAMED = (Outcome.SAME, Outcome.OPPOSITE, Outcome.SAME_ONE, Outcome.OPPOSITE_ONE)
"""Outcomes whose claims a headline names."""


def outcome_verb(outcome: Outcome, repeats: str, *, several: bool) -> str:
    """Return what claims of an outcome do, with the verb in agreement."""
    one, more = {
        Outcome.SAME: ("holds", "hold"),
        Outcome.SAME_ONE: (f"has the same direction in one {repeats}", f"have the same direction in one {repeats}"),
        Outcome.OPPOSITE: ("is reversed", "are reversed"),
        Outcome.OPPOSITE_ONE: (
            f"has the opposite direction in one {repeats}",
            f"have the opposite direction in one {repeats}",
        ),
        Outcome.DEPENDS: ("depends on diverged runs", "depend on diverged runs"),
        Outcome.INCONCLUSIVE: ("is inconclusive", "are inconclusive"),
        Outcome.MISSING: ("is not measured", "are not measured"),
    }[outcome]
    return more if several else one


def count_outcomes(claims: Mapping[Outcome, Sequence[str]], repeats: str, *, owner: str, where: str) -> str:
    """Return how many claims have which outcome, in one sentence; it names up to two claims of each that is decided.

    `claims` are the claims by outcome; `owner` is whose they are (`the paper's`), and `where` says where (`at scale digits`).
    """
    total = sum(map(len, claims.values()))
    found = [outcome for outcome in Outcome if claims.get(outcome)]
    if len(found) == 1:
        verb, names = outcome_verb(found[0], repeats, several=total > 1), claims[found[0]]
        is_named = total == 1 or (found[0] in _NAMED and total <= MOST_NAMED)
        end = f": {at_most(names)}" if is_named else ""
        start = f"{owner} claim" if total == 1 else f"all of {owner} {total} claims"
        return f"{start[0].upper()}{start[1:]} {verb} {where}{end}."
    parts = []
    for number, outcome in enumerate(found):
        names = claims[outcome]
        verb = outcome_verb(outcome, repeats, several=len(names) > 1)
        named = f" ({at_most(names, MOST_NAMED)})" if outcome in _NAMED else ""
        parts.append(f"{len(names)} {verb}{'' if number else f' {where}'}{named}")
    return f"Of {owner} {total} claims, {listed(parts)}."


def outcome_lead(outcome: Outcome, repeats: str, *, is_published: bool) -> str:
    """Return the beginning of the sentence on the claims with an outcome."""
    same, opposite = (
        ("As in the paper", "Contrary to the paper") if is_published else ("As claimed", "Contrary to the claim")
    )
    return {
        Outcome.SAME: same,
        Outcome.SAME_ONE: f"{same}, in a single {repeats}",
        Outcome.OPPOSITE: opposite,
        Outcome.OPPOSITE_ONE: f"{opposite}, in a single {repeats}",
        Outcome.DEPENDS: "Depends on the runs that diverged",
        Outcome.INCONCLUSIVE: "Inconclusive here",
        Outcome.MISSING: "Not measured yet",
    }[outcome]
