"""Pre-training by DINO: algorithm 1 of Caron et al. (2021), step by step."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from common.data.augment.color_on_device import BatchColor, apply_on_batch, compiled_color
from common.data.augment.multi_crop import build_multi_crop
from common.data.loading.loader import Batch, normalize
from common.data.loading.sampler import EpochSampler
from common.data.loading.shard_order import build_shard_order
from common.data.splits.roles import Splits
from common.models.freezing import freeze_statistics
from common.models.sync_batchnorm import synchronize_batch_norm
from common.training.loop import build_loop
from common.training.loss_monitor import monitor_dino_loss
from common.training.micro_batches import micro_batches, warn_of_batch_norm
from common.training.normalization import with_normalization
from common.training.open_images import open_images
from common.training.optimizers import (
    build_optimizer,
    clip_gradients,
    guarded_step,
    optimizer_schedules,
    set_step,
)
from common.training.precision import configure_execution
from common.training.run import Run, start_run
from common.training.schedules import Schedule, cosine, linear_warmup_by_epoch
from common.training.status import RunOutcome, non_finite_output, teacher_status
from pretrain.build import build_dino, export_teacher
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts
from pretrain.method import DINO
from pretrain.monitor import Monitor
from pretrain.warnings import config_warnings

logger = logging.getLogger(__name__)


def train(config: PretrainConfig, overrides: list[str]) -> int:
    """Pre-train as the recipe says, from the last checkpoint if there is one; return the exit code."""
    run = start_run(config, stage="pretrain", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labeled=False, init=config.init)
    return Pretraining(with_normalization(config, run), run, splits).train()


class Pretraining:
    """One pre-training: student and teacher, optimizer and schedules, and the step."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        torch.manual_seed(config.train.seed)
        device, compiled = run.device, config.train.compile
        dino = synchronize_batch_norm(build_dino(config), device_type=device.type, compiled=compiled).to(device)
        assert isinstance(dino, DINO)
        self.dino: DINO = dino
        freeze_statistics(dino.student, dino.teacher)
        self._set_execution()
        optimizer = build_optimizer(config.optim, torch.nn.ModuleList([self.dino.student, self.dino.student_head]))
        self.model, self.optimizer = run.accelerator.prepare(self.dino, optimizer)
        sampler = EpochSampler(
            len(splits.train),
            config.train.batch_size,
            config.train.seed,
            rank=run.rank,
            num_processes=run.num_processes,
            shard_order=build_shard_order(config.train.shuffle_shards, config.data, splits.train),
        )
        self.steps_per_epoch = sampler.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        # Read on the device, step by step: copying a value there would make the step wait.
        temperature = torch.tensor(self.schedules["teacher temperature"], dtype=torch.float32)
        self.temperature = temperature.to(run.device)
        self.monitor = Monitor(config, run, splits)
        self.loop = build_loop(
            run,
            config.train,
            config.data,
            splits,
            sampler,
            build_multi_crop(
                config.crops,
                config.train.seed,
                color_in_worker=run.device.type == "cpu",
                channels=config.data.channels,
            ),
            {"dino": self.dino},
            self.optimizer,
            monitor=self.monitor,
            watch=monitor_dino_loss(
                config.status,
                run,
                precision=config.train.precision,
                out_dim=config.dino.out_dim,
                steps_per_epoch=self.steps_per_epoch,
            ),
        )
        for warning in config_warnings(config, num_images=len(splits.train), steps=self.loop.num_steps):
            logger.warning("warning: %s", warning)
        trained = torch.nn.ModuleList([self.dino.student, self.dino.student_head])
        warn_of_batch_norm(trained, config.train.micro_batch_size)

    def _set_execution(self) -> None:
        """Choose kernels, compilation and precision of student, teacher, loss and color augmentation."""
        for network in (self.dino.student, self.dino.teacher):
            configure_execution(network, self.config.train, self.run.device)
        self.color: BatchColor = compiled_color() if self.config.train.compile else apply_on_batch
        if self.config.train.compile:
            self.dino.loss.compile_functions()

    def train(self) -> int:
        """Train to the last step, a signal or a divergence; evaluate, export and write the result; return the exit code."""
        loop = self.loop
        loop.restore(self._schedules)
        if loop.step == 0 and not self.monitor.untrained:  # a checkpoint of step 0 has it
            self.monitor.evaluate(self.dino.teacher, step=0, epoch=0)
        for step, batch in loop:
            parts, skipped = self._train_step(self._views(batch), step)
            loop.report(parts.loss, skipped, parts)
            if loop.is_evaluation_due(self.config.knn.every_epochs):
                self.monitor.evaluate(self.dino.teacher, step=loop.step, epoch=loop.epoch)
        return self._end(loop.outcome or self._outcome())

    def _train_step(self, views: list[Tensor], step: int) -> tuple[LossParts, Tensor]:
        """Take one step of DINO's algorithm 1; return the loss and 1.0 when a gradient was not finite."""
        self.loop.seed_step(step)
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        self.optimizer.zero_grad(set_to_none=True)
        parts = self._backward(views, step)
        if self.config.optim.clip_grad is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(
                self.dino.student_parameters(),
                self.config.optim.clip_grad,
                per_parameter=self.config.optim.clip_per_parameter,
            )
        if step < self.config.dino.freeze_last_layer_epochs * self.steps_per_epoch:
            self.dino.freeze_last_layer()
        skipped = guarded_step(self.optimizer)
        self.dino.update_teacher(self.schedules["teacher momentum"][step])
        return parts, skipped

    def _backward(self, views: list[Tensor], step: int) -> LossParts:
        """Run the teacher, then the student forward and backward, part by part where the recipe splits the batch."""
        accelerator, size = self.run.accelerator, self.config.train.micro_batch_size
        with accelerator.autocast():
            targets = self.dino.teacher_targets(views[0], self.temperature[step], micro_batch_size=size)
        loss = torch.zeros((), device=self.run.device)
        for part in micro_batches(views[0].shape[1], size):
            with part.synchronized(accelerator, self.model):
                with accelerator.autocast():
                    parts: LossParts = self.model([block[:, part.rows] for block in views], targets.select(part.rows))
                accelerator.backward(parts.loss * part.share)
            loss += parts.loss.detach() * part.share
        return LossParts(loss, targets.entropy, loss - targets.entropy, targets.prototype_entropy)

    def _views(self, batch: Batch) -> list[Tensor]:
        """Return the normalized views; on a GPU color, blur and solarize are applied here, on all of them at once."""
        blocks: list[Tensor] = []
        for block, parameters in zip(batch.views, batch.parameters, strict=True):
            images = block if self.run.device.type == "cpu" else self._augment_color(block, parameters)
            blocks.append(normalize(images, *self.config.data.statistics()))
        return blocks

    def _augment_color(self, block: Tensor, parameters: Tensor) -> Tensor:
        """Return views (V, B, C, H, W) after color, blur and solarize; `micro_batch_size` limits the images at a time here, too."""
        flat, all_parameters = block.flatten(0, 1), parameters.flatten(0, 1)
        step = (self.config.train.micro_batch_size or block.shape[1]) * block.shape[0]
        sigma = self.config.crops.blur_sigma[1]
        parts = [
            self.color(*part, sigma_limit=sigma)
            for part in zip(torch.split(flat, step), torch.split(all_parameters, step), strict=True)
        ]
        colored = parts[0] if len(parts) == 1 else torch.cat(parts)
        return colored.view(*block.shape[:2], *colored.shape[1:])

    def _schedules(self, epochs: int) -> dict[str, Schedule]:
        """Return every schedule of a run of so many epochs, step by step."""
        config, dino, steps = self.config, self.config.dino, epochs * self.steps_per_epoch
        of_optimizer = optimizer_schedules(
            config.optim, batch_size=config.train.batch_size, epochs=epochs, steps_per_epoch=self.steps_per_epoch
        )
        return of_optimizer | {
            "teacher momentum": cosine(dino.momentum_teacher, dino.momentum_teacher_end, steps=steps),
            "teacher temperature": linear_warmup_by_epoch(
                dino.warmup_teacher_temp,
                dino.teacher_temp,
                epochs=epochs,
                warmup_epochs=dino.warmup_teacher_temp_epochs,
                steps_per_epoch=self.steps_per_epoch,
            ),
        }

    def _outcome(self) -> RunOutcome:
        """Return the outcome of a run that trained to its end: whether its features are finite, and its teacher has not collapsed.

        The reason names a k-NN accuracy below that of the start.
        """
        rank = self.monitor.latest.get("feature_rank", 0.0)
        if not math.isfinite(rank):
            return non_finite_output("feature_rank", rank, complete=True)
        means = self.monitor.teacher_means()
        outcome = teacher_status(self.config.status, **means, out_dim=self.config.dino.out_dim)
        fall = self.monitor.fall()
        return outcome if fall is None else replace(outcome, reason=f"{outcome.reason}; {fall}")

    def _end(self, outcome: RunOutcome) -> int:
        """Save and export the teacher of a complete run, and write the result."""
        if outcome.complete:
            self.loop.save()
            folder = self.run.folder / "export"
            self.run.write(
                folder, lambda: export_teacher(self.dino, self.config, self.splits, self.monitor.latest, folder)
            )
        return self.loop.finish(
            outcome,
            train_images=len(self.splits.train),
            parameters=sum(p.numel() for p in self.dino.teacher.parameters()),
            trained_parameters=sum(p.numel() for p in self.dino.student.parameters() if p.requires_grad),
            metrics=self.monitor.result(),
            epochs_below_start=self.monitor.epochs_below_start,
            splits={name: len(part) for name, part in self._parts()},
        )

    def _parts(self) -> Iterator[tuple[str, Any]]:
        """Yield the name and images of each split there is."""
        for name in ("train", "validation", "test"):
            if (part := getattr(self.splits, name)) is not None:
                yield name, part
