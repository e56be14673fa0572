"""Tests of the supervised monitor: mean losses, the best epoch, missing splits, state."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from common.evaluation.supervised_monitor import Evaluation, SupervisedMonitor
from common.training.status import RunOutcome, RunStatus


class Run:
    """A single-process run that records what is logged."""

    device = torch.device("cpu")
    accelerator = SimpleNamespace(reduce=lambda tensor, reduction: tensor)

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log(self, step: int, epoch: int, values: dict[str, float]) -> None:
        self.lines.append((step, values))

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.clone()

    local_shard = gather_rows


class Evaluator:
    """Return prepared accuracies, one per call."""

    best_metric = "top1"
    summary_names = {"validation_top1": "validation top-1"}

    def __init__(self, *top1: float | None) -> None:
        self.top1 = iter(top1)

    def evaluate(self, network: nn.Module, part: str) -> Evaluation | None:
        top1 = next(self.top1)
        return None if top1 is None else Evaluation({"top1": top1}, {"part": part})


def monitor(*top1: float | None) -> Any:
    return SupervisedMonitor(Run(), Evaluator(*top1), log_every=2)  # type: ignore[arg-type]


def add(one: Any, *losses: float, last: bool = False) -> None:
    for step, loss in enumerate(losses, 1):
        one.add(torch.tensor(loss), step=step, epoch=0, last=last and step == len(losses))


def test_mean_loss_is_logged_every_few_steps_and_at_the_end_of_an_epoch() -> None:
    one = monitor()
    add(one, 1.0, 3.0, 5.0, last=True)
    assert one.run.lines == [(2, {"loss": 2.0}), (3, {"loss": 5.0})] and one.result() == {"train_loss": 5.0}


def test_best_epoch_is_reported_next_to_the_last() -> None:
    one = monitor(50.0, 70.0, 60.0)
    for epoch in (1, 2, 3):
        one.validate(nn.Identity(), step=epoch, epoch=epoch)
    assert one.result() == {"validation_top1": 60.0, "best_validation_top1": 70.0, "best_validation_epoch": 2}
    assert one.summary() == "validation top-1 60.000"


def test_missing_splits_are_skipped() -> None:
    one = monitor(None, None)
    one.validate(nn.Identity(), step=1, epoch=1)
    assert one.test(nn.Identity()) == {} and one.result() == {} and one.run.lines == []


def test_test_metrics_and_details() -> None:
    one = monitor(80.0)
    assert one.test(nn.Identity()) == {"part": "test"} and one.result() == {"test_top1": 80.0}


def test_state_continues_a_partial_mean() -> None:
    one, other = monitor(70.0), monitor()
    one.validate(nn.Identity(), step=0, epoch=0)
    add(one, 1.0)
    other.load_state_dict(one.state_dict())
    for each in (one, other):
        each.add(torch.tensor(2.0), step=2, epoch=0, last=False)
    assert other.result() == one.result() and other.result()["train_loss"] == 1.5


@pytest.mark.parametrize(("last", "status"), [(80.0, "finished"), (math.nan, "diverged")])
def test_a_run_whose_last_outputs_are_not_finite_has_diverged(last: float, status: str) -> None:
    """Its accuracy is that of a constant prediction, which looked like the result of a network that learns nothing."""
    one, finished = monitor(math.nan, 70.0, last), RunOutcome(RunStatus.FINISHED, "done", complete=True)
    one.validate(nn.Identity(), step=1, epoch=0)
    assert one.checked(finished).kind == "non_finite_output"
    one.validate(nn.Identity(), step=2, epoch=1)
    one.test(nn.Identity())
    assert one.checked(finished).status == status and one.checked(finished).complete
    stopped = RunOutcome(RunStatus.INTERRUPTED, "a signal")
    assert one.checked(stopped) is stopped
