"""Random search: the same points on every machine, log-uniform, and a small search is the beginning of a large one."""

import math

import pytest
from scipy.stats import kstest

from recipes.study.random_search import Interval, draw_log_uniform, draw_points

INTERVALS = {"optim.lr": Interval(1e-4, 1e-2), "optim.weight_decay": Interval(0.01, 1.0)}


def test_the_points_are_the_same_on_every_machine() -> None:
    points = draw_points(INTERVALS, count=64, seed=0)
    assert points[0] == {"optim.lr": 0.0001136, "optim.weight_decay": 0.3361}
    assert points[63] == {"optim.lr": 0.0002304, "optim.weight_decay": 0.1666}


def test_few_points_are_the_first_of_many() -> None:
    assert draw_points(INTERVALS, count=8, seed=0) == draw_points(INTERVALS, count=64, seed=0)[:8]


def test_another_seed_gives_other_points() -> None:
    assert draw_points(INTERVALS, count=8, seed=0) != draw_points(INTERVALS, count=8, seed=1)


def test_adding_a_key_does_not_change_the_others() -> None:
    alone = draw_points({"optim.lr": INTERVALS["optim.lr"]}, count=8, seed=0)
    assert [point["optim.lr"] for point in draw_points(INTERVALS, count=8, seed=0)] == [p["optim.lr"] for p in alone]


def test_logarithms_are_uniform_over_the_interval() -> None:
    interval = Interval(1e-4, 1e-2)
    values = [draw_log_uniform(interval, seed=3, number=number, key="lr") for number in range(2000)]
    assert min(values) >= 1e-4 and max(values) <= 1e-2
    positions = [math.log(value / 1e-4) / math.log(100) for value in values]
    assert kstest(positions, "uniform").pvalue > 0.01


@pytest.mark.parametrize("number", range(5))
def test_a_value_equals_the_reference_formula(number: int) -> None:
    import hashlib

    uniform = int(hashlib.sha256(f"7/{number}/lr".encode()).hexdigest()[:16], 16) / 2**64
    expected = 0.001 * (0.1 / 0.001) ** uniform
    assert draw_log_uniform(Interval(0.001, 0.1), seed=7, number=number, key="lr") == pytest.approx(expected, rel=1e-3)
