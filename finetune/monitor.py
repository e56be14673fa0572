"""Owns the look at a supervised run: training loss, validation every few epochs, the test images once."""

from typing import Any

import torch
from torch import Tensor, nn

from common.data.loader import view_loader
from common.data.sampler import EvaluationSampler
from common.data.split import Split
from common.data.splits import Splits
from common.data.supervised import EvaluationView
from common.evaluation.classification import classification_metrics, per_class_accuracy
from common.evaluation.features import gather_blocks, network_outputs
from common.training.run import Run
from finetune.config import FinetuneConfig


class Monitor:
    """Average the loss over steps and judge the network on images it was not trained on."""

    words: tuple[tuple[str, str], ...] = (
        ("train_loss", "loss"),
        ("validation_top1", "validation top-1"),
        ("validation_ece", "calibration error"),
    )
    """Metrics that stand in the line for a person, with their names there."""

    def __init__(self, config: FinetuneConfig, run: Run, splits: Splits) -> None:
        self.config, self.run, self.splits = config, run, splits
        self._sum, self._steps = torch.zeros((), device=run.device), 0
        self._metrics: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def add(self, loss: Tensor, *, step: int, epoch: int, last: bool) -> None:
        """Take in a step's loss; write a line at the run's cadence and at an epoch's last step."""
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if last or step % self.config.train.log_every == 0:
            mean = self.run.accelerator.reduce(self._sum / self._steps, reduction="mean")
            self._metrics["train_loss"] = float(mean)
            self.run.log(step, epoch, {"loss": float(mean)})
            self._sum, self._steps = torch.zeros_like(self._sum), 0

    def validate(self, network: nn.Module, *, step: int, epoch: int) -> None:
        """Judge the network on the validation images, and write a line."""
        if self.splits.validation is None:
            return
        logits, labels = self._outputs(network, self.splits.validation)
        self._keep(classification_metrics(logits, labels), best="top1", step=step, epoch=epoch)

    def test(self, network: nn.Module) -> dict[str, Any]:
        """Judge the network on the test images, once; return what result.json tells beside the metrics."""
        if self.splits.test is None or self.splits.test.labels is None:
            return {}
        logits, labels = self._outputs(network, self.splits.test)
        self._metrics |= {f"test_{name}": value for name, value in classification_metrics(logits, labels).items()}
        return {"per_class": per_class_accuracy(logits, labels, list(self.splits.class_names))}

    def summary(self) -> str:
        """Return how the run stands, for a person."""
        return ", ".join(f"{word} {self._metrics[key]:.3f}" for key, word in self.words if key in self._metrics)

    def result(self) -> dict[str, float]:
        """Return the metrics of result.json: the last epoch's, and the best epoch's on the validation images."""
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
        sampler = EvaluationSampler(
            len(split), self.config.train.batch_size, rank=self.run.rank, num_processes=self.run.num_processes
        )
        data = self.config.data
        view = EvaluationView(data.image_size, self.config.augment.evaluation_crop, stretch=self.config.augment.stretch)
        loader = view_loader(split, view, sampler, workers=data.workers)
        with self.run.accelerator.autocast():
            outputs, indices = network_outputs(network, loader, mean=data.mean, std=data.std, device=self.run.device)
        assert split.labels is not None
        labels = torch.as_tensor(split.labels, device=self.run.device)[indices]
        gathered = [gather_blocks(block, len(split), self.run.accelerator) for block in (outputs, labels)]
        return gathered[0], gathered[1]
