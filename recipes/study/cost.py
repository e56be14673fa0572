"""Compute cost of a study before it runs: steps, images and MACs of every run, and the measured rate of finished runs."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.training.cost import Cost
from recipes.result import Result
from recipes.stages import cost_function, find_stage, load_config
from recipes.study.plan import PlannedRun
from recipes.study.scales import Scale


@dataclass(frozen=True)
class DatasetSize:
    """Size of a study's dataset: training images with all labels and before any hold-out, and classes."""

    train_images: int
    num_classes: int


def estimate(run: PlannedRun, size: DatasetSize) -> Cost:
    """Return the cost of a run on a dataset of this size."""
    config, function = load_config(run.module, Path(run.recipe), run.overrides), cost_function(run.module)
    sizes = {"num_classes": size.num_classes}
    if hasattr(config, "data"):
        num_held_out = round(size.train_images * config.data.validation_fraction)
        num_images = round((size.train_images - num_held_out) * config.data.fraction)
        sizes |= {"num_images": num_images, "num_held_out": num_held_out}
    parameters = inspect.signature(function).parameters
    cost: Cost = function(config, **{name: value for name, value in sizes.items() if name in parameters})
    return cost


def dataset_size(run: PlannedRun, scale: Scale | None) -> DatasetSize:
    """Return the size that the study's scale declares; without one, open the data of `run` and count."""
    if scale is not None and scale.train_images and scale.num_classes:
        return DatasetSize(scale.train_images, scale.num_classes)
    config = load_config(run.module, Path(run.recipe), run.overrides)
    if not hasattr(config, "data"):
        return DatasetSize(0, config.num_classes)
    from common.data.open_splits import open_splits

    splits = open_splits(config.data, labeled=find_stage(run.module).labeled)
    held_out = len(splits.validation) if splits.validation is not None and config.data.validation_fraction else 0
    return DatasetSize(round(len(splits.train) / config.data.fraction) + held_out, len(splits.class_names))


def measured_macs_per_second(
    costs: Mapping[str, Cost], results: Mapping[str, Result], runs: Iterable[PlannedRun]
) -> dict[str, float]:
    """Return the measured MACs per second and process of each stage, over its finished runs."""
    totals: dict[str, tuple[float, float]] = {}
    for run in runs:
        result = results.get(run.id)
        if result is not None and result.status == "finished" and result.seconds > 0:
            macs, seconds = totals.get(run.stage, (0.0, 0.0))
            totals[run.stage] = macs + costs[run.id].macs, seconds + result.seconds * result.num_processes
    return {stage: macs / seconds for stage, (macs, seconds) in totals.items()}
