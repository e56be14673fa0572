"""Intervals over seeds and test images, compared with a two-way analysis of variance in loops."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from recipes.reports.crossed_effects import CellValues, Term, Values, estimate
from recipes.reports.statistics import Interval, student_interval

LOOSE = {"rel": 1e-9, "abs": 1e-9}


def draw(seeds: int, images: int, *, seed: int = 0, seed_scale: float = 1.0, image_scale: float = 2.0) -> Values:
    """Return values (S, N) of a model with crossed effects of seeds and images."""
    rng = np.random.default_rng(seed)
    by_seed, by_image = rng.standard_normal((seeds, 1)), rng.standard_normal((1, images))
    return 50 + seed_scale * by_seed + image_scale * by_image + rng.standard_normal((seeds, images))


def cell(values: Values, names: str = "") -> CellValues:
    """Return a cell with the names of its seeds, by default 0, 1, 2 ..."""
    return CellValues(tuple(names) or tuple(map(str, range(len(values)))), values)


def mean_squares(values: Values) -> tuple[float, float, float]:
    """Return the mean squares of seeds, images and residual of a table (S, N), by loops."""
    num_seeds, num_images = values.shape
    grand = sum(map(float, values.flat)) / values.size
    by_seed = [sum(values[s]) / num_images for s in range(num_seeds)]
    by_image = [sum(values[:, n]) / num_seeds for n in range(num_images)]
    seeds = num_images * sum((mean - grand) ** 2 for mean in by_seed) / (num_seeds - 1)
    images = num_seeds * sum((mean - grand) ** 2 for mean in by_image) / (num_images - 1)
    residual = 0.0
    for s in range(num_seeds):
        for n in range(num_images):
            residual += (values[s, n] - by_seed[s] - by_image[n] + grand) ** 2
    return float(seeds), float(images), float(residual / ((num_seeds - 1) * (num_images - 1)))


def bounds(found: Interval, error: float, degrees: float) -> None:
    """Assert that an interval is mean +- t(0.975, degrees) * error."""
    half = stats.t.ppf(0.975, degrees) * error
    assert (found.error, found.degrees) == (pytest.approx(error, **LOOSE), pytest.approx(degrees, **LOOSE))
    assert (found.low, found.high) == (
        pytest.approx(found.mean - half, **LOOSE),
        pytest.approx(found.mean + half, **LOOSE),
    )


@pytest.mark.parametrize("num_seeds", [2, 3, 7])
def test_one_arm_is_a_two_way_analysis_of_variance(num_seeds: int) -> None:
    values = draw(num_seeds, 40)
    seeds, images, residual = (each / values.size for each in mean_squares(values))
    found = estimate([Term(1.0, cell(values), "a")])
    assert found.mean == pytest.approx(values.mean()) and (found.count, found.images) == (num_seeds, 40)
    assert found.variance is not None
    parts = found.variance.seeds, found.variance.images, found.variance.residual
    assert parts == pytest.approx((seeds, images, residual))
    variance = seeds + images - residual
    satterthwaite = variance**2 / (seeds**2 / (num_seeds - 1) + images**2 / 39) / 2  # halved for a single arm
    bounds(found, math.sqrt(variance), max(num_seeds - 1, satterthwaite))


def test_two_arms_with_other_numbers_of_seeds_share_the_images_and_add_the_variances_of_their_seeds() -> None:
    base, other = draw(3, 50, seed=1), draw(5, 50, seed=2, seed_scale=2.0)
    found = estimate([Term(-1.0, cell(base), "a"), Term(1.0, cell(other), "b")])
    seeds = [mean_squares(each)[0] / each.size for each in (base, other)]
    residual = sum(mean_squares(each)[2] / each.size for each in (base, other))
    differences = [sum(other[:, n]) / 5 - sum(base[:, n]) / 3 for n in range(50)]
    images = float(np.var(differences, ddof=1)) / 50
    variance = sum(seeds) + images - residual
    degrees = variance**2 / (seeds[0] ** 2 / 2 + seeds[1] ** 2 / 4 + images**2 / 49)
    assert found.mean == pytest.approx(other.mean() - base.mean()) and found.count == 3
    bounds(found, math.sqrt(variance), max(2.0, degrees))


def test_an_effect_of_images_that_both_arms_share_cancels_in_their_difference() -> None:
    base, other = draw(3, 200, seed=1), draw(3, 200, seed=2)
    shared = 30 * np.random.default_rng(3).standard_normal((1, 200))
    terms = [Term(-1.0, cell(base), "a"), Term(1.0, cell(other), "b")]
    with_shared = [Term(-1.0, cell(base + shared), "a"), Term(1.0, cell(other + shared), "b")]
    assert estimate(with_shared).error == pytest.approx(estimate(terms).error)
    assert estimate([with_shared[0]]).error > 2 * estimate([terms[0]]).error


def test_the_cells_of_an_arm_are_summed_by_seed_and_image_before_the_variance() -> None:
    first, second = draw(4, 30, seed=1), draw(4, 30, seed=2)
    found = estimate([Term(0.25, cell(first), "a"), Term(0.75, cell(second), "a")])
    combined = np.array([[0.25 * first[s, n] + 0.75 * second[s, n] for n in range(30)] for s in range(4)])
    assert found == estimate([Term(1.0, cell(combined), "a")])


def test_of_several_cells_in_an_arm_only_the_seeds_of_all_are_used() -> None:
    first, second = draw(3, 30, seed=1), draw(3, 30, seed=2)
    found = estimate([Term(0.5, cell(first, "012"), "a"), Term(0.5, cell(second, "203"), "a")])
    expected = estimate([Term(1.0, cell((first[[0, 2]] + second[[1, 0]]) / 2), "a")])
    assert (found.mean, found.error, found.count) == (
        pytest.approx(expected.mean),
        pytest.approx(expected.error),
        2,
    )


def test_cells_with_different_seeds_are_arms_of_their_own() -> None:
    first, second = draw(2, 30, seed=1), draw(2, 30, seed=2)
    found = estimate([Term(0.5, cell(first, "01"), "a"), Term(0.5, cell(second, "23"), "a")])
    apart = estimate([Term(0.5, cell(first), "a"), Term(0.5, cell(second), "b")])
    assert (found.mean, found.error, found.degrees) == (apart.mean, apart.error, apart.degrees)


@pytest.mark.parametrize("values", [[1.0, 2.0, 6.0], [90.0, 91.0], [3.0, 4.0, 4.0, 8.0, 1.0]])
def test_without_images_a_mean_has_students_interval(values: Sequence[float]) -> None:
    found, expected = estimate([Term(1.0, cell(np.array(values)[:, None]), "a")]), student_interval(values)
    assert (found.mean, found.low, found.high) == pytest.approx((expected.mean, expected.low, expected.high))
    assert (found.degrees, found.images) == (len(values) - 1, 0)


def test_without_images_a_difference_has_welchs_interval() -> None:
    base, other = np.array([1.0, 2.0, 6.0]), np.array([3.0, 9.0, 4.0, 8.0])
    found = estimate([Term(-1.0, cell(base[:, None]), "a"), Term(1.0, cell(other[:, None]), "b")])
    low, high = stats.ttest_ind(other, base, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(stats.ttest_ind(other, base, equal_var=False).pvalue)


def test_arms_on_different_numbers_of_images_have_an_interval_over_seeds_alone() -> None:
    base, other = draw(3, 30, seed=1), draw(3, 20, seed=2)
    found = estimate([Term(-1.0, cell(base), "a"), Term(1.0, cell(other), "b")])
    seeds = [each.mean(axis=1, keepdims=True) for each in (base, other)]
    expected = estimate([Term(-1.0, cell(seeds[0]), "a"), Term(1.0, cell(seeds[1]), "b")])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high)) and found.images == 0


def test_more_seeds_do_not_remove_the_variance_of_the_images() -> None:
    errors = [estimate([Term(1.0, cell(draw(count, 100)), "a")]).error for count in (3, 30, 300)]
    of_images = float(draw(300, 100).mean(axis=0).std(ddof=1)) / 10
    assert errors[2] == pytest.approx(of_images, rel=0.1) and errors[2] > 0.15
    without = estimate([Term(1.0, cell(draw(300, 100).mean(axis=1, keepdims=True)), "a")]).error
    assert without < errors[2] / 2


@pytest.mark.parametrize("count", [2, 3, 10])
@pytest.mark.parametrize("seed_scale", [0.0, 1.0, 100.0])
def test_degrees_of_freedom_are_at_least_those_of_the_seeds_and_at_most_those_of_all_parts(
    count: int, seed_scale: float
) -> None:
    one = estimate([Term(1.0, cell(draw(count, 25, seed_scale=seed_scale)), "a")])
    assert count - 1 <= one.degrees <= max(count - 1, (count - 1 + 24) / 2)
    arms = [cell(draw(count, 25, seed=number, seed_scale=seed_scale)) for number in range(2)]
    two = estimate([Term(-1.0, arms[0], "a"), Term(1.0, arms[1], "b")])
    assert count - 1 <= two.degrees <= 2 * (count - 1) + 24


def test_runs_that_are_equal_on_all_images_have_the_error_of_one_image_more() -> None:
    values = np.full((3, 50), 100.0)
    found = estimate([Term(-1.0, cell(values), "a"), Term(1.0, cell(values), "b")], span=100.0)
    assert (found.mean, found.error) == (0.0, pytest.approx(100.0 / 50))
    assert found.low < 0 < found.high and found.p_value == 1.0


def test_equal_seeds_without_images_have_no_interval() -> None:
    values = np.full((3, 1), 90.0)
    found = estimate([Term(-1.0, cell(values), "a"), Term(1.0, cell(values + 4), "b")], span=100.0)
    assert (found.mean, found.count, found.is_known, found.sign) == (4.0, 3, False, 0)
    assert math.isnan(found.p_value) and not found.is_equivalent(10.0)


def test_fewer_than_two_seeds_in_an_arm_have_no_interval() -> None:
    found = estimate([Term(-1.0, cell(draw(1, 20)), "a"), Term(1.0, cell(draw(3, 20)), "b")])
    assert not found.is_known and found.count == 1
    assert found.mean == pytest.approx(draw(3, 20).mean() - draw(1, 20).mean())


@pytest.mark.parametrize("terms", [[], [Term(1.0, cell(np.zeros((0, 5))), "a")]])
def test_without_values_the_mean_is_unknown(terms: list[Term]) -> None:
    assert math.isnan(estimate(terms).mean) and estimate(terms).count == 0


def test_intervals_cover_the_truth_for_new_seeds_and_images_where_those_over_seeds_alone_do_not() -> None:
    hits = {True: 0, False: 0}
    for draw_number in range(400):
        base, other = (draw(3, 60, seed=2 * draw_number + arm, seed_scale=0.15) for arm in (0, 1))
        terms = [Term(-1.0, cell(base), "a"), Term(1.0, cell(other), "b")]
        found = estimate(terms)
        alone = estimate([Term(t.weight, cell(t.cell.values.mean(axis=1, keepdims=True)), t.arm) for t in terms])
        hits[True] += found.low <= 0 <= found.high
        hits[False] += alone.low <= 0 <= alone.high
    assert 0.92 <= hits[True] / 400 <= 0.99
    assert hits[False] / 400 <= 0.85


def test_a_difference_that_rests_on_one_image_has_the_error_of_images_that_are_not_in_the_test_set() -> None:
    right, one_wrong = np.full((3, 50), 100.0), np.full((3, 50), 100.0)
    one_wrong[:, 7] = 0.0
    found = estimate([Term(-1.0, cell(one_wrong), "a"), Term(1.0, cell(right), "b")], span=100.0)
    of_images = 100.0**2 * (1 / 50) * (1 - 1 / 50) / 49  # the sample variance of one image of 50, divided by 50
    assert found.mean == pytest.approx(2.0)
    assert found.error == pytest.approx((of_images + 0.25 * 2 * (100.0 / 50) ** 2) ** 0.5)
    assert found.low < 0.0
