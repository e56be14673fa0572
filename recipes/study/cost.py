"""Compute cost of a study before it runs: steps, images and MACs of every run, and the measured rate of finished runs."""

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

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
    class_counts: tuple[int, ...] | None = None
    """Training images of each class after the hold-outs, if they were counted; None: `data.validation_fraction` is held out."""
    num_unlabeled: int = 0
    """Training images without a label, which are in every label subset; not in `train_images`."""

    def images_of(self, data: Any) -> int:
        """Return the number of training images of a recipe's section `data`."""
        if self.class_counts is not None:
            return _subset_size(self.class_counts, data.fraction, data.images_per_class) + self.num_unlabeled
        pool = self.train_images - round(self.train_images * data.validation_fraction)
        count: int = round(pool * data.fraction)
        return count if data.images_per_class is None else int(data.images_per_class) * self.num_classes


@lru_cache(maxsize=256)
def _subset_size(class_counts: tuple[int, ...], fraction: float, images_per_class: int | None) -> int:
    """Return the number of images that a stratified subset takes from classes of these sizes."""
    import numpy as np

    from common.data.splits.subset import draw_subset

    labels = np.repeat(np.arange(len(class_counts)), class_counts)
    part = None if images_per_class is not None else fraction
    return len(draw_subset(labels, fraction=part, images_per_class=images_per_class, seed=0))


def estimate(run: PlannedRun, size: DatasetSize) -> Cost:
    """Return the cost of a run on a dataset of this size."""
    config, function = planned_config(run), cost_function(run.module)
    sizes = {"num_classes": size.num_classes}
    if hasattr(config, "data"):
        num_held_out = round(size.train_images * config.data.validation_fraction)
        sizes |= {"num_images": size.images_of(config.data), "num_held_out": num_held_out}
    parameters = inspect.signature(function).parameters
    cost: Cost = function(config, **{name: value for name, value in sizes.items() if name in parameters})
    return cost


def planned_config(run: PlannedRun) -> Any:
    """Return the config of a run with its network; `model.name=init` is that of its weights, or of the run it starts from."""
    from common.models.init_network import follow_init
    from common.models.networks import OF_INIT

    config = load_config(run.module, Path(run.recipe), run.overrides)
    if run.start is not None and getattr(getattr(config, "model", None), "name", None) == OF_INIT:
        return config.model_copy(update={"model": planned_config(run.start).model})
    return follow_init(config, fetch=False)


class RunCosts:
    """Costs of runs, on the dataset that the study's scale declares; without one, each run's data are opened once and counted."""

    def __init__(self, scale: Scale | None) -> None:
        self.scale = scale
        self._sizes: dict[Any, DatasetSize] = {}

    def size(self, run: PlannedRun) -> DatasetSize:
        """Return the size of a run's dataset; raise UserError if its data cannot be opened."""
        if self.scale is not None and (declared := self.scale.dataset(Path(run.recipe))) is not None:
            return DatasetSize(*declared)
        config = load_config(run.module, Path(run.recipe), run.overrides)
        if not hasattr(config, "data"):
            return DatasetSize(0, config.num_classes)
        whole = {"fraction": 1.0, "images_per_class": None, "subset_seed": 0, "image_size": 32, "workers": 0}
        unread = {"verify": "none", "on_corrupt": "stop", "duplicates": "ignore"}
        data = config.data.model_copy(update={**whole, **unread})
        key = data, find_stage(run.module).labeled
        if key not in self._sizes:
            self._sizes[key] = _count(*key)
        return self._sizes[key]

    def of(self, run: PlannedRun) -> Cost:
        """Return the cost of a run."""
        return estimate(run, self.size(run))


def _count(data: Any, labeled: bool) -> DatasetSize:
    """Open data with all labels and return their size."""
    from common.data.open_splits import open_splits

    splits = open_splits(data, labeled=labeled, decodes=False)
    held_out = len(splits.validation) if splits.validation is not None and data.validation_fraction else 0
    return DatasetSize(
        len(splits.train) - splits.subset.num_unlabeled + held_out,
        len(splits.class_names),
        tuple(splits.subset.class_counts.values()),
        splits.subset.num_unlabeled,
    )


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
