"""Owns the timing of our own trainers: the real ones, by the epoch's loop they run, on images held in memory."""

import tempfile
from typing import Any, Literal

import torch

from benchmarks.isolated import EnoughError, StepWatch
from benchmarks.pictures import Pictures
from common import config as recipes
from common.training.progress import Progress
from common.training.run import Run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.train import Pretraining

Part = Literal["whole", "step", "data"]
"""What is timed: the whole loop, its steps alone on inputs that stay on the device, or the way of the data to the device."""


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


def time_pretraining(recipe: dict[str, Any], pictures: Pictures, watch: StepWatch, *, part: Part = "whole") -> None:
    """Run the first steps of a pre-training, or a part of them."""
    _time(Pretraining, recipes.build(PretrainConfig, recipe, source="benchmark"), "pretrain", pictures, watch, part)


def time_finetuning(recipe: dict[str, Any], pictures: Pictures, watch: StepWatch, *, part: Part = "whole") -> None:
    """Run the first steps of a supervised training, or a part of them."""
    _time(Finetuning, recipes.build(FinetuneConfig, recipe, source="benchmark"), "finetune", pictures, watch, part)


def _time(trainer_class: type[Any], config: Any, stage: str, pictures: Pictures, watch: StepWatch, part: Part) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, config.train, stage=stage, out=folder, overrides=[])
        wanted = torch.device(watch.setting.device).type
        assert run.device.type == wanted, f"the run is on {run.device.type}, the clock on {wanted}"
        trainer = trainer_class(config, run, pictures.splits())
        try:
            if part == "data":
                _read(trainer, watch)
            else:
                if part == "step":
                    _keep_inputs(trainer)
                progress = TimedProgress(run, trainer.steps, config.train.batch_size, watch)
                trainer._train_epoch(0, 0, progress)
        except EnoughError:
            del trainer  # the workers end before the folder goes
            raise


def _read(trainer: Any, watch: StepWatch) -> None:
    """Bring an epoch's batches to the device, and train on none."""
    trainer.batches.set(0, 0)
    for batch in trainer.loader:
        batch.to(trainer.run.device)
        watch.lap()


def _keep_inputs(trainer: Pretraining | Finetuning) -> None:
    """Let the trainer see the first batch at every step, finished and on the device."""
    trainer.batches.set(0, 0)
    batch = next(iter(trainer.loader)).to(trainer.run.device)
    trainer.loader = [batch] * trainer.steps_per_epoch
    if isinstance(trainer, Pretraining):
        views = trainer._views(batch)
        trainer._views = lambda _: views
    else:
        inputs = trainer.objective.inputs(batch, epoch=0, step=0)
        trainer.objective.inputs = lambda _, **__: inputs
