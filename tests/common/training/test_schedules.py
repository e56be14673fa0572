"""Tests of schedules against their formulas, including edge cases."""

import math

import numpy as np
import pytest

from common.training.schedules import cosine, linear_warmup_by_epoch


def test_cosine_matches_a_loop_over_the_formula() -> None:
    base, final, steps, warmup, start = 0.3, 0.01, 57, 13, 0.002
    expected = [start + (base - start) * i / (warmup - 1) for i in range(warmup)]
    expected += [
        final + 0.5 * (base - final) * (1 + math.cos(math.pi * i / (steps - warmup))) for i in range(steps - warmup)
    ]
    assert np.allclose(cosine(base, final, steps=steps, warmup_steps=warmup, warmup_start=start), expected, atol=1e-10)


@pytest.mark.parametrize("warmup", [0, 1, 5, 10, 99])
def test_every_step_has_one_finite_value(warmup: int) -> None:
    values = cosine(1.0, 0.0, steps=10, warmup_steps=warmup)
    assert len(values) == 10 and np.isfinite(values).all()


@pytest.mark.parametrize(("steps", "warmup", "cooldown"), [(20, 5, 4), (10, 10, 3), (10, 3, 20), (4, 0, 4), (3, 0, 0)])
def test_the_cooldown_is_constant_at_the_final_value(steps: int, warmup: int, cooldown: int) -> None:
    values = cosine(1.0, 0.1, steps=steps, warmup_steps=warmup, cooldown_steps=cooldown)
    num_constant = min(cooldown, steps - warmup)
    decay = cosine(1.0, 0.1, steps=steps - num_constant, warmup_steps=warmup)
    assert len(values) == steps and (values == [*decay, *[0.1] * num_constant]).all()


def test_no_warmup_starts_at_the_peak_and_ends_near_the_final_value() -> None:
    values = cosine(1.0, 0.0, steps=1000)
    assert values[0] == 1.0 and 0 < values[-1] < 1e-5


def test_an_increasing_cosine_for_momentum_and_weight_decay() -> None:
    values = cosine(0.996, 1.0, steps=100)
    assert values[0] == pytest.approx(0.996) and (np.diff(values) > 0).all() and values[-1] < 1.0


def test_the_teacher_temperature_changes_by_epoch() -> None:
    values = linear_warmup_by_epoch(0.04, 0.07, epochs=5, warmup_epochs=3, steps_per_epoch=4)
    assert np.allclose(values, np.repeat([0.04, 0.055, 0.07, 0.07, 0.07], 4), atol=1e-12)


def test_a_temperature_warmup_longer_than_training_is_truncated() -> None:
    assert len(linear_warmup_by_epoch(0.04, 0.07, epochs=2, warmup_epochs=30, steps_per_epoch=3)) == 6
