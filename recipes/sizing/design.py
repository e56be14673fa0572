"""Design of a sized study: shares of the labels, seeds, whether lengths are chosen, and how its compute divides among its runs."""

import itertools
from dataclasses import dataclass

from recipes.sizing.facts import ImageFacts

SEEDS = (0, 1, 2)
"""Reported seeds: fewer than three decide nothing (docs/statistics.md)."""
FIRST_TUNING_SEED = 100
LENGTHS = (0.25, 0.5, 1.0)
DOUBLED = 2.0
"""Upper bound of the length of the run that says whether an arm has converged, in budgets."""
SHARES = (0.1, 0.25, 0.5)
"""Candidates of the smaller share of the labels."""
LEAST_LABELS = 5
"""Labels of a class that the smaller share has at least, in the median class."""
PRETRAINING_PART = 0.5
"""Part of an arm's compute that its pre-training gets; fine-tuning gets the rest."""
STEMS = 2
"""Stems that are trained from scratch."""


@dataclass(frozen=True)
class Design:
    """Shares of the labels, and whether lengths are chosen before."""

    shares: tuple[float, ...]
    tuned: bool
    seeds: tuple[int, ...] = SEEDS

    @property
    def tuning_seed(self) -> int:
        """Return the seed on which lengths are chosen: the first from 100 on that is not reported."""
        return next(seed for seed in itertools.count(FIRST_TUNING_SEED) if seed not in self.seeds)

    def budgets(self, *, pretrained: bool) -> float:
        """Return what an arm costs in the whole study, in budgets of a run with all of its stages.

        A pre-training serves the fine-tunings of all shares. Tuning runs each length, and twice the chosen one, on one seed.
        """
        shares = len(self.shares)
        tuned = (sum(LENGTHS) + DOUBLED) * shares if self.tuned else 0.0
        before = PRETRAINING_PART if pretrained else 0.0
        seeds = len(self.seeds) + self.tuned
        return before * seeds + (1 - before) * (len(self.seeds) * shares + tuned)

    def runs(self, *, pretrained: bool) -> float:
        """Return the number of runs of an arm, with the two baselines of each of its fine-tunings."""
        shares, seeds = len(self.shares), len(self.seeds)
        tuned = (len(LENGTHS) + 1) * shares if self.tuned else 0
        return (seeds + self.tuned if pretrained else 0) + 3 * seeds * shares + tuned


def smallest_share(facts: ImageFacts) -> float | None:
    """Return the smallest share that leaves the median class enough labels, or None if only all labels are enough."""
    return next((share for share in SHARES if share * facts.labels_per_class >= LEAST_LABELS), None)


def designs(facts: ImageFacts, seeds: tuple[int, ...] = SEEDS, *, may_tune: bool = True) -> list[Design]:
    """Return the designs, the most informative first: two shares and chosen lengths, two shares, all labels alone."""
    share = smallest_share(facts)
    shares = (1.0,) if share is None else (share, 1.0)
    found = [Design(shares, True, seeds), Design(shares, False, seeds), Design((1.0,), False, seeds)]
    return list(dict.fromkeys(design for design in found if may_tune or not design.tuned))
