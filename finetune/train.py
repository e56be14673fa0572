"""Owns the supervised run: forward, loss, backward, (SAM's second pass,) step, with what is logged and saved around it."""

import copy
import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.data.broken import build_error_count
from common.data.fingerprint import check_data, save_data
from common.data.loader import view_loader
from common.data.sampler import EpochBatches
from common.data.sources import open_splits
from common.data.splits import Splits
from common.errors import UserError
from common.models.normalization import synchronise_batch_norm
from common.training.averaging import update_average
from common.training.checkpoints import Checkpoint
from common.training.execution import set_execution
from common.training.loss_watch import watch_supervised
from common.training.micro_batches import micro_batches, warn_of_batch_norm
from common.training.optimizers import (
    SharpnessAware,
    build_optimizer,
    clip_gradients,
    frozen_statistics,
    guarded_step,
    optimizer_schedules,
    set_step,
)
from common.training.progress import Progress
from common.training.run import Run
from common.training.schedules import Schedule
from common.training.state import (
    Counting,
    counting_state,
    load_counting_state,
    load_module_state,
    load_optimizer_state,
    module_state,
    optimizer_state,
)
from common.training.verdicts import Ending, Verdict
from finetune.config import FinetuneConfig
from finetune.objectives import build_objective

logger = logging.getLogger(__name__)


def train(config: FinetuneConfig, overrides: list[str]) -> int:
    """Train as the recipe says, from the last checkpoint where there is one; return the exit code."""
    run = Run(config, config.train, stage="finetune", out=config.out, overrides=overrides)
    if result := run.finished_result():
        logger.info("%s has ended already: %s. Nothing to do.", run.folder, result["verdict"])
        return 0
    splits = open_splits(config.data, labelled=True)
    data = check_data(splits, run.folder)
    run.write(run.folder, lambda: save_data(data, splits, run.folder))
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
        self.average = copy.deepcopy(self.network).requires_grad_(False) if config.ema_decay else None
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
        if config.train.micro_batch and not self.objective.divisible:
            raise UserError(
                f"train.micro_batch = {config.train.micro_batch}: this loss compares the images of a batch with each other, so it "
                "is not a mean over parts. Set train.micro_batch=none and a smaller train.batch_size."
            )
        warn_of_batch_norm(self.network, config.train.micro_batch)

    @property
    def evaluated(self) -> torch.nn.Module:
        """Return the network that is judged and exported: the average where one is kept."""
        return self.network if self.average is None else self.average

    def run_to_end(self) -> int:
        """Train to the last step, a signal or a crash; then look at the test images once."""
        step, progress = self._restore(), Progress(self.run, self.steps, self.config.train.batch_size)
        if step == 0 and self.config.train.on_crash == "rewind":
            self._save(0)
        while step < self.steps:
            ending = self._train_epoch(step // self.steps_per_epoch, step, progress)
            if ending:
                ending = self._take_back(ending, progress)
            step = progress.step
            if ending:
                return self._end(ending, step)
            if step % self.steps_per_epoch:
                continue  # gone back after a crash: the rest of the epoch comes first
            epoch = step // self.steps_per_epoch
            if epoch % self.config.train.evaluate_every == 0 or epoch == self.config.train.epochs:
                self.monitor.validate(self.evaluated, step=step, epoch=epoch)
            progress.describe(self.monitor.summary())
            if ending := self._pause(step):
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
            if step % self.steps_per_epoch and (ending := self._pause(step)):
                return ending
        return None

    def _pause(self, step: int) -> Ending | None:
        """Save when it is time to; return an ending when a signal asked for a stop, or when there is nothing sound to save."""
        due = self.run.due(step, steps_per_epoch=self.steps_per_epoch)
        if due.checkpoint:
            if ending := self.watch.flush():
                return ending
            self._save(step, milestone=due.milestone)
        return self.run.interrupted() if due.stop else None

    def _take_back(self, ending: Ending, progress: Progress) -> Ending | None:
        """Go back to the last checkpoint after a crash, where the recipe says so; return the ending where it does not."""
        crashed_at = ending.step or progress.step
        checkpoint = self.run.rewind(ending, crashed_at)
        if checkpoint is None:
            return ending
        self._load(checkpoint)
        progress.step = crashed_at
        self._save(crashed_at)
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
            assert self.config.ema_decay is not None
            update_average(self.average.parameters(), self.network.parameters(), self.config.ema_decay)
            for mine, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
                mine.copy_(theirs)
        return loss, skipped

    def _backward(self, inputs: tuple[Tensor, ...], step: int) -> Tensor:
        """Run forward and backward, part by part where the recipe splits the batch; return the batch's mean loss.

        The same step draws the same dropped paths, so SAM's two passes agree.
        """
        torch.manual_seed(np.random.SeedSequence([self.config.train.seed, step, self.run.rank]).generate_state(1)[0])
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
        batch_size = self.config.train.batch_size
        return optimizer_schedules(
            self.config.optim, batch_size=batch_size, epochs=epochs, steps_per_epoch=self.steps_per_epoch
        )

    def _restore(self) -> int:
        """Read the newest checkpoint back and return the number of steps done."""
        checkpoint = self.run.restore(self._schedules)
        if checkpoint is None:
            return 0
        self._load(checkpoint)
        return checkpoint.step

    def _load(self, checkpoint: Checkpoint) -> None:
        """Bring the networks, the optimizer and what was counted back to where the checkpoint was written."""
        load_module_state("network", self.network, checkpoint.tensors)
        if self.average is not None:
            load_module_state("average", self.average, checkpoint.tensors)
        load_optimizer_state(self.optimizer, checkpoint.tensors)
        load_counting_state(self.run.accelerator.scaler, checkpoint.values, **self._counting())

    def _save(self, step: int, *, milestone: bool = False) -> None:
        """Write a checkpoint of `step` done steps."""
        tensors = module_state("network", self.network) | optimizer_state(self.optimizer)
        if self.average is not None:
            tensors |= module_state("average", self.average)
        values = counting_state(self.run.accelerator.scaler, **self._counting())
        self.run.save(step, tensors, values, milestone=milestone)

    def _counting(self) -> dict[str, Counting]:
        """Return what counts along, by its name in a checkpoint."""
        return {"monitor": self.monitor, "watch": self.watch, "errors": self.errors}

    def _end(self, ending: Ending, step: int) -> int:
        """Look at the test images, export the network and write the result; a run that crashed or stopped only writes."""
        facts: dict[str, Any] = {}
        if ending.complete:
            self._save(step)
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
