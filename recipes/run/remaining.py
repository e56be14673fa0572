"""Estimated duration of runs that are not done, from those that are."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from recipes.study.plan import PlannedRun
from recipes.study.specification import BASELINES

_LONGEST_START = 30.0
"""What a run needs at most besides computing, in seconds: of a run that takes longer, most is computing."""


class Finished(NamedTuple):
    """A finished run and its duration in seconds."""

    run: PlannedRun
    seconds: float


def expected_seconds(run: PlannedRun, finished: Sequence[Finished]) -> float | None:
    """Return how long a run should take; None if nothing that is finished tells.

    It is the mean of the finished runs of its stage that have the most levels in common with it, in proportion to the planned MACs
    where they are known. Without one of its stage: the shortest run so far, but at most half a minute, for what every run needs
    besides computing, and its MACs at the highest rate of a stage so far. Baselines train nothing: their rate tells nothing about
    others.
    """
    of_stage = [each for each in finished if each.run.stage == run.stage]
    if of_stage:
        similarity = [_common_levels(run, each.run) for each in of_stage]
        similar = [each for each, common in zip(of_stage, similarity, strict=True) if common == max(similarity)]
        return statistics.fmean(each.seconds * _ratio(run, each.run) for each in similar)
    rates = [rate for stage in dict.fromkeys(each.run.stage for each in finished) if (rate := _rate(stage, finished))]
    if not rates or run.macs is None:
        return None
    return min(_LONGEST_START, *(each.seconds for each in finished)) + run.macs / max(rates)


def _common_levels(run: PlannedRun, other: PlannedRun) -> int:
    """Return the number of axes on which two runs have the same level."""
    return sum(other.levels.get(axis) == level for axis, level in run.levels.items())


def _ratio(run: PlannedRun, other: PlannedRun) -> float:
    """Return how many times the MACs of another run a run has; 1 where they are not known, and for baselines."""
    return run.macs / other.macs if run.macs and other.macs and run.stage != BASELINES else 1.0


def _rate(stage: str, finished: Sequence[Finished]) -> float:
    """Return the MACs per second of the finished runs of a stage; 0 if it trains nothing or its MACs are not known."""
    own = [each for each in finished if each.run.stage == stage and each.run.macs]
    seconds = sum(each.seconds for each in own)
    return sum(each.run.macs or 0.0 for each in own) / seconds if seconds and stage != BASELINES else 0.0
