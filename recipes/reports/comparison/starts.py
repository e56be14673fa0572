"""Further starts of a comparison (`report.starts`), such as public weights: their arms, and the best one from scratch.

An arm is given by its levels on all axes but x and the repeats. The best arm from scratch is one of the compared levels in one of
the panels, chosen by validation images alone: a test image that chose it would be counted twice, for it and against the start.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from recipes.reports.comparison.cell_values import Key
from recipes.reports.comparison.estimator import Estimator, Levels
from recipes.reports.metrics import validation_metric
from recipes.reports.results import StudyRecord
from recipes.study.choices import Choices


class Chosen(StrEnum):
    """What chose the best arm from scratch."""

    BY_TUNING = "tuning runs"
    BY_RUNS = "reported runs"
    BY_ORDER = "nothing"
    """There are no tuning runs and no validation metric: it is the first one."""


@dataclass(frozen=True)
class Starts:
    """The arms of the further starts, in the order of the study, and the arm from scratch that the first is compared with."""

    arms: tuple[Levels, ...]
    scratch: Levels
    chosen: Chosen
    metric: str
    """Metric of the validation images that chose it."""

    def scratch_panel(self, main: str) -> Levels:
        """Return the panel of the arm from scratch: its levels on all axes but the main one."""
        return {axis: level for axis, level in self.scratch.items() if axis != main}

    @property
    def pairs(self) -> Mapping[str, tuple[Levels, Levels]]:
        """Return the arms (base, other) of each claim by its name: `start`, and `continued` where there is a second start."""
        return dict(zip(("start", "continued"), zip((self.scratch, *self.arms), self.arms, strict=False), strict=False))


def find_starts(study: StudyRecord, estimator: Estimator, choices: Choices | None) -> Starts | None:
    """Return the further starts of a study, or None if it declares none."""
    spec = estimator.spec
    if not spec.starts:
        return None
    main, compared = next(iter(spec.compare.items()))
    metric = validation_metric(spec.metric) if choices is None else choices.metric
    means = _validation_means(study, metric, estimator) if choices is None else {}

    def score(arm: Levels) -> tuple[int, float]:
        if choices is not None:
            return score_of([each.metric for each in choices.choices if arm.items() <= each.levels.items()], 1)
        values = [means.get(estimator.values.key({**arm, spec.x: x})) for x in estimator.xs]
        return score_of(values, 1 if estimator.metric.higher_is_better else -1)

    arms = list(estimator.combinations(spec.x))
    from_scratch = _best([arm for arm in arms if arm[main] in compared], score)
    panels = [{axis: level for axis, level in arm.items() if axis != main} for arm in arms]
    starts = [[{**panel, main: level} for level in spec.starts] for panel in panels]
    first = _best([each[0] for each in starts if all(arm in arms for arm in each)], score)
    is_known = score(from_scratch)[1] > -math.inf
    chosen = Chosen.BY_ORDER if not is_known else Chosen.BY_RUNS if choices is None else Chosen.BY_TUNING
    return Starts(tuple({**first, main: level} for level in spec.starts), from_scratch, chosen, metric)


def score_of(values: Sequence[float | None], sign: int) -> tuple[int, float]:
    """Return the rank of an arm or panel by its values: one that lacks some comes after all others, then the mean decides."""
    known = [value for value in values if value is not None]
    return len(known) - len(values), sign * sum(known) / len(known) if known else -math.inf


def _best(arms: Sequence[Levels], score: Callable[[Levels], tuple[int, float]]) -> Levels:
    """Return the arm with the highest score, the first of equal ones."""
    return max(arms, key=score)


def _validation_means(study: StudyRecord, metric: str, estimator: Estimator) -> dict[Key, float]:
    """Return the mean of a metric over the usable runs of each cell."""
    cells, axes = study.cells, list(estimator.values.axes)
    if metric not in cells:
        return {}
    known = cells[cells["is_usable"] & cells[metric].notna()]
    return {
        tuple(map(str, key if isinstance(key, tuple) else (key,))): float(value)
        for key, value in known.groupby(axes, sort=False)[metric].mean().items()
    }
