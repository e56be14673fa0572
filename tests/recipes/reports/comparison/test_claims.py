"""Declared claims: estimates by hand, adjusted p-values, every outcome, the preferred panel and what would settle a claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from comparison_studies import SCATTER, comparison_study

from recipes.reports.comparison.cell_values import StudyValues
from recipes.reports.comparison.claims import MOST_SEEDS, Claim, Outcome, find_claims, next_step, preferred_panel
from recipes.reports.comparison.estimator import Estimator, Levels
from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import Metric, find_metric
from recipes.reports.statistics import Interval, Variance, holm, interval
from recipes.study.report_specification import ReportSpec

AXES = {"stem": ["patchify", "conv"], "training": ["OST", "TST"], "fraction": ["0.1", "1"]}
TOP1 = find_metric("test_top1")


def spec(**report: Any) -> ReportSpec:
    """Return the report section of a study."""
    found = comparison_study(**report).report
    assert isinstance(found, ReportSpec)
    return found


def study_values(
    value: Any,
    *,
    seeds: Sequence[str] = ("0", "1", "2"),
    diverged: Mapping[tuple[str, ...], Sequence[str]] = {},
    missing: Mapping[tuple[str, ...], Sequence[str]] = {},
    chance: float | None = 10.0,
    metric: Metric = TOP1,
    axes: Mapping[str, Sequence[str]] = AXES,
) -> tuple[Estimator, Estimator]:
    """Return the estimators of a study with `value(stem, training, fraction, seed)`, without and with diverged runs as chance."""
    cells: dict[tuple[str, ...], CellValues] = {}
    planned: dict[tuple[str, ...], tuple[str, ...]] = {}
    for stem in axes["stem"]:
        for training in axes["training"]:
            for fraction in axes["fraction"]:
                key = stem, training, fraction
                planned[key] = tuple(seeds)
                lost = {*diverged.get(key, ()), *missing.get(key, ())}
                left = [seed for seed in seeds if seed not in lost]
                if left:
                    rows = np.array([[value(stem, training, fraction, seed)] for seed in left])
                    cells[key] = CellValues(tuple(left), rows)
    found = StudyValues(tuple(axes), cells, {key: tuple(each) for key, each in diverged.items()}, planned, chance)
    report = spec()
    return Estimator(axes, report, found, metric), Estimator(axes, report, found.with_chance(), metric)


def gain(amount: float) -> Any:
    """Return values in which TST gains `amount` with either stem, and the conv stem 2 points."""

    def value(stem: str, training: str, fraction: str, seed: str) -> float:
        return 80 + 10 * (fraction == "1") + 2 * (stem == "conv") + amount * (training == "TST") + SCATTER[seed]

    return value


def claims_of(estimators: tuple[Estimator, Estimator], panel: Levels | None = None) -> dict[str, Claim]:
    """Return the claims of a study by name."""
    return {claim.name: claim for claim in find_claims(*estimators, panel or {"stem": "patchify"}, "0.1")}


def outcome_of(estimators: tuple[Estimator, Estimator], name: str = "effect") -> Outcome:
    """Return the outcome of a claim."""
    return claims_of(estimators)[name].outcome


def test_claims_are_the_declared_differences() -> None:
    def value(stem: str, training: str, fraction: str, seed: str) -> float:
        cell = {
            ("patchify", "OST"): (60, 90),
            ("patchify", "TST"): (70, 92),
            ("conv", "OST"): (68, 95),
            ("conv", "TST"): (69, 97),
        }
        return cell[stem, training][fraction == "1"] + SCATTER[seed]

    claims = claims_of(study_values(value))
    assert claims["effect"].interval.mean == pytest.approx((70 + 92) / 2 - (60 + 90) / 2)
    assert claims["saving"].interval.mean == pytest.approx(70 - 60)
    assert claims["alternative"].interval.mean == pytest.approx((68 + 95) / 2 - (70 + 92) / 2)
    assert claims["effect"].levels == claims["saving"].levels == {"stem": "patchify"}
    assert claims["alternative"].levels == {} and len(claims["alternative"].cells) == 4
    assert claims_of(study_values(value), {"stem": "conv"})["effect"].interval.mean == pytest.approx(1.5)


def test_p_values_are_adjusted_for_all_claims() -> None:
    claims = claims_of(study_values(gain(0.9)))
    raw = holm({name: claim.interval.p_value for name, claim in claims.items()})
    assert {name: claim.p_value for name, claim in claims.items()} == raw
    assert all(claims[name].p_value > claims[name].interval.p_value for name in claims)


def test_a_claim_that_is_significant_alone_but_not_among_all_is_inconclusive() -> None:
    wobble = {"0": 1.5, "1": 3.1, "2": 2.4}

    def value(stem: str, training: str, fraction: str, seed: str) -> float:
        return 80 + (wobble[seed] if training == "TST" and stem == "patchify" else SCATTER[seed])

    claim = claims_of(study_values(value))["effect"]
    assert claim.interval.p_value < 0.05 < claim.p_value and claim.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("amount", "outcome"), [(4.0, Outcome.BETTER), (-4.0, Outcome.WORSE), (0.1, Outcome.EQUIVALENT)]
)
def test_outcome_of_a_clear_difference(amount: float, outcome: Outcome) -> None:
    assert outcome_of(study_values(gain(amount))) is outcome


@pytest.mark.parametrize(("amount", "outcome"), [(4.0, Outcome.WORSE), (-4.0, Outcome.BETTER)])
def test_outcome_of_a_loss_is_better_if_it_is_lower(amount: float, outcome: Outcome) -> None:
    assert outcome_of(study_values(gain(amount), metric=find_metric("test_loss"))) is outcome


def test_without_a_range_nothing_is_equivalent() -> None:
    assert outcome_of(study_values(gain(0.0), metric=find_metric("test_score"))) is Outcome.INCONCLUSIVE


def test_outcome_of_a_wide_interval_is_inconclusive() -> None:
    wobble = {"0": -3.0, "1": 0.5, "2": 4.0}
    estimators = study_values(lambda stem, training, fraction, seed: 80 + wobble[seed] * (training == "TST"))
    assert outcome_of(estimators) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("seeds", [("0", "1"), ("0",)])
def test_fewer_than_three_seeds_are_too_few(seeds: Sequence[str]) -> None:
    assert outcome_of(study_values(gain(4.0), seeds=seeds)) is Outcome.FEW_SEEDS


def test_equal_seeds_are_inconclusive() -> None:
    claim = claims_of(study_values(lambda stem, training, fraction, seed: 80 + 4 * (training == "TST")))["effect"]
    assert claim.interval.mean == 4.0 and claim.outcome is Outcome.INCONCLUSIVE
    assert math.isnan(claim.p_value) and next_step(claim, 1.0) is None


def test_a_missing_run_makes_only_the_claims_on_its_cell_incomplete() -> None:
    estimators = study_values(gain(4.0), missing={("patchify", "OST", "1"): ["2"]})
    outcomes = {name: claim.outcome for name, claim in claims_of(estimators).items()}
    assert outcomes == {"effect": Outcome.INCOMPLETE, "saving": Outcome.BETTER, "alternative": Outcome.WORSE}


def test_a_cell_without_results_is_missing() -> None:
    estimators = study_values(gain(4.0), missing={("patchify", "OST", "1"): ["0", "1", "2"]})
    assert outcome_of(estimators) is Outcome.MISSING
    assert math.isnan(claims_of(estimators)["effect"].interval.mean)


def test_a_cell_that_diverged_entirely_has_the_estimate_of_chance_alone() -> None:
    key = "patchify", "OST", "1"
    claim = claims_of(study_values(gain(4.0), diverged={key: ["0", "1", "2"]}))["effect"]
    assert claim.outcome is Outcome.ALL_DIVERGED and math.isnan(claim.interval.mean)
    assert claim.with_chance == pytest.approx((84 + 94) / 2 - (80 + 10) / 2)


def test_missing_and_diverged_runs_together_are_missing() -> None:
    key = "patchify", "OST", "1"
    assert outcome_of(study_values(gain(4.0), diverged={key: ["0"]}, missing={key: ["1", "2"]})) is Outcome.MISSING


SEEDS4 = ("0", "1", "2", "3")


def test_a_claim_stands_if_diverged_runs_counted_as_chance_agree() -> None:
    estimators = study_values(gain(4.0), seeds=SEEDS4, diverged={("patchify", "OST", "1"): ["3"]})
    claim = claims_of(estimators)["effect"]
    assert claim.outcome is Outcome.BETTER
    survivors, chance = 90.0, (3 * 90 + 10) / 4
    assert claim.with_chance == pytest.approx((84 + 94) / 2 - (80 + chance) / 2, abs=0.2) and survivors > chance
    assert claims_of(study_values(gain(4.0), seeds=SEEDS4))["effect"].with_chance is None


def test_a_claim_depends_on_the_diverged_runs_if_they_reverse_it() -> None:
    diverged = {("patchify", "TST", "1"): ["3"]}
    claim = claims_of(study_values(gain(4.0), seeds=SEEDS4, diverged=diverged))["effect"]
    assert claim.interval.mean > 0 > (claim.with_chance or 0) and claim.outcome is Outcome.DEPENDS_ON_DIVERGED


def test_equivalence_of_the_survivors_depends_on_the_diverged_runs() -> None:
    diverged = {("patchify", "TST", "1"): ["3"]}
    assert outcome_of(study_values(gain(0.1), seeds=SEEDS4, diverged=diverged)) is Outcome.DEPENDS_ON_DIVERGED


def test_with_an_unknown_chance_level_the_survivors_decide_nothing() -> None:
    diverged = {("patchify", "OST", "1"): ["3"]}
    metric = find_metric("test_score")
    estimators = study_values(gain(4.0), seeds=SEEDS4, diverged=diverged, chance=None, metric=metric)
    claim = claims_of(estimators)["effect"]
    assert claim.with_chance is None and claim.outcome is Outcome.DEPENDS_ON_DIVERGED


@pytest.mark.parametrize(("arm", "outcome"), [("OST", Outcome.FEW_SEEDS), ("TST", Outcome.DEPENDS_ON_DIVERGED)])
def test_two_survivors_are_too_few_or_depend_on_the_third(arm: str, outcome: Outcome) -> None:
    assert outcome_of(study_values(gain(4.0), diverged={("patchify", arm, "1"): ["2"]})) is outcome


def test_a_study_of_one_axis_has_no_alternative_and_one_of_one_amount_no_saving() -> None:
    axes = {"stem": ["patchify"], "training": ["OST", "TST"], "fraction": ["0.1"]}
    estimator, with_chance = study_values(gain(4.0), axes=axes)
    one_axis = replace(estimator.spec, compare={"training": ("OST", "TST")})
    pair = (
        Estimator(axes, one_axis, estimator.values, TOP1),
        Estimator(axes, one_axis, with_chance.values, TOP1),
    )
    (claim,) = find_claims(*pair, {"stem": "patchify"}, "0.1")
    assert claim.name == "effect" and claim.p_value == claim.interval.p_value


@dataclass(frozen=True)
class Choice:
    """A choice on validation images."""

    levels: Mapping[str, str]
    metric: float | None


@dataclass(frozen=True)
class Choices:
    """The choices of a study."""

    choices: tuple[Choice, ...]


def choices(**scores: Sequence[float | None]) -> Choices:
    """Return choices with the scores of OST and TST by stem."""
    return Choices(
        tuple(
            Choice({"stem": stem, "training": training, "fraction": "0.1"}, score)
            for stem, pair in scores.items()
            for training, score in zip(("OST", "TST"), pair, strict=True)
        )
    )


def test_without_tuning_the_first_panel_is_preferred() -> None:
    assert preferred_panel(None, study_values(gain(4.0))[0]) == {"stem": "patchify"}


def test_the_panel_with_the_best_mean_validation_metric_over_its_arms_is_preferred() -> None:
    estimator, _ = study_values(gain(4.0))
    assert preferred_panel(choices(patchify=(90, 95), conv=(93, 93)), estimator) == {"stem": "conv"}
    assert preferred_panel(choices(patchify=(90, 97), conv=(93, 93)), estimator) == {"stem": "patchify"}


def test_more_of_the_metric_of_the_choices_is_better_also_where_the_report_is_about_a_loss() -> None:
    estimator, _ = study_values(gain(4.0), metric=find_metric("test_loss"))
    assert preferred_panel(choices(patchify=(80.0, 82.0), conv=(81.0, 82.0)), estimator) == {"stem": "conv"}


def test_a_panel_whose_tuning_runs_diverged_is_not_preferred() -> None:
    estimator, _ = study_values(gain(4.0))
    assert preferred_panel(choices(patchify=(None, 99), conv=(90, 91)), estimator) == {"stem": "conv"}
    assert preferred_panel(choices(patchify=(None, None), conv=(None, None)), estimator) == {"stem": "patchify"}


def test_an_arm_that_one_panel_lacks_does_not_decide_which_is_preferred() -> None:
    axes = {**AXES, "training": ["OST", "TST", "public"]}
    estimator, _ = study_values(gain(4.0), axes=axes)
    planned = {key: seeds for key, seeds in estimator.values.planned.items() if key[:2] != ("conv", "public")}
    estimator.values = replace(estimator.values, planned=planned)
    public = Choice({"stem": "patchify", "training": "public", "fraction": "0.1"}, 99.0)
    found = Choices((*choices(patchify=(90, 92), conv=(91, 93)).choices, public))
    assert preferred_panel(found, estimator) == {"stem": "conv"}


def claim_of(mean: float, variance: Variance, *, count: int = 3, images: int = 400, degrees: float = 4.0) -> Claim:
    """Return an inconclusive claim."""
    found = interval(mean, variance, count=count, degrees=degrees, images=images)
    return Claim("effect", {}, (), found, 0.5, None, Outcome.INCONCLUSIVE)


def test_more_seeds_settle_a_claim_whose_variance_is_that_of_the_seeds() -> None:
    claim = claim_of(1.5, Variance(1.0, 0.0, 0.0))
    step = next_step(claim, None)
    assert step is not None and step.seeds is not None and step.images is None
    seeds = step.seeds
    assert 3 < seeds < 20

    def excludes_zero(count: int) -> bool:
        found = interval(1.5, Variance(3 / count, 0, 0), count=count, degrees=4.0 * (count - 1) / 2)
        return found.sign != 0

    assert excludes_zero(seeds) and not excludes_zero(seeds - 1)


def test_more_images_settle_a_claim_whose_variance_is_that_of_the_images() -> None:
    step = next_step(claim_of(1.5, Variance(0.0, 1.0, 0.0)), None)
    assert step is not None and step.seeds is None and step.images is not None
    assert 400 < step.images < 4000 and step.images % 10 ** (len(str(step.images)) - 2) == 0  # two significant digits


def test_an_estimate_close_to_zero_is_settled_by_equivalence() -> None:
    variance = Variance(1.0, 0.0, 0.0)
    step, without = next_step(claim_of(0.0, variance), 1.0), next_step(claim_of(0.0, variance), None)
    assert step is not None and step.seeds is not None and without is not None and without.seeds is None


def test_what_settles_a_claim_is_always_more_than_there_is() -> None:
    step = next_step(claim_of(4.0, Variance(1.0, 0.0, 0.0)), None)  # significant alone, but not after the adjustment
    assert step is not None and step.seeds is not None and step.seeds > 3


def test_several_claims_need_more_seeds() -> None:
    claim = claim_of(1.5, Variance(1.0, 0.0, 0.0))
    one, three = next_step(claim, None), next_step(claim, None, claims=3)
    assert one is not None and three is not None and (three.seeds or 0) > (one.seeds or 0)


def test_nothing_settles_a_tiny_estimate_without_a_margin() -> None:
    step = next_step(claim_of(0.001, Variance(1.0, 1.0, 0.0)), None)
    assert step is not None and (step.seeds, step.images) == (None, None) and MOST_SEEDS == 100


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.INCONCLUSIVE])
def test_only_an_inconclusive_claim_has_a_next_step(outcome: Outcome) -> None:
    assert next_step(replace(claim_of(1.5, Variance(1.0, 0.0, 0.0)), outcome=outcome), 1.0) is None


def test_a_claim_without_an_interval_has_no_next_step() -> None:
    claim = replace(claim_of(1.0, Variance(1.0, 0.0, 0.0)), interval=Interval(1.0, math.nan, math.nan, 1))
    assert next_step(claim, 1.0) is None
