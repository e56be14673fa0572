"""Decision of a comparison: which arm the declared claims support, and on which of them it rests."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.estimator import Levels

STRICT = (Outcome.BETTER, Outcome.WORSE)
"""Outcomes that prefer one side."""
SETTLED = (*STRICT, Outcome.EQUIVALENT)
"""Outcomes that answer a claim."""


class Basis(StrEnum):
    """The declared claims on which a decision rests."""

    NONE = "none"
    EFFECT = "effect"
    SAVING = "saving"
    """The effect at one amount of labels; that averaged over all amounts is open."""
    ALTERNATIVE = "alternative"
    CHAIN = "effect and alternative"
    """Both: the arm is at least as good as another one, which outperforms a third one, or the other way around."""


@dataclass(frozen=True)
class Decision:
    """The arm that the declared claims support."""

    basis: Basis
    use: Levels
    """Levels to use, in the panel of the effect or of the alternative; empty: nothing is settled."""
    over: Levels
    """Levels that `use` is compared with."""
    either: bool = False
    """Whether both levels of the main axis do as well, and neither is simpler."""
    exception: str = ""
    """Level of the main axis that is better at the declared amount of labels; empty: that of `use` is not worse there."""


def decide(
    claims: Sequence[Claim], compare: Mapping[str, tuple[str, str]], simpler: str | None, doubtful: Collection[str] = ()
) -> Decision:
    """Return the decision that the claims support.

    `compare` has the levels (base, other) of the main axis, then of the second one. Of equivalent levels of the main axis the
    `simpler` one is used. Claims named in `doubtful` support nothing, whatever their outcome.
    """
    settled = {claim.name: claim for claim in claims if claim.outcome in SETTLED and claim.name not in doubtful}
    (main, ends), *_ = compare.items()
    effect, saving = settled.get("effect"), settled.get("saving")
    panel = next(claim.levels for claim in claims if claim.name == "effect")
    winner, loser = find_sides(settled.get("alternative"), compare)
    at_amount = _favored(saving, ends, None) if saving is not None else None
    if effect is not None:
        level = _favored(effect, ends, simpler)
        use = {**panel, main: level or ends[0]}
        over = {**panel, main: opposite(use[main], ends)}
        if loser and any(loser.items() <= each.items() for each in ((use,) if level is not None else (use, over))):
            return Decision(Basis.ALTERNATIVE, winner, loser)
        is_chain = level is not None and bool(winner) and any(winner.items() <= each.items() for each in (use, over))
        exception = at_amount if at_amount is not None and at_amount != level else ""
        return Decision(Basis.CHAIN if is_chain else Basis.EFFECT, use, over, level is None, exception)
    if winner:
        return Decision(Basis.ALTERNATIVE, winner, loser)
    if at_amount is not None:
        return Decision(Basis.SAVING, {**panel, main: at_amount}, {**panel, main: opposite(at_amount, ends)})
    return Decision(Basis.NONE, {}, {})


def _favored(claim: Claim, ends: tuple[str, str], simpler: str | None) -> str | None:
    """Return the level of the main axis that a settled claim favors."""
    return {Outcome.BETTER: ends[1], Outcome.WORSE: ends[0]}.get(claim.outcome, simpler)


def opposite(level: str, ends: tuple[str, str]) -> str:
    """Return the other one of two levels."""
    return ends[1] if level == ends[0] else ends[0]


def find_sides(claim: Claim | None, compare: Mapping[str, tuple[str, str]]) -> tuple[Levels, Levels]:
    """Return the two sides of the alternative, the better one first; empty if it prefers neither."""
    if claim is None or claim.outcome not in STRICT:
        return {}, {}
    (main, (base, other)), (second, (base2, other2)), *_ = compare.items()
    sides = {second: other2, main: base}, {second: base2, main: other}
    return sides if claim.outcome is Outcome.BETTER else sides[::-1]
