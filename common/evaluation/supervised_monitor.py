"""Monitoring of supervised training: mean training loss, validation metrics every few epochs, test metrics once."""

import math
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from common.evaluation.image_predictions import save_predictions
from common.evaluation.predictions import Predictions
from common.training.run import Run
from common.training.status import RunOutcome, RunStatus, non_finite_output

Part = Literal["validation", "test"]


class Evaluation(NamedTuple):
    """The result of an evaluation."""

    metrics: dict[str, float]
    details: dict[str, Any]
    """Further entries of result.json, such as the accuracy of every class."""
    predictions: Predictions | None = None
    """Predictions for the images, which the metrics are means over; for test images only."""


class Evaluator(Protocol):
    """Evaluates a network on the validation and test images."""

    best_metric: str
    """The validation metric, higher is better, that selects the best epoch."""
    summary_names: dict[str, str]
    """Names of the metrics in the one-line summary, by metric."""

    def evaluate(self, network: nn.Module, part: Part) -> Evaluation | None:
        """Return the metrics of `network`; none without labeled images of this part. Every process calls it."""
        ...


class SupervisedMonitor:
    """Average the loss over steps and evaluate the network on the validation and test images."""

    def __init__(self, run: Run, evaluator: Evaluator, *, log_every: int) -> None:
        """Take the run, the evaluator, and the number of steps between two logged losses."""
        self.run, self.evaluator, self.log_every = run, evaluator, log_every
        self._sum, self._steps = torch.zeros((), device=run.device), 0
        self._metrics: dict[str, float] = {}
        self._best: dict[str, float] = {}

    def add(self, loss: Tensor, *, step: int, epoch: int, last: bool) -> None:
        """Accumulate a step's loss; log the mean every `log_every` steps and at the last step of an epoch."""
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if last or step % self.log_every == 0:
            mean = self.run.accelerator.reduce(self._sum / self._steps, reduction="mean")
            self._metrics["train_loss"] = float(mean)
            self.run.log(step, epoch, {"loss": float(mean)})
            self._sum, self._steps = torch.zeros_like(self._sum), 0

    def validate(self, network: nn.Module, *, step: int, epoch: int) -> None:
        """Evaluate on the validation images, if any; log the metrics and remember the best epoch."""
        evaluation = self.evaluator.evaluate(network, "validation")
        if evaluation is None:
            return
        metrics = {f"validation_{name}": value for name, value in evaluation.metrics.items()}
        self._metrics |= metrics
        best = self.evaluator.best_metric
        if metrics[f"validation_{best}"] > self._best.get(f"best_validation_{best}", -1.0):
            self._best = {f"best_validation_{best}": metrics[f"validation_{best}"], "best_validation_epoch": epoch}
        self.run.log(step, epoch, metrics)

    def test(self, network: nn.Module) -> dict[str, Any]:
        """Evaluate on the test images, if any, and write the predictions; return the entries of result.json except the metrics."""
        evaluation = self.evaluator.evaluate(network, "test")
        if evaluation is None:
            return {}
        self._metrics |= {f"test_{name}": value for name, value in evaluation.metrics.items()}
        if evaluation.predictions is not None:
            save_predictions(self.run, evaluation.predictions)
        return evaluation.details

    def checked(self, outcome: RunOutcome) -> RunOutcome:
        """Return the outcome of a training, or a divergence if its last evaluations have a metric that is not finite.

        Of an image whose logits are NaN the first class is the prediction: the accuracy is a number, and says nothing.
        """
        values = {name: self._metrics[name] for name in self._metrics if name.startswith(("validation_", "test_"))}
        unusable = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if outcome.status is not RunStatus.FINISHED or unusable is None:
            return outcome
        return non_finite_output(unusable, values[unusable], complete=outcome.complete)

    def summary(self) -> str:
        """Return the latest metrics in one line."""
        names = {"train_loss": "loss"} | self.evaluator.summary_names
        return ", ".join(f"{name} {self._metrics[key]:.3f}" for key, name in names.items() if key in self._metrics)

    def result(self) -> dict[str, float]:
        """Return the metrics of result.json: the last epoch's, and under `best_validation_*` the best epoch's."""
        return self._metrics | self._best

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""
        sums = self.run.gather_rows(self._sum[None])
        return {"metrics": self._metrics, "best": self._best, "sums": sums, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self._metrics, self._best, self._steps = state["metrics"], state["best"], state["steps"]
        self._sum = self.run.local_shard(state["sums"])[0]
