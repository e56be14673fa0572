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
    """Size of a study's dataset: training images with all labels, and classes."""

    train_images: int
    """Training images after the hold-outs if they were counted, and before any hold-out if a scale declares them."""
    num_classes: int
    class_counts: tuple[int, ...] | None = None
    """Training images of each class, if they were counted; None: `data.validation_fraction` is held out of `train_images`."""
    num_unlabeled: int = 0
    """Training images without a label, which are in every label subset; not in `train_images`."""
    num_validation: int = 0
    """Validation images, if they were counted."""
    num_test: int = 0
    """Test images, if they were counted."""

    def images_of(self, data: Any) -> int:
        """Return the number of training images of a recipe's section `data`."""
        if self.class_counts is not None:
            return _subset_size(self.class_counts, data.fraction, data.images_per_class) + self.num_unlabeled
        pool = self.train_images - round(self.train_images * data.validation_fraction)
        count: int = round(pool * data.fraction)
        return count if data.images_per_class is None else int(data.images_per_class) * self.num_classes

    def evaluated_by(self, config: Any) -> int:
        """Return the number of images that an evaluation is about: validation and test images, or those of its key `split`."""
        if self.class_counts is None:
            held_out: int = round(self.train_images * config.data.validation_fraction)
            return held_out
        parts = {"validation": self.num_validation, "test": self.num_test}
        return parts[config.split] if hasattr(config, "split") else sum(parts.values())

    def describe(self, num_unlabeled: int | None = None) -> str:
        """Return the number of images in words: those of each part with their total, if they were counted.

        `num_unlabeled` is that of pre-training, if this is the size of another stage.
        """
        unlabeled = self.num_unlabeled if num_unlabeled is None else num_unlabeled
        if self.class_counts is None:
            return f"{self.train_images} training images{' before any hold-out' if self.train_images else ''}"
        more = f" + {unlabeled} for pre-training without a label" if unlabeled else ""
        total = self.train_images + unlabeled + self.num_validation + self.num_test
        return (
            f"images: {self.train_images} for training{more} + {self.num_validation} for validation + {self.num_test} for testing"
            f" = {total}"
        )


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
        sizes |= {"num_images": size.images_of(config.data), "num_held_out": size.evaluated_by(config)}
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
    return DatasetSize(
        len(splits.train) - splits.subset.num_unlabeled,
        len(splits.class_names),
        tuple(splits.subset.class_counts.values()),
        splits.subset.num_unlabeled,
        _num_evaluated(splits, "validation"),
        _num_evaluated(splits, "test"),
    )


def _num_evaluated(splits: Any, part: str) -> int:
    """Return the number of validation or test images; of re-identification, those of queries and gallery."""
    if (split := getattr(splits, part)) is not None:
        return len(split)
    sets = getattr(splits, "query_gallery", {}).get(part, ())
    return sum(len(each.split) for each in sets)


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
