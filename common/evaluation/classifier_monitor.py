"""Owns the look at a classifier while it is trained: training loss, validation every few epochs, the test images once."""

from typing import Any

import torch
from torch import Tensor, nn

from common.data.config import DataConfig
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.evaluation.classification import classification_metrics, per_class_accuracy
from common.evaluation.inference import look_at
from common.training.run import Run


class ClassifierMonitor:
    """Average the loss over steps and judge a classifier on images it was not trained on."""

    words: tuple[tuple[str, str], ...] = (
        ("train_loss", "loss"),
        ("validation_top1", "validation top-1"),
        ("validation_ece", "calibration error"),
    )
    """Metrics that stand in the line for a person, with their names there."""

    def __init__(self, run: Run, splits: Splits, data: DataConfig, *, crop: float, stretch: bool = False) -> None:
        """Take the run, its images, and how an evaluation sees them: the share of the resized side kept, the aspect given up."""
        self.run, self.splits, self.data, self.crop, self.stretch = run, splits, data, crop, stretch
        self._sum, self._steps = torch.zeros((), device=run.device), 0
        self._metrics: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def add(self, loss: Tensor, *, step: int, epoch: int, last: bool) -> None:
        """Take in a step's loss; write a line at the run's cadence and at an epoch's last step."""
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if last or step % self.run.train.log_every == 0:
            mean = self.run.accelerator.reduce(self._sum / self._steps, reduction="mean")
            self._metrics["train_loss"] = float(mean)
            self.run.log(step, epoch, {"loss": float(mean)})
            self._sum, self._steps = torch.zeros_like(self._sum), 0

    def validate(self, classifier: nn.Module, *, step: int, epoch: int) -> None:
        """Judge the classifier on the validation images, and write a line."""
        if self.splits.validation is None:
            return
        logits, labels = self._outputs(classifier, self.splits.validation)
        self._keep(classification_metrics(logits, labels), best="top1", step=step, epoch=epoch)

    def test(self, classifier: nn.Module) -> dict[str, Any]:
        """Judge the classifier on the test images, once; return what result.json tells beside the metrics."""
        if self.splits.test is None or self.splits.test.labels is None:
            return {}
        logits, labels = self._outputs(classifier, self.splits.test)
        self._metrics |= {f"test_{name}": value for name, value in classification_metrics(logits, labels).items()}
        return {"per_class": per_class_accuracy(logits, labels, list(self.splits.class_names))}

    def summary(self) -> str:
        """Return how the run stands, for a person."""
        return ", ".join(f"{word} {self._metrics[key]:.3f}" for key, word in self.words if key in self._metrics)

    def result(self) -> dict[str, float]:
        """Return the metrics of result.json: the last epoch's, and the best epoch's on the validation images, so named."""
        return self._metrics | self._best

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""
        sums = self.run.of_every_process(self._sum[None])
        return {"metrics": self._metrics, "best": self._best, "sums": sums, "steps": self._steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""
        self._metrics, self._best, self._steps = state["metrics"], state["best"], state["steps"]
        self._sum = self.run.own_part(state["sums"])[0]

    def _keep(self, found: dict[str, float], *, best: str, step: int, epoch: int) -> None:
        """Take in what the validation images show, remember the epoch where `best` was highest, and write a line."""
        named = {f"validation_{name}": value for name, value in found.items()}
        self._metrics |= named
        value = named[f"validation_{best}"]
        if value > self._best.get(f"best_validation_{best}", -1.0):
            self._best = {f"best_validation_{best}": value, "best_validation_epoch": epoch}
        self.run.log(step, epoch, named)

    def _outputs(self, network: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
        """Return (outputs, labels) of every image of a split, over all processes."""
        size = self.run.train.batch_size
        return look_at(split, network, self.run, self.data, crop=self.crop, stretch=self.stretch, batch_size=size)
