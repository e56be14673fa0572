"""Owns the pre-training run: DINO's algorithm 1, with what is logged, judged and saved around it."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.broken import build_error_count
from common.data.fingerprint import check_data
from common.data.loader import Batch, normalise, view_loader
from common.data.photometry import apply_on_batch
from common.data.sampler import EpochBatches, EpochSampler
from common.data.sources import open_splits
from common.data.splits import Splits
from common.data.views import build_multi_crop
from common.models.normalization import synchronise_batch_norm
from common.training.loss_watch import watch_distillation
from common.training.optimizers import (
    build_optimizer,
    clip_gradients,
    guarded_step,
    learning_rates,
    set_step,
    weight_decays,
)
from common.training.progress import Progress
from common.training.run import Run
from common.training.schedules import cosine, linear_warmup_by_epoch
from common.training.state import load_module_state, load_optimizer_state, module_state, optimizer_state
from common.training.verdicts import Ending, judge_teacher
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
    if result := run.finished_result():
        logger.info("%s has ended already: %s. Nothing to do.", run.folder, result["verdict"])
        return 0
    splits = open_splits(config.data, labelled=False)
    check_data(splits, run.folder, writes=run.is_main)
    return Pretraining(config, run, splits).run_to_end()


class Pretraining:
    """One pre-training run: its networks, optimizer and schedules, and the loop over them."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        torch.manual_seed(config.train.seed)
        dino = synchronise_batch_norm(build_dino(config), device_type=run.device.type).to(run.device)
        assert isinstance(dino, DINO)
        self.dino: DINO = dino
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
        self._set_schedules()
        self.monitor = Monitor(config, run, splits)
        self.watch = watch_distillation(
            config.verdict, run, outputs=config.dino.outputs, steps_per_epoch=self.steps_per_epoch
        )
        for warning in known_failures(config, num_images=len(splits.train), steps=self.steps):
            logger.warning("warning: %s", warning)

    def run_to_end(self) -> int:
        """Train to the last step, a signal or a crash; evaluate, export and write the result."""
        step, progress = self._restore(), Progress(self.run, self.steps, self.config.train.batch_size)
        if step == 0:
            self.monitor.look(self.dino.teacher, step=0, epoch=0)
        for epoch in range(step // self.steps_per_epoch, self.config.train.epochs):
            ending = self._train_epoch(epoch, step, progress)
            step = progress.step
            if ending:
                return self._end(ending, step)
            if (epoch + 1) % self.config.knn.every_epochs == 0 or epoch + 1 == self.config.train.epochs:
                self.monitor.look(self.dino.teacher, step=step, epoch=epoch + 1)
            progress.describe(self.monitor.summary())
            if ending := self._pause(step):
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
            if step % self.steps_per_epoch and (ending := self._pause(step)):
                return ending
        return None

    def _pause(self, step: int) -> Ending | None:
        """Save when it is time to; return an ending when a signal asked for a stop."""
        stop = self.run.wants_stop()
        if stop or self.run.wants_checkpoint():
            self._save(step)
        return self.run.interrupted() if stop else None

    def _train_step(self, views: list[Tensor], step: int) -> tuple[LossParts, Tensor]:
        """Take one step of DINO's algorithm 1; return the loss and 1.0 when a gradient was not finite."""
        # Drop path is the only draw from torch's own generator: keyed by (seed, step, process), there is no state to save.
        torch.manual_seed(np.random.SeedSequence([self.config.train.seed, step, self.run.rank]).generate_state(1)[0])
        set_step(self.optimizer, self.lr[step], self.weight_decay[step])
        self.optimizer.zero_grad(set_to_none=True)
        with self.run.accelerator.autocast():
            parts: LossParts = self.model(views, self.temperature[step])
        self.run.accelerator.backward(parts.loss)
        if self.config.optim.clip_norm is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(
                self.dino.student_parameters(), self.config.optim.clip_norm, each=self.config.optim.clip_each
            )
        if step < self.config.dino.freeze_last_layer_epochs * self.steps_per_epoch:
            self.dino.freeze_last_layer()
        skipped = guarded_step(self.optimizer, self.dino.student_parameters())
        self.dino.update_teacher(self.momentum[step])
        return parts, skipped

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

    def _set_schedules(self) -> None:
        """Compute every schedule for every step."""
        config, dino = self.config, self.config.dino
        self.lr = learning_rates(
            config.optim, batch_size=config.train.batch_size, steps=self.steps, steps_per_epoch=self.steps_per_epoch
        )
        self.weight_decay = weight_decays(config.optim, steps=self.steps)
        self.momentum = cosine(dino.teacher_momentum, dino.teacher_momentum_end, steps=self.steps)
        temperature = linear_warmup_by_epoch(
            dino.teacher_temperature_start,
            dino.teacher_temperature,
            epochs=config.train.epochs,
            warmup_epochs=dino.teacher_temperature_warmup_epochs,
            steps_per_epoch=self.steps_per_epoch,
        )
        self.temperature = torch.tensor(temperature, dtype=torch.float32, device=self.run.device)

    def _restore(self) -> int:
        """Read the newest checkpoint back and return the number of steps done."""
        checkpoint = self.run.restore()
        if checkpoint is None:
            return 0
        load_module_state("dino", self.dino, checkpoint.tensors)
        load_optimizer_state(self.optimizer, checkpoint.tensors)
        self.monitor.load_state(checkpoint.values["monitor"])
        self.watch.load_state(checkpoint.values["watch"])
        self.errors.load_state(checkpoint.values["errors"])
        if self.run.accelerator.scaler is not None:
            self.run.accelerator.scaler.load_state_dict(checkpoint.values["scaler"])
        return checkpoint.step

    def _save(self, step: int) -> None:
        """Write a checkpoint of `step` done steps."""
        tensors = module_state("dino", self.dino) | optimizer_state(self.optimizer)
        scaler = self.run.accelerator.scaler
        values: dict[str, Any] = {"monitor": self.monitor.state(), "watch": self.watch.state()}
        values |= {"errors": self.errors.state(), "scaler": scaler and scaler.state_dict()}
        self.run.save(step, tensors, values)

    def _end(self, ending: Ending, step: int) -> int:
        """Save and export what was reached, and write the result."""
        if ending.complete:
            self._save(step)
            if self.run.is_main:
                export_teacher(self.dino, self.config, self.splits, self.monitor.latest, self.run.folder / "export")
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
