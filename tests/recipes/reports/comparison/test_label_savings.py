"""Labels that one arm saves: the monotone curve and its inversion by hand, and the interval on a grid."""

import math

import numpy as np
import pytest
from scipy import stats

from recipes.reports.comparison.label_savings import Saving, invert, label_saving, monotone_fit
from recipes.reports.crossed_effects import CellValues, Values

SCATTER = (-0.5, 0.2, 0.3)


def seeds(mean: float, scatter: tuple[float, ...] = SCATTER) -> CellValues:
    """Return a cell of seeds around a mean, without images."""
    return CellValues(tuple(map(str, range(len(scatter)))), np.array([[mean + each] for each in scatter]))


def curve(*means: float, amounts: tuple[float, ...] = (100, 200, 400, 1000)) -> dict[float, CellValues]:
    """Return cells of the base arm by number of labels."""
    return {amount: seeds(mean) for amount, mean in zip(amounts, means, strict=False)}


def test_amount_is_interpolated_linearly_in_the_logarithm_of_the_labels() -> None:
    saving = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(86.0), 100)
    assert saving.equal == pytest.approx(math.sqrt(200 * 400))  # halfway from 84 to 88
    assert (saving.labels, saving.measured) == (100, (100, 1000))


def test_an_amount_that_is_measured_is_met_exactly() -> None:
    for amount, mean in ((100, 80.0), (200, 84.0), (1000, 96.0)):
        assert label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(mean), 100).equal == pytest.approx(amount)


def test_a_dip_of_the_curve_is_pooled() -> None:
    fit = monotone_fit([80.0, 86.0, 84.0, 90.0], [100, 200, 400, 1000])
    assert list(fit.means) == pytest.approx([80.0, 85.0, 85.0, 90.0])
    assert list(map(list, fit.pools)) == [[0], [1, 2], [1, 2], [3]]
    assert invert(fit, 85.0) == pytest.approx(200)  # the first amount that reaches it
    assert invert(fit, 87.5) == pytest.approx(math.sqrt(400 * 1000))


def test_saving_of_a_curve_with_a_dip() -> None:
    saving = label_saving(curve(80.0, 86.0, 84.0, 90.0), seeds(82.5), 100)
    assert saving.equal == pytest.approx(math.sqrt(100 * 200))  # halfway from 80 to 85


@pytest.mark.parametrize(("target", "end"), [(79.0, -math.inf), (97.0, math.inf)])
def test_a_target_beyond_the_curve_is_beyond_the_measured_range(target: float, end: float) -> None:
    assert invert(monotone_fit([80.0, 96.0], [100, 1000]), target) == end


@pytest.mark.parametrize(("target", "sign"), [(70.0, -1), (99.0, 1)])
def test_an_empty_interval_is_beyond_the_end_that_it_points_to(target: float, sign: int) -> None:
    saving = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(target), 200)
    assert (saving.equal, saving.low, saving.high) == (sign * math.inf,) * 3
    assert saving.sign == sign and not saving.is_bounded


def test_interval_is_open_above_where_the_last_amount_is_not_rejected() -> None:
    saving = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(95.8), 100)
    assert 400 < saving.low < saving.equal < 1000 and saving.high == math.inf
    assert saving.sign == 1 and not saving.is_bounded


def test_interval_is_open_below_where_the_first_amount_is_not_rejected() -> None:
    saving = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(80.3), 100)
    assert saving.low == -math.inf and 100 < saving.equal < saving.high < 200
    assert saving.sign == 0 and not saving.is_bounded


def test_more_labels_are_needed_if_the_interval_is_below_the_amount() -> None:
    saving = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(86.0), 1000)
    assert saving.sign == -1 and saving.is_bounded


def test_interval_is_where_welchs_test_does_not_reject() -> None:
    base, other = curve(80.0, 88.0, 96.0, amounts=(100, 250, 1000)), seeds(85.4, (-0.4, 1.1, -0.6))
    saving = label_saving(base, other, 100)
    accepted = []
    for position in np.linspace(math.log(100), math.log(1000), 2001):
        values = [
            np.interp(position, np.log(list(base)), [float(cell.values[s, 0]) for cell in base.values()])
            for s in range(3)
        ]
        if stats.ttest_ind(other.values[:, 0], values, equal_var=False).pvalue >= 0.05:
            accepted.append(math.exp(position))
    assert saving.low == pytest.approx(min(accepted), rel=3e-3)
    assert saving.high == pytest.approx(max(accepted), rel=3e-3)
    assert 100 < saving.low < saving.equal < saving.high < 1000


def test_a_metric_that_is_better_if_lower_is_the_mirror_image() -> None:
    up = label_saving(curve(80.0, 84.0, 88.0, 96.0), seeds(86.0), 100)
    mirrored = {amount: CellValues(cell.seeds, -cell.values) for amount, cell in curve(80.0, 84.0, 88.0, 96.0).items()}
    down = label_saving(mirrored, CellValues(seeds(86.0).seeds, -seeds(86.0).values), 100, higher_is_better=False)
    assert (down.equal, down.low, down.high) == pytest.approx((up.equal, up.low, up.high))


@pytest.mark.parametrize("scatter", [(0.0,), (0.0, 0.0, 0.0)])
def test_one_seed_or_equal_seeds_have_an_amount_and_no_interval(scatter: tuple[float, ...]) -> None:
    base = {100.0: seeds(80.0, scatter), 400.0: seeds(90.0, scatter)}
    saving = label_saving(base, seeds(85.0, scatter), 100)
    assert saving.equal == pytest.approx(200)
    assert math.isnan(saving.low) and math.isnan(saving.high) and saving.sign == 0


def test_one_amount_of_the_base_arm_has_no_interval() -> None:
    assert math.isnan(label_saving(curve(80.0), seeds(85.0), 100).low)


def test_images_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    names = ("0", "1", "2")
    by_image = 25 * rng.standard_normal((4, 1, 100))  # the same for all seeds of a cell
    scatter = np.array([[-0.5], [0.2], [0.3]])
    cells = [
        CellValues(names, mean + scatter + effect - effect.mean())
        for mean, effect in zip((60.0, 75.0, 90.0, 75.0), by_image, strict=True)
    ]
    alone = [CellValues(names, cell.values.mean(axis=1, keepdims=True)) for cell in cells]
    found, over_seeds = (
        label_saving(dict(zip((100.0, 400.0, 1600.0), each, strict=False)), each[3], 100) for each in (cells, alone)
    )
    assert found.equal == pytest.approx(over_seeds.equal) == pytest.approx(400)
    assert found.low < over_seeds.low / 1.2 and found.high > over_seeds.high * 1.2


def _simulated(number: int) -> tuple[Saving, float]:
    """Return the saving of a simulated study, and the true amount."""
    rng = np.random.default_rng(number)
    amounts = np.array([100.0, 300.0, 1000.0])
    by_image = 8 * rng.standard_normal((4, 1, 100))  # the image effects of each cell
    means = [70.0, 80.0, 90.0, 78.0]
    cells: list[Values] = [
        mean + 1.0 * rng.standard_normal((3, 1)) + by_image[n] + 4 * rng.standard_normal((3, 100))
        for n, mean in enumerate(means)
    ]
    names = ("0", "1", "2")
    base = {amount: CellValues(names, values) for amount, values in zip(amounts.tolist(), cells, strict=False)}
    truth = math.exp(np.interp(78.0, means[:3], np.log(amounts)))
    return label_saving(base, CellValues(names, cells[3]), 100), truth


def test_interval_covers_the_true_amount() -> None:
    hits = sum(saving.low <= truth <= saving.high for saving, truth in map(_simulated, range(300)))
    assert 0.92 <= hits / 300 <= 0.995  # 95% of 300 draws, with three standard errors


@pytest.mark.parametrize("gain", [0.5, 2.0, 5.0, 10.0, 17.3])
@pytest.mark.parametrize("scatter", [(-0.0001, 0.0, 0.0001), (-0.01, 0.0, 0.01), (-0.1, 0.02, 0.08), SCATTER])
@pytest.mark.parametrize("amounts", [(100, 1000), (100, 300, 1000)])
def test_a_narrow_interval_between_the_points_of_a_grid_is_found(
    gain: float, scatter: tuple[float, ...], amounts: tuple[float, ...]
) -> None:
    """Where no point of the grid was inside, the interval was said to leave the measured range."""
    means = np.interp(np.log(amounts), np.log([100, 1000]), [70.0, 88.0])
    base = {amount: seeds(float(mean), scatter) for amount, mean in zip(amounts, means, strict=True)}
    saving = label_saving(base, seeds(70.0 + gain, scatter), 100)
    assert saving.equal == pytest.approx(100 * 10 ** (gain / 18))
    assert saving.low <= saving.equal <= saving.high
    if scatter != SCATTER:
        assert saving.is_bounded and saving.sign == 1
        assert saving.high / saving.low < 1.2
