"""Owns the linear evaluation: a classifier of one layer, trained on the features of a network that stays as it is.

The protocol is DINO's (Caron et al. 2021, section 4.1): SGD without weight decay, random resized crops and flips, a cosine
to 0 (here step by step, there epoch by epoch). The last epoch is what is reported; the best one is named as such.
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.data.augment.erasing import erase
from common.data.augment.mixing import build_mixing
from common.data.augment.supervised import build_supervised_view
from common.data.loading.corrupt import build_error_count
from common.data.loading.loader import Batch, normalise, view_loader
from common.data.loading.sampler import EpochBatches, EpochSampler
from common.data.splits.roles import Splits
from common.evaluation.classifier_monitor import ClassifierMonitor
from common.evaluation.config import LinearConfig
from common.evaluation.frozen import build_frozen, feature_dim, linear_features
from common.training.data import open_images
from common.training.loss_watch import LossJudge, LossWatch
from common.training.optimizers import (
    build_optimizer,
    clip_gradients,
    guarded_step,
    optimizer_schedules,
    ramp_warnings,
    set_step,
)
from common.training.progress import Progress
from common.training.run import Run
from common.training.schedules import Schedule
from common.training.state import TrainingState
from common.training.status import Ending, Verdict, VerdictConfig

logger = logging.getLogger(__name__)


def evaluate(config: LinearConfig, overrides: list[str]) -> int:
    """Train and judge the classifier, from the last checkpoint where there is one; return the exit code."""
    run = Run(config, config.train, stage="linear", out=config.out, overrides=overrides)
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labelled=True)
    return LinearEvaluation(config, run, splits).run_to_end()


def build_features(config: LinearConfig) -> nn.Module:
    """Return what turns normalised images into the features that the recipe asks for."""
    network = build_frozen(config.model, config.init, image_size=config.data.image_size, seed=config.train.seed)
    return linear_features(network, blocks=config.blocks, average_pool=config.average_pool).eval()


def build_classifier(dim: int, num_classes: int, *, seed: int) -> nn.Linear:
    """Return the linear classifier as DINO starts it: weights normal with deviation 0.01, biases zero."""
    classifier = nn.Linear(dim, num_classes)
    with torch.no_grad():
        classifier.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(seed))
        classifier.bias.zero_()
    return classifier


class LinearEvaluation:
    """One linear evaluation: the frozen features, the classifier on top, and the loop that trains it."""

    def __init__(self, config: LinearConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.features = build_features(config).to(run.device)
        dim, num_classes = feature_dim(self.features, config.data.image_size), len(splits.class_names)
        self.classifier = build_classifier(dim, num_classes, seed=config.train.seed).to(run.device)
        optimizer = build_optimizer(config.optim, self.classifier)
        self.model, self.optimizer = run.accelerator.prepare(self.classifier, optimizer)
        sampler = EpochSampler(
            len(splits.train),
            config.train.batch_size,
            config.train.seed,
            rank=run.rank,
            num_processes=run.num_processes,
            repeats=config.augment.repeats,
        )
        self.batches = EpochBatches(sampler)
        view = build_supervised_view(config.augment, config.data.image_size, config.train.seed, mean=config.data.mean)
        self.errors = build_error_count(config.data, splits, run.accelerator)
        self.loader = view_loader(
            splits.train,
            view,
            self.batches,
            workers=config.data.workers,
            pin_memory=run.device.type == "cuda",
            replacement_seed=config.train.seed,
        )
        self.mixing = build_mixing(config.augment, config.train.seed, num_classes)
        self.steps_per_epoch = sampler.steps_per_epoch
        self.steps = config.train.epochs * self.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        for warning in ramp_warnings(config.optim, config.train.epochs):
            logger.warning("warning: %s", warning)
        self.monitor = ClassifierMonitor(
            run, splits, config.data, crop=config.augment.evaluation_crop, stretch=config.augment.stretch
        )
        # Without the rules on chance and explosion: features that tell a linear classifier nothing are a result, not a crash.
        judge = LossJudge([], allowed_skips=VerdictConfig().allowed_skips(config.train.precision), stop=True)
        self.watch = LossWatch(judge, run, steps_per_epoch=self.steps_per_epoch)
        # The frozen network is no part of it.
        networks = {"classifier": self.classifier}
        self.state = TrainingState(
            run, networks, self.optimizer, monitor=self.monitor, watch=self.watch, errors=self.errors
        )

    @property
    def judged(self) -> nn.Module:
        """Return what turns normalised images into logits."""
        return nn.Sequential(self.features, self.classifier)

    def run_to_end(self) -> int:
        """Train to the last step, a signal or a crash; then look at the test images once."""
        step = self.state.restore(self._schedules)
        progress = Progress(self.run, self.steps, self.config.train.batch_size)
        for epoch in range(step // self.steps_per_epoch, self.config.train.epochs):
            ending = self._train_epoch(epoch, step, progress)
            step = progress.step
            if ending:
                return self._end(ending, step)
            if (epoch + 1) % self.config.train.evaluate_every == 0 or epoch + 1 == self.config.train.epochs:
                self.monitor.validate(self.judged, step=step, epoch=epoch + 1)
            progress.describe(self.monitor.summary())
            if ending := self.state.pause(step):
                return self._end(ending, step)
        return self._end(Ending(Verdict.FINISHED, self.monitor.summary(), complete=True), step)

    def _train_epoch(self, epoch: int, step: int, progress: Progress) -> Ending | None:
        """Train from global step `step` to the end of `epoch`; return an ending when the run must stop before that."""
        self.batches.set(epoch, step - epoch * self.steps_per_epoch)
        for batch in self.errors.watch(self.loader):
            features, targets = self._inputs(batch.to(self.run.device), epoch, step)
            loss, skipped = self._train_step(features, targets, step)
            step += 1
            self.monitor.add(loss, step=step, epoch=epoch, last=step % self.steps_per_epoch == 0)
            progress.advance(step)
            if ending := self.watch.see(step, loss, skipped):
                return ending
            if step % self.steps_per_epoch and (ending := self.state.pause(step)):
                return ending
        return None

    def _inputs(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return the features (B, D) of the batch's images, erased and mixed as the recipe says, and soft targets (B, C)."""
        images = normalise(batch.views[0][0], self.config.data.mean, self.config.data.std)
        if batch.erasures is not None:
            images = erase(images, batch.erasures)
        assert batch.labels is not None
        images, targets = self.mixing(images, batch.labels, epoch=epoch, step=step)
        with torch.no_grad(), self.run.accelerator.autocast():
            return self.features(images), targets

    def _train_step(self, features: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; return the loss and 1.0 when a gradient was not finite."""
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        self.optimizer.zero_grad(set_to_none=True)
        with self.run.accelerator.autocast():
            loss = cross_entropy(self.model(features).float(), targets)
        self.run.accelerator.backward(loss)
        if self.config.optim.clip_norm is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(self.classifier.parameters(), self.config.optim.clip_norm, each=self.config.optim.clip_each)
        return loss.detach(), guarded_step(self.optimizer, self.classifier.parameters())

    def _schedules(self, epochs: int) -> dict[str, Schedule]:
        """Return every schedule of a run of so many epochs, step by step."""
        batch_size = self.config.train.batch_size
        return optimizer_schedules(
            self.config.optim, batch_size=batch_size, epochs=epochs, steps_per_epoch=self.steps_per_epoch
        )

    def _end(self, ending: Ending, step: int) -> int:
        """Look at the test images and write the result; a run that crashed or stopped only writes."""
        facts: dict[str, Any] = {}
        if ending.complete:
            self.state.save(step)
            facts = self.monitor.test(self.judged)
        parameters = [*self.features.parameters(), *self.classifier.parameters()]
        return self.run.finish(
            ending,
            step=step,
            images=step * self.config.train.batch_size,
            train_images=len(self.splits.train),
            parameters=sum(parameter.numel() for parameter in parameters),
            metrics=self.monitor.result(),
            **self.errors.facts(),
            **facts,
        )
