"""The declared primary claims of a comparison: their estimates, Holm-adjusted p-values, outcomes, and what would settle them.

1. The effect of the main axis (pre-training) in the panel (the stem) that the validation images of the tuning seeds prefer.
2. The labels that it saves there at `report.saving_at`: the effect at that amount. Not declared if there is one amount only.
3. The second axis alone instead of the main axis alone: conv stem with one stage against patchify stem with two.
4. With `report.starts`: the first of them, such as public weights, instead of the best arm from scratch (`starts`).
5. The second of them, such as pre-training continued from these weights, instead of the first.

Everything else in a report is exploratory.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from recipes.reports.arm_costs import MACS, CellCosts, cost_of
from recipes.reports.comparison.estimator import Estimator, Levels
from recipes.reports.comparison.starts import Starts, score_of
from recipes.reports.metrics import Metric
from recipes.reports.next_steps import MOST_IMAGES as MOST_IMAGES
from recipes.reports.next_steps import MOST_SEEDS as MOST_SEEDS
from recipes.reports.next_steps import NextStep as NextStep
from recipes.reports.next_steps import settling_step
from recipes.reports.statistics import MIN_SEEDS, SIGNIFICANCE, Interval, holm
from recipes.study.choices import Choices

MOST_UNEQUAL = 1.1
"""Ratio of the compute of two arms up to which they count as equal: lengths are whole epochs."""


class Outcome(StrEnum):
    """What the runs say about a claim."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"
    DEPENDS_ON_DIVERGED = "depends on diverged runs"
    ALL_DIVERGED = "all runs diverged"
    FEW_SEEDS = "too few seeds"
    INCOMPLETE = "incomplete"
    MISSING = "not measured"


@dataclass(frozen=True)
class Claim:
    """A declared claim: an estimate of better (positive) or worse, averaged over `x` in the panel `levels`."""

    name: str
    """effect, saving, alternative, start or continued."""
    levels: Levels
    """Panel of the claim; empty for one that compares arms of different panels, or starts."""
    cells: tuple[Levels, ...]
    """Cells whose values the claim compares."""
    interval: Interval
    """In the metric's unit, other - base."""
    p_value: float
    """Adjusted for all declared claims (Holm)."""
    with_chance: float | None
    """The estimate with diverged runs counted as uninformative predictions; None if no run diverged, or their value is unknown. It
    has no interval: of a few seeds, some of which diverge, the mean is far from normal."""
    outcome: Outcome
    spending: float | None = None
    """Planned MACs of a run of the other side, in all of its stages, divided by those of the base side; None if unknown."""

    @property
    def crosses_budgets(self) -> bool:
        """Return whether its sides, arms of different panels, spend different compute: budgets are those of each panel."""
        return not self.levels and self.spending is not None and not is_equal_spending(self.spending)


def relative_macs(costs: CellCosts, weights: Sequence[tuple[float, Levels]]) -> float | None:
    """Return the mean planned MACs of the cells of positive weight divided by that of the others; None if some are unknown."""
    macs = [(weight > 0, cost_of(costs, cell, MACS) or math.nan) for weight, cell in weights]
    other, base = (np.mean([value for is_other, value in macs if is_other == wanted]) for wanted in (True, False))
    return None if math.isnan(other / base) else float(other / base)


def is_equal_spending(ratio: float) -> bool:
    """Return whether two arms count as of equal compute: within a tenth."""
    return 1 / MOST_UNEQUAL <= ratio <= MOST_UNEQUAL


def find_claims(
    estimator: Estimator,
    with_chance: Estimator,
    panel: Levels,
    saving_x: str,
    starts: Starts | None = None,
    costs: CellCosts | None = None,
) -> tuple[Claim, ...]:
    """Return the declared claims of a study, the first two in `panel`.

    `with_chance` counts diverged runs as chance level; `costs` are those of the cells, if it matters what the sides spend.
    """
    declared = dict(_weights(estimator, panel, saving_x, starts))
    intervals = {name: estimator.sum(weights) for name, weights in declared.items()}
    p_values = holm({name: found.p_value for name, found in intervals.items()})
    return tuple(
        _claim(
            (estimator, with_chance),
            name,
            weights,
            intervals[name],
            p_values[name],
            levels=panel if name in ("effect", "saving") else {},
            spending=relative_macs(costs or {}, weights),
        )
        for name, weights in declared.items()
    )


def explore_savings(
    estimator: Estimator, with_chance: Estimator, panels: Sequence[Levels], saving_x: str
) -> tuple[Claim, ...]:
    """Return what the second claim would be in each of these panels, in which it is not declared: its p-value is not adjusted."""
    claims = []
    for panel in panels:
        weights = dict(_weights(estimator, panel, saving_x, None)).get("saving")
        if weights is not None:
            found = estimator.sum(weights)
            claims.append(_claim((estimator, with_chance), "saving", weights, found, found.p_value, levels=panel))
    return tuple(claims)


def _claim(
    estimators: tuple[Estimator, Estimator],
    name: str,
    weights: Sequence[tuple[float, Levels]],
    interval: Interval,
    p_value: float,
    *,
    levels: Levels,
    spending: float | None = None,
) -> Claim:
    """Return a claim with its outcome; the second estimator counts diverged runs as chance level."""
    estimator, with_chance = estimators
    cells = tuple(cell for _, cell in weights)
    any_diverged = any(estimator.values.diverged.get(estimator.values.key(cell)) for cell in cells)
    chance = with_chance.sum(weights).mean if any_diverged and estimator.values.chance is not None else None
    outcome = _missing(estimator, cells, interval)
    if outcome is None:
        outcome = _outcome(estimator.metric, interval, p_value)
        outcome = _with_diverged(outcome, interval, chance, estimator.metric) if any_diverged else outcome
    return Claim(name, levels, cells, interval, p_value, chance, outcome, spending)


def preferred_panel(choices: Choices | None, estimator: Estimator) -> Levels:
    """Return the panel with the best mean validation metric of the tuned runs, over all x and arms; untuned: the first one.

    Arms that some panel lacks (`without`) and further starts do not count. More of the choices' metric is better, whatever the
    report's is. A panel with an arm that has none, because its tuning runs diverged, comes after all others.
    """
    main = next(iter(estimator.spec.compare))
    panels = list(estimator.combinations(main, estimator.spec.x))
    if choices is None:
        return panels[0]
    arms = list(estimator.combinations(estimator.spec.x))
    everywhere = {name for name in estimator.axes[main] if all({**panel, main: name} in arms for panel in panels)}
    counted = everywhere.difference(estimator.spec.starts)

    def score(panel: Levels) -> tuple[int, float]:
        own = [each for each in choices.choices if panel.items() <= each.levels.items()]
        return score_of([each.metric for each in own if each.levels[main] in counted], 1)

    return max(panels, key=score)


def next_step(claim: Claim, margin: float | None, *, claims: int = 1) -> NextStep | None:
    """Return what would settle an inconclusive claim, one of so many declared `claims` (`settling_step`), otherwise None."""
    return settling_step(claim.interval, margin, claims=claims) if claim.outcome is Outcome.INCONCLUSIVE else None


def _weights(
    estimator: Estimator, panel: Levels, saving_x: str, starts: Starts | None
) -> Iterator[tuple[str, Sequence[tuple[float, Levels]]]]:
    """Yield the name of each declared claim and its weights of cells."""
    (main, (base, other)), *rest = estimator.spec.compare.items()
    x, xs = estimator.spec.x, estimator.xs
    signs = ((-1.0, base), (1.0, other))
    yield "effect", [(sign / len(xs), {**panel, main: name, x: level}) for level in xs for sign, name in signs]
    if len(xs) > 1 and estimator.spec.counts_labels:  # with one amount it is the first claim once more
        yield "saving", [(sign, {**panel, main: name, x: saving_x}) for sign, name in signs]
    if rest:
        second, (base2, other2) = rest[0]
        settings = list(estimator.combinations(main, second))
        ends: tuple[tuple[float, Mapping[str, str]], ...] = (
            (-1.0, {second: base2, main: other}),
            (1.0, {second: other2, main: base}),
        )
        yield "alternative", [(sign / len(settings), {**each, **levels}) for each in settings for sign, levels in ends]
    for name, pair in starts.pairs.items() if starts is not None else ():
        arms = zip((-1.0, 1.0), pair, strict=True)
        yield name, [(sign / len(xs), {**arm, x: level}) for sign, arm in arms for level in xs]


def _missing(estimator: Estimator, cells: Sequence[Levels], found: Interval) -> Outcome | None:
    """Return the outcome of a claim over cells of which one lacks results, otherwise None."""
    values = estimator.values
    for levels in cells:
        key, cell = values.key(levels), values.cell(levels)
        done = len(cell.seeds if cell else ()) + len(values.diverged.get(key, ()))
        if done < len(values.planned.get(key, ())):
            return Outcome.MISSING if math.isnan(found.mean) else Outcome.INCOMPLETE
    return Outcome.ALL_DIVERGED if math.isnan(found.mean) else None


def _outcome(metric: Metric, found: Interval, p_value: float) -> Outcome:
    """Return the outcome of a claim from its estimate."""
    if found.count < MIN_SEEDS:
        return Outcome.FEW_SEEDS
    if metric.margin is not None and found.is_equivalent(metric.margin):
        return Outcome.EQUIVALENT
    if p_value < SIGNIFICANCE:
        return Outcome.BETTER if (found.mean > 0) == metric.higher_is_better else Outcome.WORSE
    return Outcome.INCONCLUSIVE


def _with_diverged(outcome: Outcome, found: Interval, chance: float | None, metric: Metric) -> Outcome:
    """Return the outcome of a claim of which some runs diverged: it stands if they change nothing when counted as chance."""
    if outcome is Outcome.INCONCLUSIVE or (outcome is Outcome.FEW_SEEDS and chance is None):
        return outcome
    agrees = chance is not None and chance * found.mean > 0
    if outcome is Outcome.EQUIVALENT:
        agrees = chance is not None and abs(chance) < (metric.margin or 0.0)
    return outcome if agrees else Outcome.DEPENDS_ON_DIVERGED
