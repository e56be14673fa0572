"""Linear evaluation: a linear classifier trained on the features of a frozen backbone.

The protocol is DINO's (Caron et al. 2021, section 4.1): SGD without weight decay, random resized crops and flips, a cosine
schedule to 0 (by step here, by epoch there). The last epoch is reported; the best epoch is labeled as such.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.data.augment.erasing import erase
from common.data.augment.mixing import build_mixing
from common.data.augment.supervised import build_supervised_transform, color_warnings
from common.data.loading.loader import Batch, normalize
from common.data.loading.sampler import EpochSampler
from common.data.loading.shard_order import build_shard_order
from common.data.splits.roles import Splits
from common.evaluation.classifier_evaluator import ClassifierEvaluator
from common.evaluation.config import LinearConfig
from common.evaluation.frozen import build_frozen, feature_dim, linear_features
from common.evaluation.supervised_monitor import SupervisedMonitor
from common.training.loop import build_loop
from common.training.loss_monitor import DivergenceDetector, LossMonitor
from common.training.normalization import with_normalization
from common.training.open_images import open_images
from common.training.optimizers import (
    build_optimizer,
    clip_gradients,
    guarded_step,
    optimizer_schedules,
    optimizer_warnings,
    set_step,
)
from common.training.run import Run, start_run
from common.training.schedules import Schedule
from common.training.status import RunOutcome, RunStatus, StatusConfig

logger = logging.getLogger(__name__)


def evaluate(config: LinearConfig, overrides: list[str]) -> int:
    """Train and evaluate the classifier, from the last checkpoint if there is one; return the exit code."""
    run = start_run(config, stage="linear", precision=config.train.precision, overrides=overrides)
    config = run.config
    if run.has_ended():
        return 0
    splits = open_images(config.data, run, labeled=True, init=config.init)
    return LinearEvaluation(with_normalization(config, run), run, splits).train()


def build_features(config: LinearConfig) -> nn.Module:
    """Return the network from normalized images to the features that the recipe names."""
    network = build_frozen(
        config.model,
        config.init,
        image_size=config.data.image_size,
        seed=config.train.seed,
        in_chans=config.data.channels,
    )
    return linear_features(network, blocks=config.blocks, average_pool=config.average_pool).eval()


def build_classifier(dim: int, num_classes: int, *, seed: int) -> nn.Linear:
    """Return the linear classifier as DINO initializes it: weights normal with standard deviation 0.01, biases zero."""
    classifier = nn.Linear(dim, num_classes)
    with torch.no_grad():
        classifier.weight.normal_(std=0.01, generator=torch.Generator().manual_seed(seed))
        classifier.bias.zero_()
    return classifier


def linear_warnings(config: LinearConfig) -> Iterator[str]:
    """Yield a warning, with its remedy, for every setting that is valid but has no or another effect than meant."""
    yield from optimizer_warnings(config.optim, config.train.epochs, batch_size=config.train.batch_size)
    yield from color_warnings(config.augment, channels=config.data.channels)


class LinearEvaluation:
    """One linear evaluation: the frozen features, the classifier on top of them, and the step."""

    def __init__(self, config: LinearConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.features = build_features(config).to(run.device)
        dim, num_classes = (
            feature_dim(self.features, config.data.image_size, config.data.channels),
            len(splits.class_names),
        )
        self.classifier = build_classifier(dim, num_classes, seed=config.train.seed).to(run.device)
        optimizer = build_optimizer(config.optim, self.classifier)
        self.model, self.optimizer = run.accelerator.prepare(self.classifier, optimizer)
        sampler = EpochSampler(
            len(splits.train),
            config.train.batch_size,
            config.train.seed,
            rank=run.rank,
            num_processes=run.num_processes,
            repeats=config.augment.aug_repeats,
            shard_order=build_shard_order(config.train.shuffle_shards, config.data, splits.train),
        )
        self.mixing = build_mixing(config.augment, config.train.seed, num_classes)
        self.mixing.check_pairs(config.train.batch_size // run.num_processes)
        self.steps_per_epoch = sampler.steps_per_epoch
        self.schedules = self._schedules(config.train.epochs)
        for warning in linear_warnings(config):
            logger.warning("warning: %s", warning)
        evaluator = ClassifierEvaluator(
            run,
            splits,
            config.data,
            batch_size=config.train.batch_size,
            crop_pct=config.augment.crop_pct,
            squash=config.augment.crop_mode == "squash",
        )
        self.monitor = SupervisedMonitor(run, evaluator, log_every=config.train.log_every)
        # No rules on chance level and loss rebound: features without information for a linear classifier are a result.
        detector = DivergenceDetector([], allowed_skips=StatusConfig().allowed_skips(config.train.precision), stop=True)
        self.loop = build_loop(
            run,
            config.train,
            config.data,
            splits,
            sampler,
            build_supervised_transform(
                config.augment, config.data.image_size, config.train.seed, mean=config.data.statistics()[0]
            ),
            {"classifier": self.classifier},  # the backbone is frozen, so checkpoints leave it out
            self.optimizer,
            monitor=self.monitor,
            watch=LossMonitor(detector, run, steps_per_epoch=self.steps_per_epoch),
        )

    @property
    def evaluated(self) -> nn.Module:
        """Return the network from normalized images to logits."""
        return nn.Sequential(self.features, self.classifier)

    def train(self) -> int:
        """Train to the last step, a signal or a divergence; evaluate on the test images once; return the exit code."""
        loop = self.loop
        loop.restore(self._schedules)
        for step, batch in loop:
            features, targets = self._inputs(batch, loop.epoch, step)
            loss, skipped = self._train_step(features, targets, step)
            loop.report(loss, skipped)
            if loop.is_evaluation_due(self.config.train.evaluate_every):
                self.monitor.validate(self.evaluated, step=loop.step, epoch=loop.epoch)
        return self._end(loop.outcome or RunOutcome(RunStatus.FINISHED, self.monitor.summary(), complete=True))

    def _inputs(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return the features (B, D) of the batch's images, erased and mixed as the recipe says, and soft targets (B, C)."""
        images = normalize(batch.views[0][0], *self.config.data.statistics())
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
        if self.config.optim.clip_grad is not None:
            self.run.accelerator.unscale_gradients(self.optimizer)
            clip_gradients(
                self.classifier.parameters(),
                self.config.optim.clip_grad,
                per_parameter=self.config.optim.clip_per_parameter,
            )
        return loss.detach(), guarded_step(self.optimizer)

    def _schedules(self, epochs: int) -> dict[str, Schedule]:
        """Return every schedule of a run of so many epochs, step by step."""
        batch_size = self.config.train.batch_size
        return optimizer_schedules(
            self.config.optim, batch_size=batch_size, epochs=epochs, steps_per_epoch=self.steps_per_epoch
        )

    def _end(self, outcome: RunOutcome) -> int:
        """Evaluate on the test images and write the result; if the run did not complete, only write."""
        facts: dict[str, Any] = {}
        if outcome.complete:
            self.loop.save()
            facts = self.monitor.test(self.evaluated)
            outcome = self.monitor.checked(outcome)
        parameters = [*self.features.parameters(), *self.classifier.parameters()]
        return self.loop.finish(
            outcome,
            train_images=len(self.splits.train),
            parameters=sum(parameter.numel() for parameter in parameters),
            metrics=self.monitor.result(),
            **facts,
        )
