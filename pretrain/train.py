"""Owns the pre-training run: DINO's algorithm 1, with what is logged, judged and saved around it."""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from common.data.augment.color import apply_on_batch
from common.data.augment.multi_crop import build_multi_crop
from common.data.loading.corrupt import build_error_count
from common.data.loading.loader import Batch, normalise, view_loader
from common.data.loading.sampler import EpochBatches, EpochSampler
from common.data.splits.roles import Splits
from common.models.normalization import synchronise_batch_norm
from common.training.data import open_images
from common.training.loss_watch import watch_distillation
from common.training.micro_batches import micro_batches, warn_of_batch_norm
from common.training.optimizers import (
    build_optimizer,
    clip_gradients,
    guarded_step,
    optimizer_schedules,
    set_step,
)
from common.training.precision import set_execution
from common.training.progress import Progress
from common.training.run import Run
from common.training.schedules import Schedule, cosine, linear_warmup_by_epoch
from common.training.state import TrainingState
from common.training.status import Ending, judge_teacher
from pretrain.build import build_dino, export_teacher
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts
from pretrain.method import DINO
from pretrain.monitor import Monitor
from pretrain.warnings import known_failures

logger = logging.getLogger(__name__)


def train(config: PretrainConfig, overrides: list[str]) -> int:
    """Pre-train as the recipe says, from the last checkpoint where there is one; return the exit code."""
    run = Run(config, config.train, stage="pretrain", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labelled=False)
    return Pretraining(config, run, splits).run_to_end()


class Pretraining:
    """One pre-training run: its networks, optimizer and schedules, and the loop over them."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        torch.manual_seed(config.train.seed)
        dino = synchronise_batch_norm(build_dino(config), device_type=run.device.type).to(run.device)
        assert isinstance(dino, DINO)
        self.dino: DINO = dino
        self._set_execution()
        optimizer = build_optimizer(config.optim, torch.nn.ModuleList([self.dino.student, self.dino.student_head]))
        self.model, self.optimizer = run.accelerator.prepare(self.dino, optimizer)
        sampler = EpochSampler(
            len(splits.train),
            config.train.batch_size,
            config.train.seed,
            rank=run.rank,
            num_processes=run.num_processes,
        )
        self.batches = EpochBatches(sampler)
        views = build_multi_crop(config.views, config.train.seed, photometry_in_worker=run.device.type == "cpu")
        self.errors = build_error_count(config.data, splits, run.accelerator)
        self.loader = view_loader(
            splits.train,
            views,
            self.batches,
            workers=config.data.workers,
            pin_memory=run.device.type == "cuda",
            replacement_seed=config.train.seed,
        )
        self.steps_per_epoch = sampler.steps_per_epoch
        self.steps = config.train.epochs * self.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        # Read on the device, step by step: a value that is copied there would make it wait.
        temperature = torch.tensor(self.schedules["teacher temperature"], dtype=torch.float32)
        self.temperature = temperature.to(run.device)
        self.monitor = Monitor(config, run, splits)
        self.watch = watch_distillation(
            config.verdict, run, outputs=config.dino.outputs, steps_per_epoch=self.steps_per_epoch
        )
        self.state = TrainingState(
            run, {"dino": self.dino}, self.optimizer, monitor=self.monitor, watch=self.watch, errors=self.errors
        )
        for warning in known_failures(config, num_images=len(splits.train), steps=self.steps):
            logger.warning("warning: %s", warning)
        warn_of_batch_norm(self.dino.student, config.train.micro_batch)

    def _set_execution(self) -> None:
        """Choose how student, teacher and loss are computed here."""
        for network in (self.dino.student, self.dino.teacher):
            set_execution(network, self.config.train, self.run.device)
        if self.config.train.compile:
            self.dino.loss.compile_kernels()

    def run_to_end(self) -> int:
        """Train to the last step, a signal or a crash; evaluate, export and write the result."""
        step = self.state.restore(self._schedules)
        progress = Progress(self.run, self.steps, self.config.train.batch_size)
        if step == 0:
            self.monitor.look(self.dino.teacher, step=0, epoch=0)
            if self.config.train.on_crash == "rewind":
                self.state.save(0)
        while step < self.steps:
            ending = self._train_epoch(step // self.steps_per_epoch, step, progress)
            if ending:
                ending = self.state.take_back(ending, progress)
            step = progress.step
            if ending:
                return self._end(ending, step)
            if step % self.steps_per_epoch:
                continue  # gone back after a crash: the rest of the epoch comes first
            epoch = step // self.steps_per_epoch
            if epoch % self.config.knn.every_epochs == 0 or epoch == self.config.train.epochs:
                self.monitor.look(self.dino.teacher, step=step, epoch=epoch)
            progress.describe(self.monitor.summary())
            if ending := self.state.pause(step):
                return self._end(ending, step)
        means, outputs = self.monitor.teacher_means(), self.config.dino.outputs
        teacher = judge_teacher(self.config.verdict, **means, outputs=outputs)
        return self._end(self.watch.at_end(step) or teacher, step)

    def _train_epoch(self, epoch: int, step: int, progress: Progress) -> Ending | None:
        """Train from global step `step` to the end of `epoch`; return an ending when the run must stop before that."""
        self.batches.set(epoch, step - epoch * self.steps_per_epoch)
        for batch in self.errors.watch(self.loader):
            parts, skipped = self._train_step(self._views(batch.to(self.run.device)), step)
            step += 1
            self.monitor.add(parts, step=step, epoch=epoch, last=step % self.steps_per_epoch == 0)
            progress.advance(step)
            if ending := self.watch.see(step, parts.loss, skipped):
                return ending
            if step % self.steps_per_epoch and (ending := self.state.pause(step)):
                return ending
        return None

    def _train_step(self, views: list[Tensor], step: int) -> tuple[LossParts, Tensor]:
        """Take one step of DINO's algorithm 1; return the loss and 1.0 when a gradient was not finite."""
        self.run.seed_step(step)
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._backward(views, step)
        if self.config.optim.clip_norm is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(
                self.dino.student_parameters(), self.config.optim.clip_norm, each=self.config.optim.clip_each
            )
        if step < self.config.dino.freeze_last_layer_epochs * self.steps_per_epoch:
            self.dino.freeze_last_layer()
        skipped = guarded_step(self.optimizer, self.dino.student_parameters())
        self.dino.update_teacher(self.schedules["teacher momentum"][step])
        return parts, skipped

    def _backward(self, views: list[Tensor], step: int) -> LossParts:
        """Run the teacher, then the student forward and backward, part by part where the recipe splits the batch."""
        accelerator, size = self.run.accelerator, self.config.train.micro_batch
        with accelerator.autocast():
            codes = self.dino.teach(views[0], self.temperature[step], micro_batch=size)
        loss = torch.zeros((), device=self.run.device)
        for part in micro_batches(views[0].shape[1], size):
            with part.synchronised(accelerator, self.model):
                with accelerator.autocast():
                    parts: LossParts = self.model([block[:, part.rows] for block in views], codes.of(part.rows))
                accelerator.backward(parts.loss * part.share)
            loss += parts.loss.detach() * part.share
        return LossParts(loss, codes.entropy, loss - codes.entropy, codes.code_entropy)

    def _views(self, batch: Batch) -> list[Tensor]:
        """Return the normalised views; on a GPU colour, blur and solarize are applied here, in one batched pass."""
        blocks: list[Tensor] = []
        for block, parameters in zip(batch.views, batch.parameters, strict=True):
            images = block
            if self.run.device.type != "cpu":
                flat = apply_on_batch(
                    block.flatten(0, 1), parameters.flatten(0, 1), sigma_limit=self.config.views.blur_sigma[1]
                )
                images = flat.view(*block.shape[:2], *flat.shape[1:])
            blocks.append(normalise(images, self.config.data.mean, self.config.data.std))
        return blocks

    def _schedules(self, epochs: int) -> dict[str, Schedule]:
        """Return every schedule of a run of so many epochs, step by step."""
        config, dino, steps = self.config, self.config.dino, epochs * self.steps_per_epoch
        of_optimizer = optimizer_schedules(
            config.optim, batch_size=config.train.batch_size, epochs=epochs, steps_per_epoch=self.steps_per_epoch
        )
        return of_optimizer | {
            "teacher momentum": cosine(dino.teacher_momentum, dino.teacher_momentum_end, steps=steps),
            "teacher temperature": linear_warmup_by_epoch(
                dino.teacher_temperature_start,
                dino.teacher_temperature,
                epochs=epochs,
                warmup_epochs=dino.teacher_temperature_warmup_epochs,
                steps_per_epoch=self.steps_per_epoch,
            ),
        }

    def _end(self, ending: Ending, step: int) -> int:
        """Save and export what was reached, and write the result."""
        if ending.complete:
            self.state.save(step)
            folder = self.run.folder / "export"
            self.run.write(
                folder, lambda: export_teacher(self.dino, self.config, self.splits, self.monitor.latest, folder)
            )
        return self.run.finish(
            ending,
            step=step,
            images=step * self.config.train.batch_size,
            train_images=len(self.splits.train),
            parameters=sum(p.numel() for p in self.dino.teacher.parameters()),
            metrics=self.monitor.result(),
            **self.errors.facts(),
            splits={name: len(part) for name, part in self._parts()},
        )

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and images of each split there is."""
        for name in ("train", "validation", "test"):
            if (part := getattr(self.splits, name)) is not None:
                yield name, part
