"""Monitoring of a pre-training run: loss components at every step, k-NN accuracy and feature rank every few epochs."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.evaluation.features import feature_rank
from common.evaluation.inference import predict, sample_images
from common.evaluation.knn import knn_accuracy
from common.training.micro_batches import evaluation_batch
from common.training.run import Run
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts

logger = logging.getLogger(__name__)

_FALL_REMEDY = ". Try a lower optim.lr or optim.layer_decay, freeze.blocks, or lora.rank."
LOSS_COMPONENTS = ("loss", "teacher_entropy", "kl", "prototype_entropy")


class Monitor:
    """Average the components of DINO's loss over steps and evaluate the teacher's features on the validation images."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self.latest: dict[str, float] = {}
        """The latest k-NN accuracies and feature rank."""
        self.untrained: dict[str, float] = {}
        """The same for the untrained network."""
        self.best: dict[str, float] = {}
        """The best k-NN accuracy on the validation images and its epoch."""
        self.epochs_below_start: list[int] = []
        """Epochs after which the k-NN accuracy was below the starting point by more than its standard error."""
        self._log_sum, self._log_steps = self._zeros(), 0
        self._epoch_sum, self._epoch_steps = self._zeros(), 0
        self._means = dict.fromkeys(LOSS_COMPONENTS, float("nan"))

    def add(self, parts: LossParts, *, step: int, epoch: int, last: bool) -> None:
        """Accumulate a step's loss components; log every `train.log_every` steps and at the last step of an epoch."""
        values = torch.stack([parts.loss.detach(), parts.teacher_entropy, parts.kl, parts.prototype_entropy]).float()
        self._log_sum, self._log_steps = self._log_sum + values, self._log_steps + 1
        self._epoch_sum, self._epoch_steps = self._epoch_sum + values, self._epoch_steps + 1
        if last:
            self._means = self._mean(self._epoch_sum, self._epoch_steps)
            self._epoch_sum, self._epoch_steps = self._zeros(), 0
        if last or step % self.config.train.log_every == 0:
            self.run.log(step, epoch, self._mean(self._log_sum, self._log_steps))
            self._log_sum, self._log_steps = self._zeros(), 0

    def evaluate(self, teacher: nn.Module, *, step: int, epoch: int) -> None:
        """Evaluate the teacher's features on the validation images and log the metrics."""
        held_out = self.splits.validation
        if held_out is None or len(held_out) < 2:
            return
        knn, seed = self.config.knn, self.config.train.seed
        queries, labels = self._features(teacher, held_out)
        self.latest = {"feature_rank": feature_rank(queries)}
        if held_out.labels is not None and self.splits.train.labels is not None:
            neighbors = sample_images(self.splits.train.labeled(), knn.bank_images, seed=seed, stream="knn bank")
            skip_corrupt = self.config.data.on_corrupt == "skip"
            bank, bank_labels = self._features(teacher, neighbors, replacement_seed=seed if skip_corrupt else None)
            num_classes = len(self.splits.class_names)
            if bool(queries.isfinite().all() and bank.isfinite().all()):  # else the neighbors mean nothing
                self.latest |= knn_accuracy(
                    queries, labels, bank, bank_labels, num_classes=num_classes, ks=knn.ks, temperature=knn.temperature
                )
        if step == 0:
            self.untrained = self.latest
        if self.latest.get("knn_top1", -1.0) > self.best.get("knn_top1", -1.0):
            self.best = {"knn_top1": self.latest["knn_top1"], "epoch": epoch}
        if (fall := self.fall()) is not None:
            self.epochs_below_start.append(epoch)
            logger.warning("warning: epoch %d: %s%s", epoch, fall, _FALL_REMEDY if self.config.init else "")
        self.run.log(step, epoch, self.latest)

    def fall(self) -> str | None:
        """Return in words that the latest k-NN accuracy is below the starting point, or None.

        Below is a difference of more than the standard error of the accuracy p at the start over n images, sqrt(p (1 - p) / n).
        """
        start, now = (metrics.get("knn_top1") for metrics in (self.untrained, self.latest))
        if start is None or now is None or self.splits.validation is None:
            return None
        num_images = len(self.splits.validation)
        error = (start * (100 - start) / num_images) ** 0.5
        if not now < start - error:
            return None
        return (
            f"k-NN top-1 {now:.1f} is below the {start:.1f} at the start ({num_images} validation images, standard error "
            f"{error:.1f})"
        )

    def teacher_means(self) -> dict[str, float]:
        """Return the means of the last epoch, as keyword arguments of `teacher_status`."""
        return {
            "entropy": self._means["teacher_entropy"],
            "kl": self._means["kl"],
            "prototype_entropy": self._means["prototype_entropy"],
        }

    def summary(self) -> str:
        """Return a human-readable one-line summary of the metrics."""
        items = [f"{name.replace('_', ' ')} {self._means[name]:.3f}" for name in LOSS_COMPONENTS[:3]]
        items += [
            f"{title} {self.latest[key]:.1f}"
            for key, title in (("knn_top1", "k-NN"), ("feature_rank", "rank"))
            if key in self.latest
        ]
        return ", ".join(items)

    def result(self) -> dict[str, float]:
        """Return the metrics for result.json: those of the last epoch, the best epoch and the untrained network."""
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

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint; must be called on every process."""
        return {
            "latest": self.latest,
            "untrained": self.untrained,
            "best": self.best,
            "epochs_below_start": self.epochs_below_start,
            "means": self._means,
            "log": [self.run.gather_rows(self._log_sum), self._log_steps],
            "epoch": [self.run.gather_rows(self._epoch_sum), self._epoch_steps],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        self.latest, self.untrained, self.best = state["latest"], state["untrained"], state["best"]
        self.epochs_below_start = list(state.get("epochs_below_start", ()))  # absent in checkpoints of earlier versions
        self._means = state["means"]
        (log, self._log_steps), (epoch, self._epoch_steps) = state["log"], state["epoch"]
        self._log_sum, self._epoch_sum = self.run.local_shard(log), self.run.local_shard(epoch)

    def _features(
        self, teacher: nn.Module, split: Split, *, replacement_seed: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (features, labels) of all images of a split, gathered over processes; with a seed, corrupt images are replaced."""
        return predict(
            split,
            teacher,
            self.run,
            self.config.data,
            crop_pct=self.config.knn.crop_pct,
            batch_size=evaluation_batch(self.config.train, self.run.num_processes),
            replacement_seed=replacement_seed,
        )

    def _mean(self, total: Tensor, steps: int) -> dict[str, float]:
        """Return the mean over steps and processes of summed loss components."""
        mean = self.run.accelerator.reduce(total / max(steps, 1), reduction="mean")
        return dict(zip(LOSS_COMPONENTS, mean.tolist(), strict=True))

    def _zeros(self) -> Tensor:
        """Return a zero-initialized sum of loss components."""
        return torch.zeros(len(LOSS_COMPONENTS), device=self.run.device)
