"""Owns the supervised run: forward, loss, backward, (SAM's second pass,) step, with what is logged and saved around it."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from common.data.loading.corrupt import build_error_count
from common.data.loading.loader import view_loader
from common.data.loading.sampler import EpochBatches
from common.data.splits.roles import Splits
from common.errors import UserError
from common.models.normalization import synchronise_batch_norm
from common.training.data import open_images
from common.training.ema import average_momenta, update_average
from common.training.loss_watch import watch_supervised
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
from common.training.sam import SharpnessAware, frozen_statistics
from common.training.schedules import Schedule
from common.training.state import TrainingState
from common.training.status import Ending, Verdict
from finetune.config import FinetuneConfig
from finetune.objectives import build_objective
from finetune.warnings import known_failures

logger = logging.getLogger(__name__)


def train(config: FinetuneConfig, overrides: list[str]) -> int:
    """Train as the recipe says, from the last checkpoint where there is one; return the exit code."""
    run = Run(config, config.train, stage="finetune", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labelled=True)
    return Finetuning(config, run, splits).run_to_end()


class Finetuning:
    """One supervised run: its network, optimizer and schedules, and the loop over them."""

    def __init__(self, config: FinetuneConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.objective = build_objective(config, splits)
        torch.manual_seed(config.train.seed)
        self.network = self.objective.build_network()
        self.network = synchronise_batch_norm(self.network, device_type=run.device.type).to(run.device)
        set_execution(self.network, config.train, run.device)
        is_averaged = config.ema_decay is not None or config.ema_span is not None
        self.average = copy.deepcopy(self.network).requires_grad_(False) if is_averaged else None
        self.model, self.optimizer = run.accelerator.prepare(self.network, build_optimizer(config.optim, self.network))
        self.sharpness = (
            SharpnessAware(self.network.parameters(), config.optim.rho) if config.optim.name == "sam" else None
        )
        sampler = self.objective.build_sampler(rank=run.rank, num_processes=run.num_processes)
        self.batches = EpochBatches(sampler)
        self.errors = build_error_count(config.data, splits, run.accelerator)
        self.loader = view_loader(
            splits.train,
            self.objective.build_view(),
            self.batches,
            workers=config.data.workers,
            pin_memory=run.device.type == "cuda",
            replacement_seed=config.train.seed,
            dense_labels=self.objective.dense_labels,
        )
        self.steps_per_epoch = sampler.steps_per_epoch
        self.steps = config.train.epochs * self.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        self.monitor = self.objective.build_monitor(run)
        self.watch = watch_supervised(
            config.verdict,
            run,
            chance=self.objective.chance(),
            num_steps=self.steps,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=config.optim.warmup_epochs,
        )
        networks = {"network": self.network} | ({"average": self.average} if self.average is not None else {})
        self.state = TrainingState(
            run, networks, self.optimizer, monitor=self.monitor, watch=self.watch, errors=self.errors
        )
        if config.train.micro_batch and not self.objective.divisible:
            raise UserError(
                f"train.micro_batch = {config.train.micro_batch}: this loss compares the images of a batch with each other, so it "
                "is not a mean over parts. Set train.micro_batch=none and a smaller train.batch_size."
            )
        for warning in known_failures(config, steps=self.steps):
            logger.warning("warning: %s", warning)
        warn_of_batch_norm(self.network, config.train.micro_batch)

    @property
    def evaluated(self) -> torch.nn.Module:
        """Return the network that is judged and exported: the average where one is kept."""
        return self.network if self.average is None else self.average

    def run_to_end(self) -> int:
        """Train to the last step, a signal or a crash; then look at the test images once."""
        step = self.state.restore(self._schedules)
        progress = Progress(self.run, self.steps, self.config.train.batch_size)
        if step == 0 and self.config.train.on_crash == "rewind":
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
            if epoch % self.config.train.evaluate_every == 0 or epoch == self.config.train.epochs:
                self.monitor.validate(self.evaluated, step=step, epoch=epoch)
            progress.describe(self.monitor.summary())
            if ending := self.state.pause(step):
                return self._end(ending, step)
        finished = Ending(Verdict.FINISHED, self.monitor.summary(), complete=True)
        return self._end(self.watch.at_end(step) or finished, step)

    def _train_epoch(self, epoch: int, step: int, progress: Progress) -> Ending | None:
        """Train from global step `step` to the end of `epoch`; return an ending when the run must stop before that."""
        self.batches.set(epoch, step - epoch * self.steps_per_epoch)
        for batch in self.errors.watch(self.loader):
            inputs = self.objective.inputs(batch.to(self.run.device), epoch=epoch, step=step)
            loss, skipped = self._train_step(inputs, step)
            step += 1
            self.monitor.add(loss, step=step, epoch=epoch, last=step % self.steps_per_epoch == 0)
            progress.advance(step)
            if ending := self.watch.see(step, loss, skipped):
                return ending
            if step % self.steps_per_epoch and (ending := self.state.pause(step)):
                return ending
        return None

    def _train_step(self, inputs: tuple[Tensor, ...], step: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return the loss and 1.0 when a gradient was not finite."""
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        self.optimizer.zero_grad(set_to_none=True)
        if self.sharpness is None:
            loss = self._backward(inputs, step)
        else:
            # Every process climbs by its own gradient; only the second one is averaged over them (SAM, section 4.1).
            with self.run.accelerator.no_sync(self.model):
                loss = self._backward(inputs, step)
            with self.sharpness.climbed(), frozen_statistics(self.network):
                self._backward(inputs, step)
        if self.config.optim.clip_norm is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(self.network.parameters(), self.config.optim.clip_norm, each=self.config.optim.clip_each)
        skipped = guarded_step(self.optimizer, self.network.parameters())
        if self.average is not None:
            update_average(
                self.average.parameters(), self.network.parameters(), self.schedules["average momentum"][step]
            )
            for mine, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mine.copy_(theirs)
        return loss, skipped

    def _backward(self, inputs: tuple[Tensor, ...], step: int) -> Tensor:
        """Run forward and backward, part by part where the recipe splits the batch; return the batch's mean loss.

        The same step draws the same dropped paths, so SAM's two passes agree.
        """
        self.run.seed_step(step)
        total = torch.zeros((), device=self.run.device)
        for part in micro_batches(len(inputs[0]), self.config.train.micro_batch):
            with part.synchronised(self.run.accelerator, self.model):
                with self.run.accelerator.autocast():
                    loss = self.objective.loss(self.model, tuple(tensor[part.rows] for tensor in inputs)) * part.share
                self.run.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _schedules(self, epochs: int) -> dict[str, Schedule]:
        """Return every schedule of a run of so many epochs, step by step."""
        config, steps_per_epoch = self.config, self.steps_per_epoch
        of_optimizer = optimizer_schedules(
            config.optim, batch_size=config.train.batch_size, epochs=epochs, steps_per_epoch=steps_per_epoch
        )
        momenta = average_momenta(
            config.ema_decay,
            config.ema_span,
            steps=epochs * steps_per_epoch,
            warmup_steps=round(config.optim.warmup_epochs * steps_per_epoch),
        )
        return of_optimizer if momenta is None else of_optimizer | {"average momentum": momenta}

    def _end(self, ending: Ending, step: int) -> int:
        """Look at the test images, export the network and write the result; a run that crashed or stopped only writes."""
        facts: dict[str, Any] = {}
        if ending.complete:
            self.state.save(step)
            facts = self.monitor.test(self.evaluated)
            folder, metrics = self.run.folder / "export", self.monitor.result()
            self.run.write(folder, lambda: self.objective.export(self.evaluated, metrics, folder))
        return self.run.finish(
            ending,
            step=step,
            images=step * self.config.train.batch_size,
            train_images=len(self.splits.train),
            parameters=sum(p.numel() for p in self.network.parameters()),
            metrics=self.monitor.result(),
            **self.errors.facts(),
            **facts,
        )
