"""Statistics of a report, compared with results derived by hand or with slow reference implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recipes.reports.statistics import Interval, label_saving, paired_differences, student_interval

NO_SCATTER = {"0": 0.0, "1": 0.0, "2": 0.0}


def curve(values: dict[float, float], scatter: dict[str, float]) -> dict[float, dict[str, float]]:
    """Return {fraction: {repeat: accuracy}} with the same scatter at every fraction."""
    return {fraction: {name: value + s for name, s in scatter.items()} for fraction, value in values.items()}


def test_interval_of_three_values_matches_the_textbook_formula() -> None:
    interval = student_interval([1.0, 2.0, 6.0])
    half = 4.302652729911275 * math.sqrt(7.0) / math.sqrt(3)  # t(0.975, 2); the sample variance is 7
    assert interval.mean == 3.0
    assert interval.high - interval.mean == pytest.approx(half)
    assert interval.half_width == pytest.approx(half)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_interval_matches_scipy(values: list[float]) -> None:
    interval = student_interval(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error) if error > 0 else (np.mean(values),) * 2
    assert interval.low == pytest.approx(low, abs=1e-9)
    assert interval.high == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval_and_no_sign(values: list[float]) -> None:
    interval = student_interval(values)
    assert not interval.is_known
    assert interval.sign == 0


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 2, 1), (-2, -0.1, -1), (-0.1, 2, 0), (0, 0, 0)])
def test_sign_is_nonzero_only_if_the_interval_excludes_zero(low: float, high: float, sign: int) -> None:
    assert Interval((low + high) / 2, low, high, 3).sign == sign


def test_differences_are_paired_by_repeat_and_unpaired_repeats_skipped() -> None:
    assert paired_differences({"0": 1.0, "1": 2.0}, {"1": 5.0, "2": 9.0}) == {"1": 3.0}


def test_label_saving_inverts_the_base_curve_in_log_fraction() -> None:
    base = curve({0.1: 80.0, 0.4: 90.0}, NO_SCATTER)
    saving = label_saving(base, curve({0.1: 85.0}, NO_SCATTER), 0.1)
    assert saving.equal == pytest.approx(0.2)  # halfway from 80 to 90: the geometric mean of 0.1 and 0.4


def test_label_saving_beyond_the_measured_range_is_infinite() -> None:
    base = curve({0.1: 80.0, 1.0: 90.0}, {"0": -0.1, "1": 0.0, "2": 0.1})
    above = label_saving(base, curve({0.1: 95.0}, NO_SCATTER), 0.1)
    below = label_saving(base, curve({0.1: 70.0}, NO_SCATTER), 0.1)
    assert (above.equal, above.low, above.high) == (math.inf, math.inf, math.inf)
    assert (below.equal, below.low, below.high) == (-math.inf, -math.inf, -math.inf)


def test_label_saving_interval_is_where_the_paired_test_does_not_reject() -> None:
    base = curve({0.1: 80.0, 0.25: 88.0, 1.0: 96.0}, {"0": -0.5, "1": 0.2, "2": 0.3})
    other = {0.1: {"0": 85.0, "1": 86.5, "2": 84.8}}
    saving = label_saving(base, other, 0.1)
    accepted = []
    for fraction in np.exp(np.linspace(math.log(0.1), math.log(1.0), 1001)):
        repeats = [
            other[0.1][name] - np.interp(math.log(fraction), np.log(list(base)), [base[f][name] for f in base])
            for name in ("0", "1", "2")
        ]
        if abs(np.mean(repeats)) <= 4.302652729911275 * np.std(repeats, ddof=1) / math.sqrt(3):  # Student's t test
            accepted.append(fraction)
    assert saving.low == pytest.approx(min(accepted), rel=4e-3)
    assert saving.high == pytest.approx(max(accepted), rel=4e-3)
    assert saving.low < saving.equal < saving.high


def test_label_saving_interval_is_open_if_it_reaches_the_end_of_the_range() -> None:
    base = curve({0.1: 80.0, 1.0: 90.0}, NO_SCATTER)
    saving = label_saving(base, {0.1: {"0": 85.0, "1": 95.0, "2": 82.0}}, 0.1)
    assert saving.high == math.inf
    assert 0.1 < saving.equal < 1.0


def test_label_saving_of_one_repeat_has_a_point_estimate_and_no_interval() -> None:
    saving = label_saving(curve({0.1: 80.0, 0.4: 90.0}, {"0": 0.0}), curve({0.1: 85.0}, {"0": 0.0}), 0.1)
    assert saving.equal == pytest.approx(0.2)
    assert math.isnan(saving.low)
    assert math.isnan(saving.high)


def test_label_saving_smooths_a_dip_of_the_base_curve() -> None:
    base = curve({0.1: 80.0, 0.25: 86.0, 0.5: 84.0, 1.0: 90.0}, NO_SCATTER)
    saving = label_saving(base, curve({0.1: 85.0}, NO_SCATTER), 0.1)
    assert saving.equal == pytest.approx(
        0.25
    )  # the two in the middle become 85 each; the first of them reaches the target
