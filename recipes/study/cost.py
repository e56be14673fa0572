"""Owns what a study will cost: steps, images, multiply-adds and device-hours of every run, before anything starts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.data.open_splits import open_splits
from common.evaluation.cost import knn_cost, linear_cost, tokens_cost
from common.training.cost import Cost
from finetune.cost import training_cost as finetuning_cost
from pretrain.cost import training_cost as pretraining_cost
from recipes.result import Result
from recipes.stages import load_config
from recipes.study.plan import PlannedRun
from recipes.study.scales import Scale


@dataclass(frozen=True)
class SetSize:
    """How much data a study has: images to train on with all labels and nothing held out, and classes."""

    train_images: int
    num_classes: int


def estimate(run: PlannedRun, size: SetSize) -> Cost:
    """Return the cost of a run on a set of this size."""
    config = load_config(run.module, Path(run.recipe), run.overrides)
    if run.module == "common.evaluation complexity":
        return Cost(steps=0, images=0, multiply_adds_per_image=0.0)
    num_held_out = round(size.train_images * config.data.validation_fraction)
    num_images = round((size.train_images - num_held_out) * config.data.fraction)
    match run.module:
        case "pretrain":
            return pretraining_cost(config, num_images=num_images)
        case "common.evaluation linear":
            return linear_cost(config, num_images=num_images)
        case "common.evaluation knn":
            return knn_cost(config, num_images=num_images, num_held_out=num_held_out)
        case "common.evaluation tokens":
            return tokens_cost(config, num_held_out=num_held_out)
        case "finetune":
            return finetuning_cost(config, num_images=num_images, num_classes=size.num_classes)
    raise AssertionError(run.module)


def set_size(run: PlannedRun, scale: Scale | None) -> SetSize:
    """Return how much data a study has: as its scale says, otherwise by opening the data of one of its runs."""
    if scale is not None and scale.train_images and scale.num_classes:
        return SetSize(scale.train_images, scale.num_classes)
    config = load_config(run.module, Path(run.recipe), run.overrides)
    if run.module == "common.evaluation complexity":
        return SetSize(0, config.num_classes)
    splits = open_splits(config.data, labelled=run.module != "pretrain")
    held_out = len(splits.validation) if splits.validation is not None and config.data.validation_fraction else 0
    return SetSize(round(len(splits.train) / getattr(config.data, "fraction", 1.0)) + held_out, len(splits.class_names))


def measured_rates(
    costs: Mapping[str, Cost], results: Mapping[str, Result], runs: Iterable[PlannedRun]
) -> dict[str, float]:
    """Return the multiply-adds per second of a process by stage, from the runs that have finished."""
    work: dict[str, Any] = {}
    for run in runs:
        result = results.get(run.id)
        if result is not None and result.verdict == "finished" and result.seconds > 0:
            done, seconds = work.get(run.stage, (0.0, 0.0))
            work[run.stage] = done + costs[run.id].multiply_adds, seconds + result.seconds * result.num_processes
    return {stage: done / seconds for stage, (done, seconds) in work.items()}
