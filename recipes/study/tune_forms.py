"""Section `tune` of a study file: the candidates among which the length and other keys of the last stage are chosen.

tune:
  seeds: [100]                  # repeats that are not reported
  lengths: [0.25, 0.5, 1.0]     # parts of the epochs that the arm's budget allows
  values: {finetune.optim.lr: [1.0e-3, 2.0e-3]}
  metric: validation_subset_top1
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from common.config_messages import Otherwise, Problem
from common.config_types import Seed
from recipes.study.axis_forms import AxisEntry, ValuesAxis
from recipes.study.key_types import KeyTypes
from recipes.study.metric_names import LOWER_IS_BETTER, last_word
from recipes.study.report_forms import MetricName
from recipes.study.scale_rules import format_level, repeated_names
from recipes.study.sections import FileSection
from recipes.study.specification import Axis, Study, Tune

CANDIDATE = "candidate"
"""Axis of the candidates in the plan of the tuning runs."""
VALIDATION = "validation_"
_Length = Annotated[
    float, Field(gt=0, le=1), Otherwise("must lie in (0, 1]: it is a part of the epochs that the budget allows.")
]
_Candidates = Annotated[tuple[Any, ...], Field(min_length=1), Otherwise("is empty: give at least one value.")]


class TuneEntry(FileSection):
    """Candidates, and how they are compared. Each arm has the same candidates at every combination of the other levels."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), Otherwise("is empty: give a seed that is not reported.")]
    """Seeds of the runs that are compared, which the report must not use."""
    lengths: Annotated[tuple[_Length, ...], Field(min_length=1)] = (0.25, 0.5, 1.0)
    """Candidates of the length: parts of the epochs of the last stage that the arm's budget allows."""
    values: dict[str, _Candidates] = {}
    """Candidates of keys of the last stage, with its name as prefix."""
    metric: MetricName = "validation_subset_top1"
    """Metric that decides, of the validation images, averaged over the seeds; more is better. The default is the accuracy on the
    validation images whose labels belong to the share of the labels."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem if the metric must not decide."""
        if not self.metric.startswith(VALIDATION):
            yield (
                "metric",
                f"{self.metric}: must be a metric of the validation images ({VALIDATION}...). Test images must decide nothing: "
                "they would no longer measure the accuracy on new images.",
            )
        elif last_word(self.metric) in LOWER_IS_BETTER:
            yield "metric", f"{self.metric}: must be a metric of which more is better, such as validation_subset_top1."


def build_tune(entry: TuneEntry, study: Study, forms: Mapping[str, AxisEntry], problems: list[str]) -> Tune:
    """Return the section `tune` of a study, validated against its stages and axes."""
    last, repeats = study.stages[-1], study.report.repeats
    types = KeyTypes({stage.name: stage.module for stage in study.stages})
    axis = next((axis for axis in study.axes if axis.name == repeats), Axis(repeats, {}))
    if CANDIDATE in forms:
        problems.append(
            f"axes.{CANDIDATE}: is the name of the axis of tune's candidates. Choose another name for the axis."
        )
    if not isinstance(forms.get(repeats), ValuesAxis):
        problems.append(f"tune.seeds: axes.{repeats} has no list of values that these seeds could replace.")
    problems += [f"tune.seeds: {problem}" for problem in repeated_names(entry.seeds)]
    problems += [f"tune.lengths: {problem}" for problem in repeated_names(entry.lengths)]
    for seed in entry.seeds:
        if format_level(seed) in axis.levels:
            known = ", ".join(axis.levels)
            problems.append(f"tune.seeds = {seed}: is reported ({repeats} = {known}). Choose a seed that is not.")
    values = {}
    for key, candidates in entry.values.items():
        own = key.removeprefix(f"{last.name}.")
        if own == key or own == "train.epochs":
            remedy = "lengths has the candidates of the epochs" if own != key else f"write {last.name}.{key}"
            problems.append(f"tune.values.{key}: must be a key of the last stage with its name as prefix; {remedy}.")
        if own in study.keys_of(last, last.overrides):
            problems.append(f"{key}: tune.values has candidates for it. Remove the override, or the candidates.")
        values[own] = tuple(types.read(key, value) for value in candidates)
        problems += [f"tune.values.{key}: {problem}" for problem in repeated_names(values[own])]
    return Tune(entry.seeds, entry.lengths, values, entry.metric)


def value_combinations(tune: Tune) -> list[dict[str, Any]]:
    """Return every combination of the values of the keys, in their order in the study."""
    return [dict(zip(tune.values, values, strict=True)) for values in itertools.product(*tune.values.values())]
