"""Length of a run in epochs, and the keys that change with it so that a longer run keeps its schedule."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import flatten, to_mapping
from common.training.cost import Cost
from recipes.stages import load_config
from recipes.study.cost import RunCosts
from recipes.study.plan import PlannedRun
from recipes.study.scale_rules import round_product

EPOCHS = "train.epochs"
SHARES = ("optim.warmup_epochs", "optim.cooldown_epochs", "dino.warmup_teacher_temp_epochs")
"""Keys in epochs whose share of the run is kept: a 900-epoch run of few images must not warm up for the 3 steps of one epoch."""
INTERVALS = ("knn.every_epochs", "train.evaluate_every")
"""Keys in epochs between evaluations, whose number is kept."""


@dataclass(frozen=True)
class RunLength:
    """Length of a run as planned: its cost, its epochs (None: its stage has no such key), and its other keys in epochs."""

    cost: Cost
    epochs: int | None
    keys: Mapping[str, float] = field(default_factory=dict)
    """Values of the keys of `SHARES` and `INTERVALS` that the recipe has."""

    def settings(self, epochs: int) -> dict[str, Any]:
        """Return the keys of a run of so many epochs: warm-ups keep their share of it, evaluations at most their number.

        What stays the same is not among them, so that a run whose length does not change stays the same run.
        """
        assert self.epochs is not None
        if epochs == self.epochs:
            return {}
        settings: dict[str, Any] = {EPOCHS: epochs}
        for key in SHARES:
            if value := self.keys.get(key):
                scaled = value * epochs / self.epochs
                settings[key] = round(scaled) if isinstance(value, int) else round_product(scaled)
        for key in INTERVALS:
            if key in self.keys:
                evaluations = math.ceil(self.epochs / self.keys[key])
                settings[key] = max(1, math.ceil(epochs / evaluations))
        return {key: value for key, value in settings.items() if value != self.keys.get(key)}


def run_length(run: PlannedRun, costs: RunCosts) -> RunLength:
    """Return the length of a run as its recipe is written."""
    config = flatten(to_mapping(load_config(run.module, Path(run.recipe), run.overrides)))
    # Pre-training has a section knn and leaves `train.evaluate_every` alone.
    names = (*SHARES, INTERVALS[0] if INTERVALS[0] in config else INTERVALS[1])
    return RunLength(costs.of(run), config.get(EPOCHS), {key: config[key] for key in names if key in config})
