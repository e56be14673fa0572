"""Timing of our trainers, in their actual loops, on images in memory."""

import tempfile
from collections.abc import Iterator
from typing import Any, Literal

import torch

from benchmarks.isolated import StepTimer, TimingDone
from benchmarks.synthetic_images import SyntheticImages
from common import config as recipes
from common.training.progress import Progress
from common.training.run import Run, start_run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.train import Pretraining

Part = Literal["full", "step", "data", "views"]
"""What is timed: the complete loop, its steps on inputs that are already on the device, data loading to the device, or what the
device makes of a batch before a step (color augmentation, normalization, mixing)."""


class TimedProgress(Progress):
    """A run's progress that also times every step."""

    def __init__(self, run: Run, steps: int, batch_size: int, timer: StepTimer) -> None:
        super().__init__(run, steps, batch_size)
        self._timer = timer

    def advance(self, step: int) -> None:
        super().advance(step)
        self._timer.lap()


def train_section(batch: int, precision: str, **execution: bool) -> dict[str, Any]:
    """Return the section `train` of a run that neither evaluates nor saves within the timed steps."""
    return {"epochs": 100, "batch_size": batch, "precision": precision, "checkpoint_minutes": 1e6, **execution}


def time_pretraining(recipe: dict[str, Any], images: SyntheticImages, timer: StepTimer, *, part: Part = "full") -> None:
    """Run the first steps of a pre-training, or a part of them."""
    _time(Pretraining, recipes.build(PretrainConfig, recipe, source="benchmark"), "pretrain", images, timer, part)


def time_finetuning(recipe: dict[str, Any], images: SyntheticImages, timer: StepTimer, *, part: Part = "full") -> None:
    """Run the first steps of a supervised training, or a part of them."""
    _time(Finetuning, recipes.build(FinetuneConfig, recipe, source="benchmark"), "finetune", images, timer, part)


def build_trainer(trainer_class: type[Any], config: Any, stage: str, images: SyntheticImages, folder: str) -> Any:
    """Return the trainer of a new run in `folder`."""
    config = config.model_copy(update={"out": folder})
    run = start_run(config, stage=stage, precision=config.train.precision, overrides=[])
    return trainer_class(run.config, run, images.splits())


def _time(
    trainer_class: type[Any], config: Any, stage: str, images: SyntheticImages, timer: StepTimer, part: Part
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(trainer_class, config, stage, images, folder)
        run, device = trainer.run, torch.device(timer.setting.device).type
        assert run.device.type == device, f"the run is on {run.device.type}, the timer on {device}"
        try:
            if part == "data":
                _load_only(trainer, timer)
            elif part == "views":
                _transform_only(trainer, timer)
            else:
                if part == "step":
                    _reuse_inputs(trainer)
                trainer.loop.loader = _Watched(trainer.loop.loader, timer)
                trainer.loop.progress = TimedProgress(run, trainer.loop.num_steps, config.train.batch_size, timer)
                trainer.train()
        except TimingDone:
            del trainer  # ends the workers before the folder is removed
            raise


class _Watched:
    """A loader whose batches a timer watches."""

    def __init__(self, loader: Any, timer: StepTimer) -> None:
        self.loader, self.timer = loader, timer

    def __iter__(self) -> Iterator[Any]:
        return self.timer.watch(self.loader)


def _transform_only(trainer: Pretraining | Finetuning, timer: StepTimer) -> None:
    """Make the inputs of steps from the first batch, again and again, without taking them."""
    batch = next(iter(trainer.loop.loader)).to(trainer.run.device)
    for step in range(trainer.steps_per_epoch):
        if isinstance(trainer, Pretraining):
            trainer._views(batch)
        else:
            trainer.objective.inputs(batch, epoch=0, step=step)
        timer.lap()


def _load_only(trainer: Any, timer: StepTimer) -> None:
    """Load an epoch's batches to the device without training."""
    for batch in trainer.loop.loader:
        batch.to(trainer.run.device)
        timer.lap()


def _reuse_inputs(trainer: Pretraining | Finetuning) -> None:
    """Make the trainer use the first batch at every step, already augmented and on the device."""
    batch = next(iter(trainer.loop.loader)).to(trainer.run.device)
    trainer.loop.loader = [batch] * trainer.steps_per_epoch
    if isinstance(trainer, Pretraining):
        views = trainer._views(batch)
        trainer._views = lambda _: views
    else:
        inputs = trainer.objective.inputs(batch, epoch=0, step=0)
        trainer.objective.inputs = lambda _, **__: inputs
