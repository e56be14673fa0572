"""Owns the timing of our own trainers: the real ones, by the epoch's loop they run, on images held in memory."""

import tempfile
from typing import Any

from benchmarks.isolated import EnoughError, StepWatch
from benchmarks.pictures import Pictures
from common import config as recipes
from common.training.progress import Progress
from common.training.run import Run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.train import Pretraining


class TimedProgress(Progress):
    """A run's progress that also stops the time; the loops tell it of every step."""

    def __init__(self, run: Run, steps: int, batch_size: int, watch: StepWatch) -> None:
        super().__init__(run, steps, batch_size)
        self._watch = watch

    def advance(self, step: int) -> None:
        super().advance(step)
        self._watch.lap()


def train_section(batch: int, precision: str, **execution: bool) -> dict[str, Any]:
    """Return the keys of a run that neither looks at images nor saves within the timed steps."""
    return {"epochs": 100, "batch_size": batch, "precision": precision, "checkpoint_minutes": 1e6, **execution}


def time_pretraining(recipe: dict[str, Any], pictures: Pictures, watch: StepWatch) -> None:
    """Run the first steps of a pre-training."""
    _time(Pretraining, recipes.build(PretrainConfig, recipe, source="benchmark"), "pretrain", pictures, watch)


def time_finetuning(recipe: dict[str, Any], pictures: Pictures, watch: StepWatch) -> None:
    """Run the first steps of a supervised training."""
    _time(Finetuning, recipes.build(FinetuneConfig, recipe, source="benchmark"), "finetune", pictures, watch)


def _time(trainer_class: type[Any], config: Any, stage: str, pictures: Pictures, watch: StepWatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, config.train, stage=stage, out=folder, overrides=[])
        trainer = trainer_class(config, run, pictures.splits())
        progress = TimedProgress(run, trainer.steps, config.train.batch_size, watch)
        try:
            trainer._train_epoch(0, 0, progress)
        except EnoughError:
            del trainer  # the workers end before the folder goes
            raise
