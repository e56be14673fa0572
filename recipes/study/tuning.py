"""Tuning: the length of each arm's last stage, and other keys of it, chosen by the same small budget on validation images.

For every arm and combination of the other levels the candidates are the product of `tune.lengths` and `tune.values`, the same
number for each arm, run on seeds that are not reported. The highest mean of `tune.metric` wins; equal means go to the shorter
length, then to the earlier value. A candidate with a diverged run loses.

An arm has converged if twice the chosen epochs, on a schedule of their own, gain less than one point of validation accuracy. Only
the last stage is doubled; the pre-training that it starts from stays.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from common.errors import UserError, did_you_mean
from recipes.result import DIVERGED, Result
from recipes.study.choices import Candidate, Choice, Choices
from recipes.study.lengths import EPOCHS, RunLength
from recipes.study.matching import MeasureRun, match_arms
from recipes.study.plan import DIGEST_DIGITS, Cell, Plan, Resolver, make_plan
from recipes.study.scale_rules import format_level
from recipes.study.specification import Axis, Study, Tune
from recipes.study.tune_forms import CANDIDATE, value_combinations

CONVERGENCE_METRIC = "validation_top1"
CONVERGENCE_POINTS = 1.0
"""Gain of twice the epochs, in points, from which on an arm has not converged."""

ReadResult = Callable[[str], Result | None]
"""Id of a run -> its result, or None if it could not start because the run before it diverged."""
Point = tuple[float, tuple[tuple[str, Any], ...]]
"""A candidate: its length, and its values by key."""


@dataclass(frozen=True)
class Tuning:
    """Tuning runs of a study: their plan, whose last axis is that of the candidates, and the arms whose lengths they vary."""

    tune: Tune
    study: Study
    """Study of the tuning seeds with matched arms, without candidates."""
    arms: Mapping[tuple[str, ...], RunLength]
    """Length that the budget allows, by the levels of every axis but the repeats."""
    points: tuple[Point, ...]
    """Candidates, in the order in which equal ones are preferred."""
    plan: Plan

    @property
    def digest(self) -> str:
        """Return the hash of everything that the choices depend on."""
        cells = [cell for cell in self.plan.cells if cell.levels[CANDIDATE] in set(map(level_of, self.points))]
        content = {
            "runs": sorted({name[-DIGEST_DIGITS:] for cell in cells for name in cell.runs.values()}),
            "lengths": self.tune.lengths,
            "values": {key: list(values) for key, values in self.tune.values.items()},
            "metric": self.tune.metric,
            "seeds": self.tune.seeds,
            "match": self.study.match,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def digest_of(self, arm: tuple[str, ...]) -> str:
        """Return the hash of the runs of an arm's candidates; like that of a run, it does not depend on the names of levels."""
        runs = sorted({name[-DIGEST_DIGITS:] for point in self.points for name in self.runs(arm, point)})
        return hashlib.sha256(" ".join(runs).encode()).hexdigest()[:DIGEST_DIGITS]

    def epochs(self, arm: tuple[str, ...], length: float) -> int:
        """Return the epochs of a length; one that is no candidate is twice one that is."""
        allowed = self.arms[arm].epochs
        assert allowed is not None
        if length in self.tune.lengths:
            return max(1, round(allowed * length))
        return 2 * self.epochs(arm, length / 2)

    def levels(self, arm: tuple[str, ...]) -> dict[str, str]:
        """Return the levels of an arm by axis, without the repeats."""
        return dict(zip(_other_axes(self.study), arm, strict=True))

    def settings(self, arm: tuple[str, ...], point: Point) -> dict[str, Any]:
        """Return the keys of the last stage that a candidate sets, on top of those of its arm's budget."""
        length, values = point
        epochs = self.epochs(arm, length)
        seed = format_level(self.tune.seeds[0])
        levels = _with_repeat(self.study, self.levels(arm), seed)
        budgeted = self.study.adjusted.get(self.study.cell_key(levels), {}).get(self.study.stages[-1].name, {})
        return {**budgeted, EPOCHS: epochs, **self.arms[arm].settings(epochs), **dict(values)}

    def runs(self, arm: tuple[str, ...], point: Point) -> list[str]:
        """Return the ids of the runs of a candidate's last stage, one for each seed."""
        levels = {**self.levels(arm), CANDIDATE: level_of(point)}
        last = self.study.stages[-1].name
        return [cell.runs[last] for cell in self.plan.cells if levels.items() <= cell.levels.items()]


def level_of(point: Point) -> str:
    """Return a candidate as the name of a level."""
    length, values = point
    return "-".join([f"{length:g}", *(format_level(value) for _, value in values)])


def plan_tuning(study: Study, resolve: Resolver, measure: MeasureRun) -> Tuning:
    """Return the tuning runs of a study as it is written; raise UserError if it is invalid."""
    tune = study.tune
    assert tune is not None
    axes = tuple(_tuning_seeds(axis, tune) if axis.name == study.report.repeats else axis for axis in study.axes)
    base = match_arms(make_plan(replace(study, axes=axes), resolve), measure)
    plan = make_plan(base, resolve)
    by_id, last = {run.id: run for run in plan.runs}, study.stages[-1].name
    arms = {_arm(base, cell): measure(by_id[cell.runs[last]]) for cell in plan.cells}
    if any(length.epochs is None for length in arms.values()):
        raise UserError(f"tune: the stage {last} has no train.epochs, so it has no lengths. Remove the section tune.")
    points = tuple(
        (length, tuple(values.items())) for length in sorted(tune.lengths) for values in value_combinations(tune)
    )
    tuning = Tuning(tune, base, arms, points, plan)
    return _with_candidates(tuning, {arm: list(points) for arm in arms}, resolve)


def with_doubled(tuning: Tuning, chosen: Mapping[tuple[str, ...], Point], resolve: Resolver) -> Tuning:
    """Return the tuning runs with those of twice the chosen epochs; where a candidate has twice the length, it is that run."""
    wanted = {arm: [*tuning.points, *([doubled(chosen[arm])] if arm in chosen else [])] for arm in tuning.arms}
    return _with_candidates(tuning, wanted, resolve)


def doubled(point: Point) -> Point:
    """Return a candidate with twice the length."""
    return 2 * point[0], point[1]


def choose(tuning: Tuning, read: ReadResult) -> dict[tuple[str, ...], dict[Point, float | None]]:
    """Return the mean metric of every candidate by arm; None if one of its runs diverged."""
    means = {}
    for arm in tuning.arms:
        means[arm] = {point: _mean(tuning, arm, point, tuning.tune.metric, read) for point in tuning.points}
    return means


def best(means: Mapping[Point, float | None]) -> Point | None:
    """Return the candidate with the highest mean, the first of equal ones, or None if all diverged."""
    known = {point: mean for point, mean in means.items() if mean is not None}
    return max(known, key=lambda point: known[point]) if known else None


def make_choices(tuning: Tuning, read: ReadResult, command: str) -> Choices:
    """Return the choices, once the candidates and the runs of twice the chosen epochs (`with_doubled`) are done."""
    last, choices = tuning.study.stages[-1].name, []
    for arm, means in choose(tuning, read).items():
        point = best(means)
        settings = tuning.settings(arm, point or (max(tuning.tune.lengths), ()))
        gain = None if point is None else _gain(tuning, arm, point, read)
        choices.append(
            Choice(
                levels=tuning.levels(arm),
                settings={f"{last}.{key}": value for key, value in settings.items()},
                length=max(tuning.tune.lengths) if point is None else point[0],
                metric=None if point is None else means[point],
                candidates=tuple(
                    Candidate(
                        length=other[0],
                        values={f"{last}.{key}": value for key, value in other[1]},
                        epochs=tuning.epochs(arm, other[0]),
                        metric=mean,
                    )
                    for other, mean in means.items()
                ),
                gain=gain,
                converged=None if gain is None else gain < CONVERGENCE_POINTS,
                runs=tuning.digest_of(arm),
            )
        )
    return Choices(
        command=command,
        digest=tuning.digest,
        match=tuning.study.match,
        metric=tuning.tune.metric,
        seeds=tuning.tune.seeds,
        choices=tuple(choices),
    )


def _gain(tuning: Tuning, arm: tuple[str, ...], point: Point, read: ReadResult) -> float | None:
    """Return what twice the epochs of a candidate gain, in points, or None if that is not known."""
    try:
        before, after = (_mean(tuning, arm, each, CONVERGENCE_METRIC, read) for each in (point, doubled(point)))
    except UserError:  # the stage has no such metric
        return None
    return None if before is None or after is None else after - before


def _mean(tuning: Tuning, arm: tuple[str, ...], point: Point, metric: str, read: ReadResult) -> float | None:
    """Return the mean of a metric over the seeds, or None if a run diverged; raise UserError if there is no such metric."""
    values = []
    for name in tuning.runs(arm, point):
        result = read(name)
        if result is None or result.status == DIVERGED:
            return None
        if metric not in result.metrics:
            known = sorted(key for key in result.metrics if key.startswith("validation_"))
            raise UserError(
                f"tune.metric = {metric}: the run {name} has no such metric.{did_you_mean(metric, known)} It has"
                f" {', '.join(known) or 'no metric of validation images'}."
            )
        values.append(result.metrics[metric])
    return fmean(values)


def _with_candidates(tuning: Tuning, wanted: Mapping[tuple[str, ...], Iterable[Point]], resolve: Resolver) -> Tuning:
    """Return the tuning with the plan of the wanted candidates of each arm."""
    study, last = tuning.study, tuning.study.stages[-1].name
    levels: dict[str, dict[str, Any]] = {level_of(point): {} for points in wanted.values() for point in points}
    study = replace(study, axes=(*study.axes, Axis(CANDIDATE, levels, stages=(last,))))
    adjusted, cells = {}, []
    for arm, points in wanted.items():
        for point in points:
            settings = tuning.settings(arm, point)
            for seed in tuning.tune.seeds:
                cell = tuning.levels(arm) | {CANDIDATE: level_of(point)}
                cells.append(_with_repeat(study, cell, format_level(seed)))
                adjusted[study.cell_key(cells[-1])] = {last: settings}
    return replace(tuning, plan=make_plan(replace(study, adjusted=adjusted), resolve, cells))


def _tuning_seeds(axis: Axis, tune: Tune) -> Axis:
    """Return the axis of the repeats with the tuning seeds as its levels."""
    keys = list(next(iter(axis.levels.values())))
    levels = {format_level(seed): dict.fromkeys(keys, seed) for seed in tune.seeds}
    return Axis(axis.name, levels, {level: {axis.name: seed} for level, seed in zip(levels, tune.seeds, strict=True)})


def _other_axes(study: Study) -> list[str]:
    """Return the names of every axis but the repeats."""
    return [axis.name for axis in study.axes if axis.name != study.report.repeats]


def _arm(study: Study, cell: Cell) -> tuple[str, ...]:
    """Return the levels of a cell on every axis but the repeats."""
    return tuple(cell.levels[name] for name in _other_axes(study))


def _with_repeat(study: Study, levels: Mapping[str, str], seed: str) -> dict[str, str]:
    """Return levels with that of the repeats, in the order of the axes."""
    whole = {**levels, study.report.repeats: seed}
    return {axis.name: whole[axis.name] for axis in study.axes}
