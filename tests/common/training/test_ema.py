"""Tests of the EMA of weights: against a loop, and its lag."""

import re

import numpy as np
import pytest
import torch

from common.training.ema import average_momenta, average_warnings, update_ema


def test_update_matches_the_loop() -> None:
    torch.manual_seed(0)
    average, current = [torch.randn(3), torch.randn(2, 2)], [torch.randn(3), torch.randn(2, 2)]
    wanted = [0.75 * a + 0.25 * c for a, c in zip(average, current, strict=True)]
    update_ema(average, current, 0.75)
    assert all(torch.allclose(a, w, atol=1e-7) for a, w in zip(average, wanted, strict=True))


def test_without_momentum_the_average_equals_the_weights_bitwise() -> None:
    average, current = [torch.randn(100)], [torch.randn(100) * 1e-3]
    update_ema(average, current, 0.0)
    assert torch.equal(average[0], current[0])


@pytest.mark.parametrize("epochs", [50, 100, 400])
def test_a_span_is_the_same_fraction_of_every_run(epochs: int) -> None:
    """pycls, every 32 steps: alpha = 1e-5 * batch / epochs * 32, and 1 in the warm-up; 7.8% of a run on ImageNet of any length."""
    batch, steps_per_epoch = 2048, 1281167 // 2048
    steps, warmup = epochs * steps_per_epoch, 5 * steps_per_epoch
    momenta = average_momenta(None, 0.078, steps=steps, warmup_steps=warmup)
    assert momenta is not None and len(momenta) == steps
    assert (momenta[:warmup] == 0).all() and len(set(momenta[warmup:])) == 1
    alpha = 1e-5 * batch / epochs * 32
    assert 1 / (1 - momenta[-1]) == pytest.approx(32 / alpha, rel=0.003)


def test_a_decay_is_constant_and_none_is_no_average() -> None:
    momenta = average_momenta(0.9, None, steps=7, warmup_steps=3)
    assert momenta is not None and (momenta == np.full(7, 0.9)).all()
    assert average_momenta(None, None, steps=7, warmup_steps=3) is None


@pytest.mark.parametrize(("steps", "span"), [(1, 0.5), (3, 0.1), (10, 0.1), (0, 0.5)])
def test_a_span_below_one_step_averages_nothing(steps: int, span: float) -> None:
    momenta = average_momenta(None, span, steps=steps, warmup_steps=0)
    assert momenta is not None and (momenta == 0).all()


def test_the_lag_of_a_span_is_a_fraction_of_the_run() -> None:
    """Weights that increase by 1 per step: the average lags by decay / (1 - decay) steps, with a span by a fraction of the run."""
    lags = []
    for steps in (1000, 8000):
        momenta = average_momenta(None, 0.05, steps=steps, warmup_steps=steps // 20)
        assert momenta is not None
        average, weight = [torch.zeros(1, dtype=torch.float64)], torch.zeros(1, dtype=torch.float64)
        for momentum in momenta:
            weight = weight + 1
            update_ema(average, [weight], momentum)
        lags.append((weight - average[0]).item())
    assert lags == pytest.approx([0.05 * 1000 - 1, 0.05 * 8000 - 1], abs=0.001)


@pytest.mark.parametrize(
    ("decay", "span", "steps", "share"), [(0.9999, None, 100, "99%"), (0.99, None, 100, "37%"), (None, 1.0, 100, "37%")]
)
def test_an_average_that_holds_its_initial_weights_at_the_end_is_warned_of(
    decay: float | None, span: float | None, steps: int, share: str
) -> None:
    (text,) = average_warnings(decay, span, steps=steps, warmup_steps=0)
    assert f"{steps} steps" in text and f"still holds {share} of the weights" in text
    average, momenta = [torch.ones(1)], average_momenta(decay, span, steps=steps, warmup_steps=0)
    assert momenta is not None
    for momentum in momenta:
        update_ema(average, [torch.zeros(1)], momentum)
    assert f"{average[0].item():.0%}" == share


@pytest.mark.parametrize(
    ("decay", "span", "warmup"), [(0.97, None, 0), (None, 0.1, 0), (None, 1.0, 1), (None, None, 0)]
)
def test_an_average_that_forgets_its_initial_weights_is_not_warned_of(
    decay: float | None, span: float | None, warmup: int
) -> None:
    assert not list(average_warnings(decay, span, steps=100, warmup_steps=warmup))


@pytest.mark.parametrize("steps", [2, 3, 4, 5, 8, 10, 20, 40, 1000])
@pytest.mark.parametrize(("decay", "span"), [(0.9999999, None), (None, 1.0), (None, 1e-6)])
def test_the_advised_span_is_not_warned_of(steps: int, decay: float | None, span: float | None) -> None:
    """For runs of less than ten steps the advised span of 0.1 was no average at all, and was warned of in turn."""
    for text in average_warnings(decay, span, steps=steps, warmup_steps=0):
        advised = re.search(r"(?:ema_span=|Set it to )(\d+(?:\.\d+)?(?:e-\d+)?)", text)
        assert (advised is not None) == (steps > 3), text
        shortest = None if advised is None else float(advised[1])
        assert not list(average_warnings(None, shortest, steps=steps, warmup_steps=0)), text
