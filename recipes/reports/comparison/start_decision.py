"""Decision between training from scratch and further starts (`report.starts`): what their two declared claims support."""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum

from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.decision import SETTLED, STRICT, find_sides
from recipes.reports.comparison.estimator import Levels


class Use(StrEnum):
    """What to use."""

    OPEN = "open"
    """Whether the start is better than training from scratch is not settled."""
    SCRATCH = "training from scratch"
    START = "the start"
    CONTINUED = "the continued start"
    SCRATCH_OR_START = "training from scratch or the start"
    """They are equivalent, and nothing is better than both."""
    SCRATCH_OR_CONTINUED = "training from scratch or the continued start"
    """Both are better than the start; no claim compares them with each other."""
    NOT_COMPARED = "a start or another training from scratch"
    """Both are better than the training from scratch that validation images prefer; no claim compares them with each other."""


def settled_outcome(name: str, claims: Sequence[Claim], doubtful: Collection[str]) -> Outcome | None:
    """Return the outcome of a claim if it answers it, None if it is open, `doubtful` or not declared."""
    return next(
        (claim.outcome for claim in claims if claim.name == name and claim.outcome in SETTLED and name not in doubtful),
        None,
    )


def decide_start(claims: Sequence[Claim], doubtful: Collection[str] = (), *, is_beaten: bool = False) -> Use:
    """Return what the claims `start` and `continued` support; of equivalent starts the one with fewer stages of its own.

    `is_beaten`: a claim says that another training from scratch outperforms the one that the start is compared with.
    """
    start, continued = (settled_outcome(name, claims, doubtful) for name in ("start", "continued"))
    if start is None:
        return Use.OPEN
    if continued is Outcome.BETTER and start is Outcome.WORSE:
        return Use.SCRATCH_OR_CONTINUED
    if is_beaten and (start is Outcome.BETTER or continued is Outcome.BETTER):
        return Use.NOT_COMPARED
    if continued is Outcome.BETTER:
        return Use.CONTINUED
    if is_beaten:
        return Use.SCRATCH
    return {Outcome.BETTER: Use.START, Outcome.WORSE: Use.SCRATCH}.get(start, Use.SCRATCH_OR_START)


def is_beaten(
    arm: Levels, claims: Sequence[Claim], compare: Mapping[str, tuple[str, str]], doubtful: Collection[str] = ()
) -> bool:
    """Return whether a claim says that another training from scratch outperforms this arm, averaged over all amounts of labels.

    `compare` has the levels (base, other) of the main axis, then of the second one.
    """
    (main, ends), *_ = compare.items()
    by_name = {claim.name: claim for claim in claims if claim.outcome in STRICT and claim.name not in doubtful}
    losers = [find_sides(by_name.get("alternative"), compare)[1]]
    if (effect := by_name.get("effect")) is not None:
        losers.append({**effect.levels, main: ends[effect.outcome is Outcome.WORSE]})
    return any(loser and loser.items() <= arm.items() for loser in losers)
