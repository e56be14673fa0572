"""Intervals and tests of a report, compared with results derived by hand or with scipy."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recipes.reports.formatting import p_text
from recipes.reports.statistics import (
    MIN_SEEDS,
    SIGNIFICANCE,
    Interval,
    Variance,
    bounded_interval,
    chance_of_false_mark,
    holm,
    interval,
    paired_differences,
    rate_interval,
    student_interval,
    t_quantile,
)


def wilson(p: float, n: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval of a rate, by its closed formula."""
    center, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (center - half) / (1 + z**2 / n), (center + half) / (1 + z**2 / n)


def of_error(mean: float, error: float, *, count: int = 5, degrees: float = 4.0, images: int = 0) -> Interval:
    """Return an interval of a given standard error."""
    return interval(mean, Variance(error**2, 0.0, 0.0), count=count, degrees=degrees, images=images)


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.00099, "p < 0.001"),
        (0.0123, "p = 0.012"),
        (0.0494, "p = 0.049"),
        (0.0499, "p = 0.0499"),
        (0.0499996, "p = 0.0499996"),
        (0.05, "p = 0.05"),
        (0.0501, "p = 0.05"),
        (0.9999, "p = 1"),
    ],
)
def test_a_p_value_is_on_the_same_side_of_the_level_as_its_text(p_value: float, text: str) -> None:
    assert p_text(p_value) == text and (p_value < SIGNIFICANCE) is (text < "p = 0.05")


def test_interval_of_three_values_matches_the_textbook_formula() -> None:
    found = student_interval([1.0, 2.0, 6.0])
    half = 4.302652729911275 * math.sqrt(7.0) / math.sqrt(3)  # t(0.975, 2); the sample variance is 7
    assert found.mean == 3.0
    assert found.high - found.mean == pytest.approx(half)
    assert found.half_width == pytest.approx(half)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12))
@settings(max_examples=50, deadline=None)
def test_interval_matches_scipy(values: list[float]) -> None:
    found = student_interval(values)
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error) if error > 0 else (np.mean(values),) * 2
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=8).filter(lambda values: len(set(values)) > 1))
@settings(max_examples=30, deadline=None)
def test_p_value_matches_scipys_t_test(values: list[int]) -> None:
    assert student_interval(values).p_value == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_values_have_no_interval_and_no_sign(values: list[float]) -> None:
    found = student_interval(values)
    assert not found.is_known and math.isnan(found.p_value)
    assert found.sign == 0 and not found.is_equivalent(100.0)


@pytest.mark.parametrize(("low", "high", "sign"), [(0.1, 2, 1), (-2, -0.1, -1), (-0.1, 2, 0), (0, 0, 0)])
def test_sign_is_nonzero_only_if_the_interval_excludes_zero(low: float, high: float, sign: int) -> None:
    assert Interval((low + high) / 2, low, high, 3).sign == sign


def test_below_three_seeds_nothing_is_significant_or_equivalent() -> None:
    assert MIN_SEEDS == 3
    values = [4.0, 4.001, 3.999]
    assert [student_interval(values[:count]).sign for count in (2, 3)] == [0, 1]
    assert [student_interval([v - 4 for v in values[:count]]).is_equivalent(1.0) for count in (2, 3)] == [False, True]


def test_differences_are_paired_by_repeat_and_unpaired_repeats_skipped() -> None:
    assert paired_differences({"0": 1.0, "1": 2.0}, {"1": 5.0, "2": 9.0}) == {"1": 3.0}


@pytest.mark.parametrize(
    ("seeds", "images", "residual", "total"),
    [(4.0, 3.0, 1.0, 6.0), (4.0, 0.5, 1.0, 4.0), (0.5, 4.0, 1.0, 3.5), (0.1, 1.0, 1.0, 0.5), (0.0, 0.0, 0.0, 0.0)],
)
def test_variance_is_at_least_that_of_the_seeds_and_that_of_the_images_less_half_of_the_residual(
    seeds: float, images: float, residual: float, total: float
) -> None:
    assert Variance(seeds, images, residual).total == pytest.approx(total)


def test_projected_variance_divides_each_part_by_its_own_number() -> None:
    variance = Variance(4.0, 3.0, 1.0)  # seeds alone 3, images alone 2, residual 1
    assert variance.projected(seeds=1, images=1) == pytest.approx(6.0)
    assert variance.projected(seeds=3, images=1) == pytest.approx(1 + 2 + 1 / 3)
    assert variance.projected(seeds=3, images=10) == pytest.approx(1 + 0.2 + 1 / 30)
    assert variance.projected(seeds=1e9, images=1) == pytest.approx(2.0)


def test_holm_by_hand() -> None:
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert found == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})  # 3 x .01, 2 x .03, and 1 x .04 raised to .06
    assert list(found) == ["a", "b", "c"]
    assert holm({"a": 0.6, "b": 0.5}) == {"a": 1.0, "b": 1.0}


def test_holm_counts_a_claim_without_a_p_value() -> None:
    found = holm({"missing": math.nan, "a": 0.01, "b": 0.04})
    assert math.isnan(found["missing"])
    assert (found["a"], found["b"]) == (pytest.approx(0.03), pytest.approx(0.08))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_holm_matches_statsmodels_definition(p_values: list[float]) -> None:
    named = {str(number): value for number, value in enumerate(p_values)}
    ordered, largest = sorted(named, key=lambda name: named[name]), 0.0
    for rank, name in enumerate(ordered):
        largest = min(1.0, max(largest, (len(ordered) - rank) * named[name]))
        assert holm(named)[name] == pytest.approx(largest)


@pytest.mark.parametrize("side", [-1, 1])
def test_equivalence_is_two_one_sided_tests_at_5_percent_each(side: int) -> None:
    reach = stats.t.ppf(0.95, 4) * 0.3  # TOST uses the 90% interval
    assert of_error(side * (1 - reach - 1e-6), 0.3).is_equivalent(1.0)
    assert not of_error(side * (1 - reach + 1e-6), 0.3).is_equivalent(1.0)
    assert of_error(side * (1 - reach - 1e-6), 0.3).high > 1.0 or side < 0


@pytest.mark.parametrize(("successes", "trials"), [(0, 3), (1, 3), (3, 3), (2, 18), (7, 40)])
def test_rate_has_wilsons_interval(successes: int, trials: int) -> None:
    assert rate_interval(successes, trials) == pytest.approx(wilson(successes / trials, trials, stats.norm.ppf(0.975)))


@pytest.mark.parametrize("error", [0.0, 1e-6, 0.3, 5.0, 60.0])
@pytest.mark.parametrize("images", [0, 359])
def test_bounded_interval_never_leaves_the_range_and_contains_the_mean(error: float, images: int) -> None:
    for percent in range(101):
        found = bounded_interval(of_error(float(percent), error, count=3, degrees=2.0, images=images), 0.0, 100.0)
        assert 0.0 <= found.low <= percent + 1e-9 and percent - 1e-9 <= found.high <= 100.0


def test_bounded_interval_of_a_binomial_rate_is_wilsons_with_students_t() -> None:
    images, rate = 400, 0.93  # one run whose errors are independent
    error = math.sqrt(rate * (1 - rate) / images)
    found = bounded_interval(of_error(100 * rate, 100 * error, count=1, degrees=9.0, images=images), 0.0, 100.0)
    assert (found.low / 100, found.high / 100) == pytest.approx(wilson(rate, images, stats.t.ppf(0.975, 9)))


def test_bounded_interval_of_perfect_runs_is_that_of_the_number_of_images() -> None:
    found = bounded_interval(of_error(100.0, 0.0, count=3, degrees=1e9, images=359), 0.0, 100.0)
    assert found.high == 100.0
    assert found.low / 100 == pytest.approx(wilson(1.0, 359, stats.norm.ppf(0.975))[0], rel=1e-4)


def test_bounded_interval_depends_on_the_range_only_by_its_scale() -> None:
    percent = bounded_interval(of_error(90.0, 3.0), 0.0, 100.0)
    fraction = bounded_interval(of_error(0.9, 0.03), 0.0, 1.0)
    assert (fraction.low, fraction.high) == pytest.approx((percent.low / 100, percent.high / 100))


def test_bounded_interval_far_from_the_ends_is_students() -> None:
    plain = of_error(50.0, 0.5)
    found = bounded_interval(plain, 0.0, 100.0)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.01)


def test_bounded_interval_without_bounds_stays_unknown() -> None:
    assert not bounded_interval(student_interval([90.0]), 0.0, 100.0).is_known


@pytest.mark.parametrize(("tests", "chance"), [(0, 0.0), (1, 0.05), (8, 1 - 0.95**8)])
def test_chance_of_at_least_one_false_mark(tests: int, chance: float) -> None:
    assert chance_of_false_mark(tests) == pytest.approx(chance)


@pytest.mark.parametrize("degrees", [1.0, 2.0, 7.5, math.inf])
def test_quantile_matches_scipy(degrees: float) -> None:
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-5)


@pytest.mark.parametrize("values", [[90.0, 90.0, 90.0]])
def test_equal_values_have_an_interval_of_zero_width(values: Sequence[float]) -> None:
    assert student_interval(values).half_width == 0.0 and student_interval(values).p_value == 0.0
