"""Supervised training: forward, loss, backward, (SAM's second pass,) step."""

import copy
import logging
from typing import Any

import torch
from torch import Tensor

from common.data.splits.roles import Splits
from common.models.freezing import freeze_statistics
from common.models.sync_batchnorm import synchronize_batch_norm
from common.training.ema import average_momenta, update_ema
from common.training.loop import build_loop
from common.training.loss_monitor import monitor_supervised_loss
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
from common.training.sam import SharpnessAware, frozen_statistics
from common.training.schedules import Schedule
from common.training.status import RunOutcome, RunStatus
from finetune.config import FinetuneConfig
from finetune.objectives import build_objective
from finetune.warnings import config_warnings

logger = logging.getLogger(__name__)


def train(config: FinetuneConfig, overrides: list[str]) -> int:
    """Train as the recipe says, from the last checkpoint if there is one; return the exit code."""
    run = start_run(config, stage="finetune", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labeled=True, init=config.init)
    return Finetuning(with_normalization(config, run), run, splits).train()


class Finetuning:
    """One supervised training: its network and moving average, optimizer and schedules, and the step."""

    def __init__(self, config: FinetuneConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.objective = build_objective(config, splits)
        torch.manual_seed(config.train.seed)
        self.network = self.objective.build_network()
        self.network = synchronize_batch_norm(self.network, device_type=run.device.type, compiled=config.train.compile)
        self.network = self.network.to(run.device)
        freeze_statistics(self.network)
        configure_execution(self.network, config.train, run.device)
        is_averaged = config.ema_decay is not None or config.ema_span is not None
        self.average = copy.deepcopy(self.network).requires_grad_(False) if is_averaged else None
        self.model, self.optimizer = run.accelerator.prepare(self.network, build_optimizer(config.optim, self.network))
        self.sam = SharpnessAware(self.network.parameters(), config.optim.rho) if config.optim.name == "sam" else None
        sampler = self.objective.build_sampler(rank=run.rank, num_processes=run.num_processes)
        self.steps_per_epoch = sampler.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        self.monitor = self.objective.build_monitor(run)
        watch = monitor_supervised_loss(
            config.status,
            run,
            precision=config.train.precision,
            chance=self.objective.chance(),
            num_steps=config.train.epochs * self.steps_per_epoch,
            steps_per_epoch=self.steps_per_epoch,
            warmup_epochs=config.optim.warmup_epochs,
        )
        self.loop = build_loop(
            run,
            config.train,
            config.data,
            splits,
            sampler,
            self.objective.build_transform(),
            {"network": self.network} | ({"average": self.average} if self.average is not None else {}),
            self.optimizer,
            monitor=self.monitor,
            watch=watch,
            token_labels=self.objective.token_labels,
        )
        for warning in config_warnings(config, steps=self.loop.num_steps):
            logger.warning("warning: %s", warning)
        warn_of_batch_norm(self.network, config.train.micro_batch_size)

    @property
    def evaluated(self) -> torch.nn.Module:
        """Return the network that is evaluated and exported: the moving average if there is one."""
        return self.network if self.average is None else self.average

    def train(self) -> int:
        """Train to the last step, a signal or a divergence; evaluate on the test images once; return the exit code."""
        loop = self.loop
        loop.restore(self._schedules)
        for step, batch in loop:
            inputs = self.objective.inputs(batch, epoch=loop.epoch, step=step)
            loss, skipped = self._train_step(inputs, step)
            loop.report(loss, skipped)
            if loop.is_evaluation_due(self.config.train.evaluate_every):
                self.monitor.validate(self.evaluated, step=loop.step, epoch=loop.epoch)
        return self._end(loop.outcome or RunOutcome(RunStatus.FINISHED, self.monitor.summary(), complete=True))

    def _train_step(self, inputs: tuple[Tensor, ...], step: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return the loss and 1.0 when a gradient was not finite."""
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        self.optimizer.zero_grad(set_to_none=True)
        if self.sam is None:
            loss = self._backward(inputs, step)
        else:
            # Every process ascends along its own gradient; only the second gradient is averaged over processes (SAM, section 4.1).
            with self.run.accelerator.no_sync(self.model):
                loss = self._backward(inputs, step)
            with self.sam.perturbed(), frozen_statistics(self.network):
                self._backward(inputs, step)
        if self.config.optim.clip_grad is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(
                self.network.parameters(),
                self.config.optim.clip_grad,
                per_parameter=self.config.optim.clip_per_parameter,
            )
        skipped = guarded_step(self.optimizer)
        if self.average is not None:
            update_ema(self.average.parameters(), self.network.parameters(), self.schedules["average momentum"][step])
            for ours, theirs in zip(self.average.buffers(), self.network.buffers(), strict=True):
                ours.copy_(theirs)
        return loss, skipped

    def _backward(self, inputs: tuple[Tensor, ...], step: int) -> Tensor:
        """Run forward and backward, part by part where the recipe splits the batch; return the batch's mean loss.

        The same step draws the same dropped paths, so SAM's two passes agree.
        """
        self.loop.seed_step(step)
        total = torch.zeros((), device=self.run.device)
        for part in micro_batches(len(inputs[0]), self.config.train.micro_batch_size):
            with part.synchronized(self.run.accelerator, self.model):
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

    def _end(self, outcome: RunOutcome) -> int:
        """Evaluate on the test images, export the network and write the result; if the run did not complete, only write."""
        facts: dict[str, Any] = {}
        if outcome.complete:
            self.loop.save()
            facts = self.monitor.test(self.evaluated)
            outcome = self.monitor.checked(outcome)
            folder, metrics = self.run.folder / "export", self.monitor.result()
            self.run.write(folder, lambda: self.objective.export(self.evaluated, metrics, folder))
        return self.loop.finish(
            outcome,
            train_images=len(self.splits.train),
            parameters=sum(p.numel() for p in self.network.parameters()),
            trained_parameters=sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            metrics=self.monitor.result(),
            **facts,
        )
