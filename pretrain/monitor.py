"""Owns the look at a pre-training as it runs: the loss taken apart at every step, k-NN and feature rank every few epochs."""

from typing import Any

import torch
from torch import Tensor, nn

from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.evaluation.features import feature_rank
from common.evaluation.inference import draw_images, look_at
from common.evaluation.knn import knn_accuracy
from common.training.run import Run
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts

PARTS = ("loss", "teacher_entropy", "kl", "code_entropy")


class Monitor:
    """Average DINO's loss parts over steps and judge the teacher's features on the validation images."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.latest: dict[str, float] = {}
        """The newest k-NN accuracies and feature rank."""
        self.untrained: dict[str, float] = {}
        """The same of the network before training."""
        self.best: dict[str, float] = {}
        """The best k-NN accuracy on the validation images and its epoch."""
        self._log_sum, self._log_steps = self._zeros(), 0
        self._epoch_sum, self._epoch_steps = self._zeros(), 0
        self._means = dict.fromkeys(PARTS, float("nan"))

    def add(self, parts: LossParts, *, step: int, epoch: int, last: bool) -> None:
        """Take in a step's loss parts; write a line at the run's cadence and at an epoch's last step."""
        values = torch.stack([parts.loss.detach(), parts.teacher_entropy, parts.kl, parts.code_entropy]).float()
        self._log_sum, self._log_steps = self._log_sum + values, self._log_steps + 1
        self._epoch_sum, self._epoch_steps = self._epoch_sum + values, self._epoch_steps + 1
        if last:
            self._means = self._mean(self._epoch_sum, self._epoch_steps)
            self._epoch_sum, self._epoch_steps = self._zeros(), 0
        if last or step % self.config.train.log_every == 0:
            self.run.log(step, epoch, self._mean(self._log_sum, self._log_steps))
            self._log_sum, self._log_steps = self._zeros(), 0

    def look(self, teacher: nn.Module, *, step: int, epoch: int) -> None:
        """Judge the teacher's features on the validation images, and write a line."""
        held_out = self.splits.validation
        if held_out is None or len(held_out) < 2:
            return
        knn, seed = self.config.knn, self.config.train.seed
        queries, labels = self._features(teacher, held_out)
        self.latest = {"feature_rank": feature_rank(queries)}
        if held_out.labels is not None and self.splits.train.labels is not None:
            neighbours = draw_images(self.splits.train, knn.bank_images, seed=seed, stream="knn bank")
            skips = self.config.data.on_error == "skip"
            bank, bank_labels = self._features(teacher, neighbours, replacement_seed=seed if skips else None)
            num_classes = len(self.splits.class_names)
            self.latest |= knn_accuracy(
                queries, labels, bank, bank_labels, num_classes=num_classes, ks=knn.ks, temperature=knn.temperature
            )
        if step == 0:
            self.untrained = self.latest
        if self.latest.get("knn_top1", -1.0) > self.best.get("knn_top1", -1.0):
            self.best = {"knn_top1": self.latest["knn_top1"], "epoch": epoch}
        self.run.log(step, epoch, self.latest)

    def teacher_means(self) -> dict[str, float]:
        """Return the last epoch's means, as `judge_teacher` takes them."""
        return {
            "entropy": self._means["teacher_entropy"],
            "kl": self._means["kl"],
            "code_entropy": self._means["code_entropy"],
        }

    def summary(self) -> str:
        """Return how the run stands, for a person."""
        words = [f"{name.replace('_', ' ')} {self._means[name]:.3f}" for name in PARTS[:3]]
        words += [
            f"{word} {self.latest[key]:.1f}"
            for key, word in (("knn_top1", "k-NN"), ("feature_rank", "rank"))
            if key in self.latest
        ]
        return ", ".join(words)

    def result(self) -> dict[str, float]:
        """Return what result.json tells of the features: the last epoch's, the best epoch's and the untrained network's."""
        return (
            self.latest
            | {
                f"{name}_untrained": value
                for name, value in self.untrained.items()
                if name in ("knn_top1", "feature_rank")
            }
            | {f"best_{name}": value for name, value in self.best.items()}
            | self._means
        )

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""
        return {
            "latest": self.latest,
            "untrained": self.untrained,
            "best": self.best,
            "means": self._means,
            "log": [self.run.of_every_process(self._log_sum), self._log_steps],
            "epoch": [self.run.of_every_process(self._epoch_sum), self._epoch_steps],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self.latest, self.untrained, self.best = state["latest"], state["untrained"], state["best"]
        self._means = state["means"]
        (log, self._log_steps), (epoch, self._epoch_steps) = state["log"], state["epoch"]
        self._log_sum, self._epoch_sum = self.run.own_part(log), self.run.own_part(epoch)

    def _features(
        self, teacher: nn.Module, split: Split, *, replacement_seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (features, labels) of every image of a split, over all processes; a seed replaces broken images."""
        return look_at(
            split,
            teacher,
            self.run,
            self.config.data,
            crop=self.config.knn.crop,
            batch_size=self.config.train.batch_size,
            replacement_seed=replacement_seed,
        )

    def _mean(self, total: Tensor, steps: int) -> dict[str, float]:
        """Return the mean over steps and processes of a sum of loss parts."""
        mean = self.run.accelerator.reduce(total / max(steps, 1), reduction="mean")
        return dict(zip(PARTS, mean.tolist(), strict=True))

    def _zeros(self) -> Tensor:
        """Return an empty sum of loss parts."""
        return torch.zeros(len(PARTS), device=self.run.device)
