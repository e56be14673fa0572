"""Verdicts: every kind of crash from made-up losses, the teacher's collapse, and that an interruption changes nothing."""

import json
import math
from collections.abc import Iterable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from common.data.augment.mixing import Mixing
from common.training.loss_watch import READ_EVERY, LossWatch, chance_loss, watch_distillation, watch_supervised
from common.training.status import (
    CrashKind,
    Ending,
    SupervisedVerdictConfig,
    TeacherVerdictConfig,
    Verdict,
    judge_teacher,
)

LN10 = math.log(10)


class OneProcess:
    """Stands for a run of one process."""

    def __init__(self, precision: str = "fp32") -> None:
        self.train = SimpleNamespace(precision=precision)
        self.accelerator = SimpleNamespace(reduce=lambda tensor, reduction: tensor)


def supervised(
    *,
    classes: int = 10,
    epochs: int = 40,
    steps_per_epoch: int = 25,
    warmup_epochs: float = 2,
    precision: str = "fp32",
    **limits: Any,
) -> LossWatch:
    run: Any = OneProcess(precision)
    return watch_supervised(
        SupervisedVerdictConfig(**limits),
        run,
        chance=math.log(classes),
        num_steps=epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=warmup_epochs,
    )


def distillation(*, outputs: int = 512, **limits: Any) -> LossWatch:
    run: Any = OneProcess()
    return watch_distillation(TeacherVerdictConfig(**limits), run, outputs=outputs, steps_per_epoch=25)


def feed(watch: LossWatch, losses: Iterable[float], *, skipped: Iterable[int] = (), first: int = 1) -> Ending | None:
    """Show the losses of steps `first`, `first` + 1, ... and return the ending that stops the run."""
    for step, loss in enumerate(losses, first):
        if ending := watch.see(step, torch.tensor(loss), torch.tensor(float(step in skipped))):
            return ending
    return None


def noisy(mean: np.ndarray, noise: float, seed: int = 0) -> list[float]:
    drawn: list[float] = (mean + noise * np.random.default_rng(seed).standard_normal(len(mean))).tolist()
    return drawn


def learning(steps: int, *, start: float = 2.6, end: float = 0.8) -> np.ndarray:
    return end + (start - end) * np.exp(-np.arange(steps) / (steps / 5))


def crash(ending: Ending | None) -> tuple[CrashKind | None, int | None]:
    assert ending is not None and ending.verdict is Verdict.CRASH and f"step {ending.step}" in ending.reason
    return ending.kind, ending.step


# Not finite


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_a_crash_at_its_step(loss: float) -> None:
    ending = feed(supervised(), [2.3] * 6 + [loss] + [2.3] * 20, skipped=[7])
    assert crash(ending) == (CrashKind.NON_FINITE_LOSS, 7)


def test_a_crash_is_read_within_a_block() -> None:
    watch, seen = supervised(steps_per_epoch=1000), 0
    while watch.see(seen + 1, torch.tensor(math.nan if seen >= 3 else 2.3), torch.zeros(())) is None:
        seen += 1
    assert seen + 1 == READ_EVERY


def test_one_gradient_that_is_not_finite_is_a_crash_of_its_own_kind() -> None:
    assert crash(feed(supervised(), [2.3] * 30, skipped=[5])) == (CrashKind.NON_FINITE_GRADIENT, 5)


def test_under_fp16_only_a_streak_is_a_crash() -> None:
    single, streak = range(1, 400, 2), range(101, 400)
    assert feed(supervised(precision="fp16"), learning(400), skipped=single) is None
    ending = feed(supervised(precision="fp16"), learning(400), skipped=streak)
    assert crash(ending) == (CrashKind.NON_FINITE_GRADIENT, 132)
    ending = feed(supervised(precision="fp16", skipped_steps=3), learning(400), skipped=streak)
    assert crash(ending) == (CrashKind.NON_FINITE_GRADIENT, 103)


# Chance


def test_chance_is_the_loss_of_the_best_constant_answer_to_mixed_smoothed_targets() -> None:
    labels = torch.tensor([0] * 12 + [1] * 6 + [2] * 2)
    mixing = Mixing(mixup=0.8, cutmix=0.0, switch=0.0, smoothing=0.1, seed=0, num_classes=4)
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
def test_a_loss_stuck_at_chance_is_a_crash_after_warmup_and_five_epochs(excess: float, noise: float) -> None:
    losses = noisy(np.full(2000, LN10 + excess), noise)
    watch = supervised(steps_per_epoch=125, epochs=16)
    assert crash(feed(watch, losses)) == (CrashKind.CHANCE_LEVEL, (2 + 5) * 125)


@pytest.mark.parametrize(
    ("shape", "at"),
    [
        ({"warmup_epochs": 0}, 5 * 125),
        ({"warmup_epochs": 1.5}, (2 + 5) * 125),
        ({"classes": 2}, (2 + 5) * 125),
        ({"chance_epochs": 3}, 2 * 125 + 3 * 250),  # two epochs make a period of 500 / 3 steps and more
        ({"chance_steps": 1250}, 2 * 125 + 5 * 250),
        (
            {"steps_per_epoch": 1, "epochs": 2000},
            100 + 5 * 100,
        ),  # a hundred epochs make a period, the first holds the warm-up
        ({"steps_per_epoch": 3, "epochs": 700}, 102 + 5 * 102),
        ({"steps_per_epoch": 600}, (2 + 5) * 600),
    ],
)
def test_when_a_run_at_chance_is_judged(shape: dict[str, Any], at: int) -> None:
    chance = math.log(shape.get("classes", 10))
    watch = supervised(**{"steps_per_epoch": 125, "epochs": 24} | shape)
    assert crash(feed(watch, [chance + 0.01] * 4200)) == (CrashKind.CHANCE_LEVEL, at)


def test_late_in_a_run_a_loss_at_chance_goes_on_to_the_end() -> None:
    watch = supervised(epochs=40, chance_until=0.4)
    assert feed(watch, [LN10] * 1000) is None and watch.at_end(1000) is not None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps_per_epoch", [1, 8, 25])
def test_a_run_that_learns_slowly_is_no_crash(seed: int, steps_per_epoch: int) -> None:
    """From above chance down to a little below it in 2000 steps of noisy losses, as under mixup."""
    slow = np.linspace(2.5, LN10 - 0.03, 2000)
    watch = supervised(steps_per_epoch=steps_per_epoch, epochs=2000 // steps_per_epoch, warmup_epochs=0)
    assert feed(watch, noisy(slow, 0.05, seed)) is None and watch.at_end(2000) is None


def test_a_rate_too_small_to_reach_chance_is_no_crash() -> None:
    """The loss stands still in the second half: the cosine has brought the rate to nothing."""
    watch = supervised()
    assert feed(watch, np.maximum(np.linspace(2.6, 2.2, 1000), 2.39)) is None and watch.at_end(1000) is None


def test_a_loss_that_falls_late_from_far_above_is_no_crash() -> None:
    losses = [*[2.4] * 20, *np.geomspace(60, 2.31, 980), *learning(1000, start=2.31)]
    watch = supervised(warmup_epochs=0, epochs=80)
    assert feed(watch, losses) is None and watch.at_end(2000) is None


@pytest.mark.parametrize("last", [LN10, LN10 + 0.003, 5.0])
def test_a_run_that_ends_at_chance_is_a_complete_crash(last: float) -> None:
    losses = [*[2.6] * 20, *np.geomspace(60, last, 800), *[last] * 180]
    watch = supervised(warmup_epochs=0)
    assert feed(watch, losses) is None
    ending = watch.at_end(1000)
    assert crash(ending) == (CrashKind.CHANCE_LEVEL, 1000) and ending is not None and ending.complete


def test_a_run_too_short_to_judge_is_no_crash() -> None:
    watch = supervised(epochs=3, warmup_epochs=0)
    assert feed(watch, [2.4] * 75) is None and watch.at_end(75) is None


def test_without_chance_only_what_is_not_finite_is_judged() -> None:
    run: Any = OneProcess()
    watch = watch_supervised(
        SupervisedVerdictConfig(), run, chance=0.0, num_steps=500, steps_per_epoch=5, warmup_epochs=0
    )
    assert feed(watch, [1.0] * 500) is None and watch.at_end(500) is None


# Exploded


def test_a_loss_that_returns_to_chance_for_good_has_exploded() -> None:
    kind, step = crash(feed(supervised(), [*learning(300), *[LN10] * 600]))
    assert kind is CrashKind.EXPLODED
    assert 300 + 100 < (step or 0) <= 300 + 100 + 60  # the mean needs some steps to follow


@pytest.mark.parametrize("height", [2.5, 1e6])
def test_a_spike_that_goes_back_has_not_exploded(height: float) -> None:
    losses = [*learning(300), *[height] * 40, *learning(660, start=2.0)]
    watch = supervised()
    assert feed(watch, losses) is None and watch.at_end(1000) is None


def test_a_spike_of_one_step_does_not_hold_the_mean_up() -> None:
    losses = [2.5 - 0.001 * step if step % 50 else 1e9 for step in range(1, 1001)]
    assert feed(supervised(), losses) is None


def test_with_long_epochs_the_loss_must_stay_high_for_epochs() -> None:
    losses = [*learning(300), *[LN10] * 2000]
    kind, step = crash(feed(supervised(steps_per_epoch=300, epochs=20), losses))
    assert kind is CrashKind.EXPLODED and (step or 0) > 300 + 600


def test_dino_explodes_above_uniform_and_not_at_it() -> None:
    ceiling = math.log(512)
    fall = learning(300, start=ceiling, end=3.0)
    assert feed(distillation(), [*fall, *[ceiling] * 600]) is None
    assert crash(feed(distillation(), [*fall, *[ceiling + 1] * 600]))[0] is CrashKind.EXPLODED
    assert feed(distillation(outputs=1), [0.0] * 600) is None


def test_dino_may_start_above_uniform() -> None:
    assert feed(distillation(), [*[9.0] * 300, *learning(300, start=9.0, end=3.0)]) is None


# Going on in spite of a crash


def test_without_stop_the_end_decides(caplog: pytest.LogCaptureFixture) -> None:
    lost = [*learning(300), *[LN10] * 300]
    watch = supervised(stop=False)
    assert feed(watch, lost) is None and "verdict.stop is false" in caplog.text
    ending = watch.at_end(600)
    assert ending is not None and ending.kind is CrashKind.EXPLODED and ending.complete and (ending.step or 600) < 600
    assert feed(watch, [1.0] * 200, first=601) is None and watch.at_end(800) is None


def test_without_stop_a_loss_that_is_not_finite_still_ends_the_run() -> None:
    assert crash(feed(supervised(stop=False), [2.3, math.nan] * 20)) == (CrashKind.NON_FINITE_LOSS, 2)


# Interruptions and several processes

RUNS = {
    "chance": [LN10 + 0.01] * 1000,
    "exploded": [*learning(200), *[2.4] * 400],
    "fp16": [2.0] * 400,
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("every", [1, 7, 16, 25, 33])
def test_an_interrupted_run_comes_to_the_same_verdict_at_the_same_step(name: str, every: int) -> None:
    shape: dict[str, Any] = {"precision": "fp16"} if name == "fp16" else {}
    skipped = range(120, 400) if name == "fp16" else ()
    shape["epochs"] = 80
    whole = supervised(**shape)
    expected = feed(whole, RUNS[name], skipped=skipped)
    assert expected is not None
    watch, seen, ending = supervised(**shape), 0, None
    while ending is None:
        ending = feed(watch, RUNS[name][seen : seen + every], skipped=skipped, first=seen + 1)
        seen += every
        restored = supervised(**shape)
        restored.load_state(json.loads(json.dumps(watch.state())))
        watch = restored
    assert ending == expected
    assert watch.state()["judge"] == whole.state()["judge"]


def test_processes_agree_where_one_alone_saw_it() -> None:
    """The losses are means over the processes: what one process alone saw reaches all at the same step."""
    run: Any = OneProcess()
    watch = watch_supervised(
        SupervisedVerdictConfig(), run, chance=LN10, num_steps=100, steps_per_epoch=5, warmup_epochs=0
    )
    theirs = torch.tensor([[2.3, 0.0], [math.nan, 0.0], [2.3, 0.0], [2.3, 0.0], [2.3, 0.0]])
    run.accelerator.reduce = lambda tensor, reduction: (tensor + theirs) / 2
    assert crash(feed(watch, [2.3] * 5)) == (CrashKind.NON_FINITE_LOSS, 2)


# DINO's collapse


@pytest.mark.parametrize(
    ("entropy", "kl", "code_entropy", "verdict"),
    [
        (1.000, 1e-4, 1.0, Verdict.COLLAPSED_UNIFORM),
        (1.000, 0.5, 1.0, Verdict.FINISHED),
        (0.6, 1e-4, 1.0, Verdict.FINISHED),
        (0.001, 1e-4, 0.001, Verdict.COLLAPSED_ONE_CODE),
        (0.001, 0.3, 0.8, Verdict.FINISHED),
    ],
)
def test_the_teacher_is_judged_by_shares_of_ln_k(
    entropy: float, kl: float, code_entropy: float, verdict: Verdict
) -> None:
    ceiling = math.log(512)
    means = {"entropy": entropy * ceiling, "kl": kl, "code_entropy": code_entropy * ceiling}
    ending = judge_teacher(TeacherVerdictConfig(), **means, outputs=512)
    assert ending.verdict is verdict and ending.complete and ending.kind is None


def test_the_thresholds_of_a_collapse_are_options() -> None:
    means = {"entropy": 0.9 * math.log(512), "kl": 0.05, "code_entropy": 0.04 * math.log(512)}
    loose = TeacherVerdictConfig(uniform_share=0.8, uniform_kl=0.1)
    assert judge_teacher(loose, **means, outputs=512).verdict is Verdict.COLLAPSED_UNIFORM
    loose = TeacherVerdictConfig(one_code_share=0.1)
    assert judge_teacher(loose, **means, outputs=512).verdict is Verdict.COLLAPSED_ONE_CODE


@pytest.mark.parametrize("cls", [SupervisedVerdictConfig, TeacherVerdictConfig])
def test_every_threshold_out_of_range_is_named(cls: Any) -> None:
    names = {each.name for each in fields(cls)} - {"stop"}
    assert {name for name, _ in cls(**dict.fromkeys(names, -1)).problems()} == names
    assert not list(cls().problems())
