"""Synthetic comparisons: run folders with known accuracies, and predictions for test images of known difficulty."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from table_studies import RunSpec, plan_of, write_run

from common.evaluation.predictions import Predictions, write_predictions
from recipes.reports.comparison.claims import Outcome
from recipes.reports.comparison.decision import STRICT
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.results import StudyRecord, read_runs
from recipes.reports.statistics import Interval, Variance
from recipes.study.specification import Study
from recipes.study.study_file import build_study

LABELS = 1000
"""Labeled training images at fraction 1."""
TITLES = {
    "training": "pre-training",
    "stem": "the stem",
    "OST": "one-stage training (OST)",
    "TST": "two-stage training (TST)",
    "patchify": "patchify stem",
    "conv": "conv stem",
}
SCATTER = {"0": -0.3, "1": 0.1, "2": 0.2, "3": 0.0}
"""Deviation of a seed from the mean of three, in points."""
Values = Callable[[Mapping[str, str]], float | RunSpec]
"""Levels of a run of the last stage -> its metric, or its contents."""


def comparison_study(
    *,
    fractions: Sequence[float] = (0.1, 0.25, 1.0),
    stems: Sequence[str] = ("patchify", "conv"),
    num_seeds: int = 3,
    shared: bool = False,
    axes: Mapping[str, Any] = {},
    **report: Any,
) -> Study:
    """Return the study of `comparison_mapping`."""
    mapping = comparison_mapping(
        fractions=fractions, stems=stems, num_seeds=num_seeds, shared=shared, axes=axes, **report
    )
    return build_study(mapping, "known.yaml")


def comparison_mapping(
    *,
    fractions: Sequence[float] = (0.1, 0.25, 1.0),
    stems: Sequence[str] = ("patchify", "conv"),
    num_seeds: int = 3,
    shared: bool = False,
    axes: Mapping[str, Any] = {},
    **report: Any,
) -> dict[str, Any]:
    """Return the file of a study of OST and TST; `shared`: all seeds of a two-stage arm start from one pre-training."""
    keys = ["finetune.train.seed"] if shared else ["train.seed", "finetune.data.subset_seed"]
    return {
        "name": "known",
        "question": "Is pre-training worth it?",
        "stages": {"pretrain": {"recipe": "pretrain.yaml"}, "finetune": {"recipe": "finetune.yaml"}},
        "axes": {
            "stem": {"levels": {stem: {"model.stem": stem} for stem in stems}},
            "training": {"levels": {"OST": {}, "TST": {"starts_from": {"finetune": "pretrain"}}}},
            **axes,
            "fraction": {"key": "finetune.data.fraction", "values": list(fractions)},
            "seed": {"key": keys, "values": list(range(num_seeds))},
        },
        "report": {
            "metric": "test_top1",
            "metric_name": "top-1 accuracy",
            "x": "fraction",
            "x_name": "fraction of the labels",
            "repeats": "seed",
            "compare": {"training": ["OST", "TST"], "stem": ["patchify", "conv"]},
            "titles": TITLES,
            **report,
        },
    }


def interval_of(size: float, outcome: Outcome) -> Interval:
    """Return an estimate with the given outcome; `size` is that of a significant difference."""
    spread = Variance(0.04, 0.0, 0.0)
    if outcome in STRICT:
        mean = size if outcome is Outcome.BETTER else -size
        return Interval(mean, mean - 0.6, mean + 0.6, 3, 0.2, 4.0, 0, spread)
    if outcome in (Outcome.MISSING, Outcome.ALL_DIVERGED):
        return Interval(math.nan, math.nan, math.nan, 0)
    if outcome is Outcome.EQUIVALENT:
        return Interval(0.15, -0.41, 0.71, 3, 0.2, 4.0, 0, spread)
    count = 2 if outcome is Outcome.FEW_SEEDS else 3
    return Interval(0.55, -1.67, 2.77, count, 0.8, 4.0, 0, Variance(0.64, 0.0, 0.0))


def write_comparison(
    study: Study,
    folder: Path,
    values: Values,
    *,
    images: int = 0,
    pretraining: Callable[[Mapping[str, str]], RunSpec] = lambda levels: {"value": 88.0},
) -> StudyRecord:
    """Write every run of a study; with predictions for so many test images. Return the record that a report reads."""
    plan = plan_of(study)
    for run in plan.runs:
        place = folder / "runs" / run.id
        if run.stage != study.stages[-1].name:
            write_run(place, {"curve": False, **pretraining(run.levels)}, run.stage)
            continue
        found = values(run.levels)
        spec = found if isinstance(found, Mapping) else {"value": found}
        spec = {"curve": False, "train_images": round(LABELS * float(run.levels["fraction"])), **spec}
        write_run(place, spec, run.stage)
        if images and "value" in spec:
            number = list(plan.runs).index(run)
            write_predictions(place / "predictions.parquet", predictions(spec["value"], images, seed=number))
    return read_runs(plan, folder)


def predictions(accuracy: float, images: int, *, seed: int = 0, first: int = 0) -> Predictions:
    """Return predictions for two classes with an accuracy in percent; the same images are difficult in all runs."""
    difficulty = np.random.default_rng(7).standard_normal(images)
    perceived = difficulty + 0.5 * np.random.default_rng(seed).standard_normal(images)
    is_correct = np.argsort(np.argsort(perceived)) < round(accuracy * images / 100)
    target = np.arange(images, dtype=np.int32) % 2
    return Predictions(
        images=tuple(f"{first + number:05d}.png" for number in range(images)),
        target=target,
        prediction=np.where(is_correct, target, 1 - target).astype(np.int32),
        metrics={"top1": "top1"},
        split="test",
        fingerprint="known",
        class_names=("a", "b"),
    )


def page_of(record: StudyRecord) -> ComparisonPage:
    """Return the page content of a comparison."""
    return ComparisonPage(record)
