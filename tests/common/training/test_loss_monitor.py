"""Tests of divergence detection: every kind of divergence from synthetic losses, interruptions, several processes."""

import json
import math
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from common.data.augment.mixing import Mixing
from common.training.loss_monitor import (
    READ_EVERY,
    LossMonitor,
    chance_loss,
    monitor_dino_loss,
    monitor_supervised_loss,
)
from common.training.status import (
    DivergenceKind,
    RunOutcome,
    RunStatus,
    SupervisedStatusConfig,
    TeacherStatusConfig,
)

LN10 = math.log(10)


class OneProcess:
    """A run of one process."""

    def __init__(self) -> None:
        self.accelerator = SimpleNamespace(reduce=lambda tensor, reduction: tensor)


def supervised(
    *,
    classes: int = 10,
    epochs: int = 40,
    steps_per_epoch: int = 25,
    warmup_epochs: float = 2,
    precision: str = "fp32",
    **limits: Any,
) -> LossMonitor:
    run: Any = OneProcess()
    return monitor_supervised_loss(
        SupervisedStatusConfig(**limits),
        run,
        precision=precision,
        chance=math.log(classes),
        num_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup_epochs,
    )


def distillation(*, out_dim: int = 512, **limits: Any) -> LossMonitor:
    run: Any = OneProcess()
    return monitor_dino_loss(TeacherStatusConfig(**limits), run, precision="fp32", out_dim=out_dim, steps_per_epoch=25)


def feed(
    watch: LossMonitor, losses: Iterable[float], *, skipped: Iterable[int] = (), first: int = 1
) -> RunOutcome | None:
    """Pass the losses of steps `first`, `first` + 1, ... to `watch` and return the outcome that stops the run."""
    for step, loss in enumerate(losses, first):
        if outcome := watch.update(step, torch.tensor(loss), torch.tensor(float(step in skipped))):
            return outcome
    return None


def noisy(mean: np.ndarray, noise: float, seed: int = 0) -> list[float]:
    losses: list[float] = (mean + noise * np.random.default_rng(seed).standard_normal(len(mean))).tolist()
    return losses


def learning(steps: int, *, start: float = 2.6, end: float = 0.8) -> np.ndarray:
    return end + (start - end) * np.exp(-np.arange(steps) / (steps / 5))


def divergence(outcome: RunOutcome | None) -> tuple[DivergenceKind | None, int | None]:
    """Return the kind and step of an outcome that must be a divergence."""
    assert outcome is not None and outcome.status is RunStatus.DIVERGED and f"step {outcome.step}" in outcome.reason
    return outcome.kind, outcome.step


# Non-finite values


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_non_finite_loss_is_a_divergence_at_its_step(loss: float) -> None:
    outcome = feed(supervised(), [2.3] * 6 + [loss] + [2.3] * 20, skipped=[7])
    assert divergence(outcome) == (DivergenceKind.NON_FINITE_LOSS, 7)


def test_a_divergence_is_detected_within_a_block_of_steps() -> None:
    watch, done = supervised(steps_per_epoch=1000), 0
    while watch.update(done + 1, torch.tensor(math.nan if done >= 3 else 2.3), torch.zeros(())) is None:
        done += 1
    assert done + 1 == READ_EVERY


def test_one_non_finite_gradient_is_a_divergence_of_its_own_kind() -> None:
    assert divergence(feed(supervised(), [2.3] * 30, skipped=[5])) == (DivergenceKind.NON_FINITE_GRADIENT, 5)


def test_under_fp16_only_consecutive_skipped_steps_are_a_divergence() -> None:
    isolated, consecutive = range(1, 400, 2), range(101, 400)
    assert feed(supervised(precision="fp16"), learning(400), skipped=isolated) is None
    outcome = feed(supervised(precision="fp16"), learning(400), skipped=consecutive)
    assert divergence(outcome) == (DivergenceKind.NON_FINITE_GRADIENT, 132)
    outcome = feed(supervised(precision="fp16", skipped_steps=3), learning(400), skipped=consecutive)
    assert divergence(outcome) == (DivergenceKind.NON_FINITE_GRADIENT, 103)


# Chance level


def test_chance_is_the_loss_of_the_best_constant_prediction_for_mixed_smoothed_targets() -> None:
    labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
    mixing = Mixing(mixup_alpha=0.8, cutmix_alpha=0.0, switch_prob=0.0, label_smoothing=0.1, seed=0, num_classes=4)
    _, targets = mixing(torch.zeros(20, 3, 4, 4), labels[torch.randperm(20)], epoch=0, step=0)
    logits = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100, tolerance_change=1e-12)

    def closure() -> float:
        optimizer.zero_grad()
        loss = cross_entropy(logits.expand(20, 4), targets)
        loss.backward()
        return loss.item()

    optimizer.step(closure)
    assert chance_loss(labels.numpy(), 4, 0.1) == pytest.approx(closure(), abs=1e-5)
    assert chance_loss(np.arange(10), 10, 0.1) == pytest.approx(LN10)
    assert chance_loss(np.zeros(3, dtype=np.int64), 2, 0.0) == 0.0


@pytest.mark.parametrize(("excess", "noise"), [(0.0, 0.002), (0.01, 0.02), (0.1, 0.02)])
def test_a_loss_stuck_at_chance_is_a_divergence_after_warmup_and_five_epochs(excess: float, noise: float) -> None:
    losses = noisy(np.full(2000, LN10 + excess), noise)
    watch = supervised(steps_per_epoch=125, epochs=16)
    assert divergence(feed(watch, losses)) == (DivergenceKind.CHANCE_LEVEL, (2 + 5) * 125)


@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ({"warmup_epochs": 0}, 5 * 125),
        ({"warmup_epochs": 1.5}, (2 + 5) * 125),
        ({"classes": 2}, (2 + 5) * 125),
        ({"chance_epochs": 3}, 2 * 125 + 3 * 250),  # a period is two epochs, at least 500 / 3 steps
        ({"chance_steps": 1250}, 2 * 125 + 5 * 250),
        (
            {"steps_per_epoch": 1, "epochs": 2000},
            100 + 5 * 100,
        ),  # a period is a hundred epochs, and the first contains the warm-up
        ({"steps_per_epoch": 3, "epochs": 700}, 102 + 5 * 102),
        ({"steps_per_epoch": 600}, (2 + 5) * 600),
    ],
)
def test_the_step_at_which_a_run_at_chance_is_stopped(shape: dict[str, Any], at: int) -> None:
    chance = math.log(shape.get("classes", 10))
    watch = supervised(**{"steps_per_epoch": 125, "epochs": 24} | shape)
    assert divergence(feed(watch, [chance + 0.01] * 4200)) == (DivergenceKind.CHANCE_LEVEL, at)


def test_a_loss_at_chance_late_in_a_run_does_not_stop_it_early() -> None:
    watch = supervised(epochs=40, chance_until=0.4)
    assert feed(watch, [LN10] * 1000) is None and watch.finalize(1000) is not None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps_per_epoch", [1, 8, 25])
def test_a_run_that_learns_slowly_has_not_diverged(seed: int, steps_per_epoch: int) -> None:
    """From above chance to slightly below it in 2000 steps of noisy losses, as under mixup."""
    slow = np.linspace(2.5, LN10 - 0.03, 2000)
    watch = supervised(steps_per_epoch=steps_per_epoch, epochs=2000 // steps_per_epoch, warmup_epochs=0)
    assert feed(watch, noisy(slow, 0.05, seed)) is None and watch.finalize(2000) is None


def test_a_rate_too_small_to_reach_chance_is_not_a_divergence() -> None:
    """The loss is constant in the second half, where the cosine has reduced the rate to almost 0."""
    watch = supervised()
    assert feed(watch, np.maximum(np.linspace(2.6, 2.2, 1000), 2.39)) is None and watch.finalize(1000) is None


def test_a_loss_that_decreases_late_from_far_above_chance_is_not_a_divergence() -> None:
    losses = [*[2.4] * 20, *np.geomspace(60, 2.31, 980), *learning(1000, start=2.31)]
    watch = supervised(warmup_epochs=0, epochs=80)
    assert feed(watch, losses) is None and watch.finalize(2000) is None


@pytest.mark.parametrize("last", [LN10, LN10 + 0.003, 5.0])
def test_a_run_that_ends_at_chance_has_diverged_and_is_complete(last: float) -> None:
    losses = [*[2.6] * 20, *np.geomspace(60, last, 800), *[last] * 180]
    watch = supervised(warmup_epochs=0)
    assert feed(watch, losses) is None
    outcome = watch.finalize(1000)
    assert divergence(outcome) == (DivergenceKind.CHANCE_LEVEL, 1000) and outcome is not None and outcome.complete


def test_a_run_of_too_few_steps_has_not_diverged() -> None:
    watch = supervised(epochs=3, warmup_epochs=0)
    assert feed(watch, [2.4] * 75) is None and watch.finalize(75) is None


def test_without_chance_only_non_finite_values_are_a_divergence() -> None:
    run: Any = OneProcess()
    watch = monitor_supervised_loss(
        SupervisedStatusConfig(),
        run,
        precision="fp32",
        chance=0.0,
        num_steps=500,
        steps_per_epoch=5,
        warmup_epochs=0,
    )
    assert feed(watch, [1.0] * 500) is None and watch.finalize(500) is None


# Loss rebound


def test_a_loss_that_returns_to_chance_permanently_is_a_rebound() -> None:
    kind, step = divergence(feed(supervised(), [*learning(300), *[LN10] * 600]))
    assert kind is DivergenceKind.LOSS_REBOUND
    assert 300 + 100 < (step or 0) <= 300 + 100 + 60  # the moving average lags by some steps


@pytest.mark.parametrize("height", [2.5, 1e6])
def test_a_spike_that_recovers_is_not_a_rebound(height: float) -> None:
    losses = [*learning(300), *[height] * 40, *learning(660, start=2.0)]
    watch = supervised()
    assert feed(watch, losses) is None and watch.finalize(1000) is None


def test_a_spike_of_one_step_does_not_keep_the_average_high() -> None:
    losses = [2.5 - 0.001 * step if step % 50 else 1e9 for step in range(1, 1001)]
    assert feed(supervised(), losses) is None


def test_with_long_epochs_the_loss_must_stay_high_for_epochs() -> None:
    losses = [*learning(300), *[LN10] * 2000]
    kind, step = divergence(feed(supervised(steps_per_epoch=300, epochs=20), losses))
    assert kind is DivergenceKind.LOSS_REBOUND and (step or 0) > 300 + 600


def test_in_dino_a_rebound_is_above_ln_k_and_not_at_it() -> None:
    max_entropy = math.log(512)
    decrease = learning(300, start=max_entropy, end=3.0)
    assert feed(distillation(), [*decrease, *[max_entropy] * 600]) is None
    outcome = feed(distillation(), [*decrease, *[max_entropy + 1] * 600])
    assert divergence(outcome)[0] is DivergenceKind.LOSS_REBOUND
    assert feed(distillation(out_dim=1), [0.0] * 600) is None


def test_dino_may_start_above_ln_k() -> None:
    assert feed(distillation(), [*[9.0] * 300, *learning(300, start=9.0, end=3.0)]) is None


# Training on after a divergence


def test_without_stop_the_end_of_the_run_decides(caplog: pytest.LogCaptureFixture) -> None:
    losses = [*learning(300), *[LN10] * 300]
    watch = supervised(stop=False)
    assert feed(watch, losses) is None and "status.stop is false" in caplog.text
    outcome = watch.finalize(600)
    assert outcome is not None and outcome.kind is DivergenceKind.LOSS_REBOUND and outcome.complete
    assert (outcome.step or 600) < 600
    assert feed(watch, [1.0] * 200, first=601) is None and watch.finalize(800) is None


def test_without_stop_a_non_finite_loss_still_ends_the_run() -> None:
    outcome = feed(supervised(stop=False), [2.3, math.nan] * 20)
    assert divergence(outcome) == (DivergenceKind.NON_FINITE_LOSS, 2)


# Interruptions and several processes

RUNS = {
    "chance": [LN10 + 0.01] * 1000,
    "loss_rebound": [*learning(200), *[2.4] * 400],
    "fp16": [2.0] * 400,
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("every", [1, 7, 16, 25, 33])
def test_an_interrupted_run_has_the_same_outcome_at_the_same_step(name: str, every: int) -> None:
    shape: dict[str, Any] = {"precision": "fp16"} if name == "fp16" else {}
    skipped = range(120, 400) if name == "fp16" else ()
    shape["epochs"] = 80
    uninterrupted = supervised(**shape)
    expected = feed(uninterrupted, RUNS[name], skipped=skipped)
    assert expected is not None
    watch, done, outcome = supervised(**shape), 0, None
    while outcome is None:
        outcome = feed(watch, RUNS[name][done : done + every], skipped=skipped, first=done + 1)
        done += every
        restored = supervised(**shape)
        restored.load_state_dict(json.loads(json.dumps(watch.state_dict())))
        watch = restored
    assert outcome == expected
    assert watch.state_dict()["detector"] == uninterrupted.state_dict()["detector"]


def test_all_processes_detect_a_divergence_in_one_of_them() -> None:
    """The losses are means over the processes, so a non-finite loss in one process reaches all at the same step."""
    run: Any = OneProcess()
    watch = monitor_supervised_loss(
        SupervisedStatusConfig(),
        run,
        precision="fp32",
        chance=LN10,
        num_steps=100,
        steps_per_epoch=5,
        warmup_epochs=0,
    )
    other_process = torch.tensor([[2.3, 0.0], [math.nan, 0.0], [2.3, 0.0], [2.3, 0.0], [2.3, 0.0]])
    run.accelerator.reduce = lambda tensor, reduction: (tensor + other_process) / 2
    assert divergence(feed(watch, [2.3] * 5)) == (DivergenceKind.NON_FINITE_LOSS, 2)
