"""Sentences of a report in situations in which an earlier version was wrong or misleading; each test builds one.

The numbers are those of the audit's list of sentences; what the report may not say is asserted beside what it says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, Values, comparison_study, page_of, write_comparison

from recipes.reports.comparison.claims import Outcome
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.report import render
from recipes.study.specification import Study

Levels = Mapping[str, str]
Build = Callable[..., ComparisonPage]
ONE_AXIS: dict[str, Any] = {"compare": {"training": ["OST", "TST"]}}


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that writes a comparison and returns its page."""

    def page(values: Values, study: Study | None = None, **options: Any) -> ComparisonPage:
        return page_of(write_comparison(study or comparison_study(), tmp_path, values, **options))

    return page


def index(levels: Levels) -> int:
    """Return which of the three amounts of labels a run has."""
    return {"0.1": 0, "0.25": 1, "1": 2}[levels["fraction"]]


def is_tst(levels: Levels) -> bool:
    """Return whether a run is two-stage."""
    return levels["training"] == "TST"


def curves(one_stage: tuple[float, ...], two_stage: tuple[float, ...]) -> Values:
    """Return accuracies by amount of labels and training, with the scatter of the seeds."""
    return lambda at: (two_stage if is_tst(at) else one_stage)[index(at)] + SCATTER[at["seed"]]


def answer(page: ComparisonPage) -> str:
    """Return the headline and the answer of a page as one text."""
    return "\n".join([page.words.headline(), *page.answer()])


def sentence(page: ComparisonPage, beginning: str) -> str:
    """Return the only sentence of the answer that begins like this."""
    (found,) = [each for each in page.answer() if each.startswith(beginning)]
    return found


def text_of(page: ComparisonPage) -> str:
    """Return the Markdown and the HTML of a page, without figures."""
    return "\n".join(render(page, {}).values())


def test_1_amount_at_which_all_runs_diverged_has_no_value(build: Build) -> None:
    values = curves((0, 91, 94), (85, 95, 96))
    page = build(
        lambda at: {"crash": 7} if not is_tst(at) and index(at) == 0 else values(at),
        comparison_study(stems=("patchify",), **ONE_AXIS),
    )
    assert page.words.headline() == (
        "Two-stage training (TST) and one-stage training (OST) cannot be compared: all runs of one-stage training (OST) with 10% "
        "(100 labels) diverged."
    )
    assert sentence(page, "Two-stage training (TST) with 10%") == (
        "Two-stage training (TST) with 10% (100 labels): label savings are not measured, because one-stage training (OST) has no "
        "result there (all of its runs diverged)."
    )
    assert "is below" not in answer(page)
    assert [card.number for card in page.cards()] == ["", ""]
    assert "With diverged runs counted as the worst value (0.0), the difference is +30.3 points" in page.answer()[0]
    assert "3 of 3 runs diverged (95% CI 44% to 100%)" in sentence(page, "Patchify stem, one-stage")


def test_2_amount_that_was_not_run_is_not_exceeded(build: Build) -> None:
    values = curves((80, 88, 0), (89, 91, 96))
    page = build(lambda at: {"waiting": 1} if not is_tst(at) and index(at) == 2 else values(at))
    assert page.words.headline() == "Incomplete: 6 results are missing."
    assert sentence(page, "With the patchify stem, two-stage training (TST) with 10%") == (
        "With the patchify stem, two-stage training (TST) with 10% (100 labels): one-stage training (OST) needs significantly more "
        "labels for the same top-1 accuracy, more than 250 labels, and 250 labels are the most measured, so no number of saved "
        "labels is stated."
    )
    assert "1,000 labels" not in answer(page) and "100%" not in sentence(
        page, "With the patchify stem, two-stage training (TST) with"
    )
    assert {card.tone for card in page.cards()} == {""}


def test_3_equal_runs_are_equivalent_for_new_images_and_save_nothing(build: Build) -> None:
    page = build(lambda at: 90.0, images=1000)
    assert page.words.headline() == (
        "With the patchify stem, two-stage training (TST) and one-stage training (OST) are equivalent within 1 point."
    )
    (effect, saving, _) = page.cards()
    assert effect.conclusion == "equivalent" and "0.0 to" not in effect.interval
    assert (saving.number, saving.conclusion, saving.tone) == ("", "inconclusive", "")


def test_3_equal_runs_without_predictions_have_no_interval(build: Build) -> None:
    page = build(lambda at: 90.0)
    assert "0.0 points of top-1 accuracy (no interval: all seeds are equal), which is inconclusive." in page.answer()[0]
    assert "0.0 to" not in text_of(page)
    assert page.cards()[1].conclusion == "inconclusive: no interval"


def test_4_noise_saves_no_labels(build: Build) -> None:
    wobble = {"0": (-0.9, 0.8), "1": (0.6, -0.7), "2": (0.4, 0.5)}
    page = build(lambda at: (80, 88, 96)[index(at)] + wobble[at["seed"]][is_tst(at)])
    assert page.words.headline().endswith("do not differ significantly.")
    assert "is inconclusive: the interval leaves the measured range" in answer(page)
    assert {row[-1] for row in page.tables.savings().rows} == {"inconclusive"}
    assert page.cards()[1].number == ""


def test_5_amount_without_a_significant_saving_is_not_on_the_card(build: Build) -> None:
    wobble = {"0": 0.0, "1": 2.6, "2": -0.5}
    page = build(
        lambda at: (80, 88, 96)[index(at)] + (wobble[at["seed"]] if is_tst(at) else SCATTER[at["seed"]]),
        comparison_study(saving_at=0.25),
    )
    _, saving = page.findings.savings[0]
    assert saving is not None and saving.is_bounded and not saving.sign
    assert page.cards()[1].number == "" and page.cards()[1].conclusion == "inconclusive"
    assert sentence(page, "With the patchify stem, two-stage training (TST) with 25%").endswith(
        ", which is no significant saving."
    )


def test_6_savings_are_stated_at_the_declared_amount_in_every_panel(build: Build) -> None:
    one, two = (80, 88, 96), {"patchify": (88, 92, 96), "conv": (78, 92, 96)}
    page = build(lambda at: (two[at["stem"]] if is_tst(at) else one)[index(at)] + SCATTER[at["seed"]])
    rows = page.tables.savings().rows
    assert [row[:2] for row in rows] == [["patchify stem", "10% (100 labels)"], ["conv stem", "10% (100 labels)"]]
    assert [row[-1] for row in rows] == ["needs fewer labels", "needs more labels"]


def test_7_an_arm_that_diverged_entirely_is_named(build: Build) -> None:
    page = build(lambda at: {"crash": 7} if not is_tst(at) else 90 + SCATTER[at["seed"]])
    assert page.words.headline() == (
        "With the patchify stem, two-stage training (TST) and one-stage training (OST) cannot be compared: all runs of one-stage "
        "training (OST) diverged."
    )
    assert "complete" not in page.words.headline()
    assert "18 of 18 runs diverged in 6 combinations of stem, training and fraction" in answer(page)
    assert [claim.outcome for claim in page.findings.claims] == [Outcome.ALL_DIVERGED] * 3


def test_7_page_before_the_first_pair(build: Build) -> None:
    page = build(lambda at: {"waiting": 1})
    assert page.words.headline() == "No pair of runs is complete yet."
    assert "interval" not in answer(page)


def test_8_settings_that_each_lack_another_seed_are_incomplete(build: Build) -> None:
    gain = curves((80, 88, 96), (82, 90, 98))
    page = build(
        lambda at: (
            {"waiting": 1} if is_tst(at) and int(at["seed"]) == (index(at) + (at["stem"] == "conv")) % 3 else gain(at)
        )
    )
    assert page.words.headline() == "Incomplete: 6 results are missing."
    assert page.answer()[0].endswith(", from an incomplete study.") and "+2.0 points" in page.answer()[0]
    assert "Exploratory" not in answer(page)  # two seeds in each setting
    assert [card.conclusion for card in page.cards()] == ["incomplete"] * 3


def test_9_survivors_alone_decide_nothing(build: Build) -> None:
    gain = curves((80, 88, 92), (84, 92, 96))
    page = build(lambda at: {"crash": 7} if is_tst(at) and at["seed"] == "1" else gain(at))
    assert page.words.headline() == (
        "With the patchify stem, whether two-stage training (TST) or one-stage training (OST) is better depends on the runs that "
        "diverged."
    )
    assert (
        "which depends on how diverged runs are counted. Diverged runs are excluded; counted as the worst value (0.0): −"
        in (page.answer()[0])
    )
    assert {card.tone for card in page.cards()} == {""} and page.cards()[1].number == ""
    assert "beats" not in answer(page) and "outperforms" not in answer(page)


def test_9_too_few_survivors_that_agree_with_the_diverged_runs_are_too_few(build: Build) -> None:
    gain = curves((80, 88, 92), (84, 92, 96))
    page = build(lambda at: {"crash": 7} if not is_tst(at) and at["seed"] == "1" else gain(at))
    assert page.words.headline() == "Too few seeds for an answer: 2 seeds left, at least 3 are needed."


def test_10_an_unfinished_study_has_no_headline_of_an_effect(build: Build) -> None:
    page = build(
        lambda at: {"waiting": 1} if at["seed"] != "0" and index(at) else 80 + SCATTER[at["seed"]] + 8 * is_tst(at)
    )
    assert page.words.headline() == "Incomplete: 16 results are missing."
    assert "+8.0 points of top-1 accuracy (no interval: one seed), from an incomplete study." in page.answer()[0]
    assert page.cards()[0].tone == ""


def test_11_opposite_effects_are_an_interaction_and_not_averaged(build: Build) -> None:
    page = build(
        lambda at: 80 + 5 * index(at) + SCATTER[at["seed"]] + 4 * is_tst(at) * (1 if at["stem"] == "conv" else -1)
    )
    assert page.words.headline() == (
        "With the patchify stem, two-stage training (TST) underperforms one-stage training (OST) by 4.0 points."
    )
    found = sentence(page, "The effect of pre-training differs between patchify stem and conv stem by +8.0 points")
    assert "patchify stem −4.0" in found and "conv stem +4.0" in found
    assert found.endswith("An average over both would hide that.") and "On average" not in answer(page)


@pytest.mark.parametrize("count", [3, 1])
def test_12_collapsed_pretraining_is_a_doubt_in_the_headline(build: Build, count: int) -> None:
    def pretraining(at: Levels) -> dict[str, Any]:
        return {"value": 50.0, "status": "collapsed_uniform" if int(at["seed"]) < count else "finished"}

    page = build(curves((80, 85, 90), (84, 89, 94)), pretraining=pretraining)
    behind = "all 3 pretrain runs" if count == 3 else "1 of the 3 pretrain runs"
    assert page.words.headline() == (
        "With the patchify stem, two-stage training (TST) outperforms one-stage training (OST) by 4.0 points, but "
        f"{behind} behind it collapsed."
    )
    assert page.answer()[1].startswith(
        f"{behind[0].upper()}{behind[1:]} behind it collapsed: the comparison says little"
    )
    assert {card.tone for card in page.cards()} == {""}


def test_12_collapsed_runs_are_counted_in_their_own_stage_whose_name_contains_that_of_another(build: Build) -> None:
    page = build(
        curves((80, 85, 90), (84, 89, 94)),
        pretraining=lambda at: {"value": 50.0, "status": "collapsed_uniform" if at["seed"] == "0" else "finished"},
    )
    earlier = page.findings.earlier
    by_cell = {
        key: {seed: (*(f"train-{run}" for run in runs), *runs) for seed, runs in own.items()}
        for key, own in earlier.by_cell.items()
    }
    stages = {**earlier.stages, **{f"train-{run}": "train" for run in earlier.stages}}
    page.words.findings = replace(page.findings, earlier=replace(earlier, by_cell=by_cell, stages=stages))
    assert page.words.collapsed(page.findings.claims[0]) == "1 of the 3 pretrain runs behind it collapsed"


@pytest.mark.parametrize("waiting", [False, True])
def test_12_finished_runs_without_the_metric_are_not_resumed(build: Build, waiting: bool) -> None:
    def values(at: Levels) -> dict[str, Any]:
        if waiting and at["seed"] == "0" and index(at) == 2:
            return {"waiting": True}
        lacks = at["seed"] == "1" and index(at) == 0
        return {"value": 80.0, "metrics": {"test_top1": math.nan if lacks else 80.0 + int(at["seed"])}}

    page = build(values)
    lack = "4 finished runs lack test_top1"
    assert page.words.headline() == f"Incomplete: {'4 results are missing and ' if waiting else ''}{lack}."
    (advice,) = [each for each in page.advice() if lack in each]
    assert ("resume the study" in advice) == waiting and ("the warning names them" in advice) != waiting
    (warning,) = [each for each in page.warnings() if "lack the metric" in each]
    first = next(
        run.id for run in page.study.plan.runs if run.levels.items() >= {"fraction": "0.1", "seed": "1"}.items()
    )
    total = 32 if waiting else 36
    assert warning.startswith(
        f"4 of {total} finished runs of finetune lack the metric test_top1, or its value is not finite: {first}, "
    )
    assert " and 1 more. What is done is not run again" in warning


@pytest.mark.parametrize("sign", [1, -1])
def test_13_tiny_differences_are_equivalent_and_not_rounded_to_zero(build: Build, sign: int) -> None:
    gain = {"0": 0.03, "1": 0.031, "2": 0.059 if sign < 0 else 0.029}
    page = build(lambda at: (80, 88, 96)[index(at)] + sign * gain[at["seed"]] * is_tst(at))
    assert page.words.headline().endswith("are equivalent within 1 point.")
    assert page.cards()[0].number == ("+0.03 points" if sign > 0 else "−0.04 points")
    assert "0.0 points" not in page.answer()[0] and "−0.0 " not in text_of(page)
    assert page.cards()[1].number == "" and page.cards()[1].tone == ""


def test_13_digits_distinguish_the_bounds(build: Build) -> None:
    gain = {"0": 0.03, "1": 0.031, "2": 0.029}
    page = build(lambda at: (80, 88, 96)[index(at)] + gain[at["seed"]] * is_tst(at))
    assert page.cards()[0].interval == "95% CI +0.028 to +0.032"


def test_14_two_seeds_are_too_few(build: Build) -> None:
    values = curves((80, 88, 96), (88, 90, 96.2))
    page = build(values, comparison_study(num_seeds=2))
    assert page.words.headline() == "Too few seeds for an answer: 2 seeds, at least 3 are needed."
    assert "which is inconclusive with fewer than 3 seeds." in page.answer()[0]
    assert page.cards()[1].number == "" and {card.tone for card in page.cards()} == {""}
    assert "significant" not in answer(page) and "Exploratory" not in answer(page)
    assert sentence(page, "What next") == "What next: 1 more seed at least, so that differences can be tested."


def test_14_intervals_stay_within_the_range_of_the_metric(build: Build) -> None:
    page = build(
        lambda at: 10.0 if (is_tst(at), at["seed"], index(at)) == (True, "1", 0) else 84 + 5 * index(at),
        comparison_study(num_seeds=2),
        images=200,
    )
    (arm,) = [arm for arm in page.findings.arms if list(arm.levels.values()) == ["patchify", "0.1", "TST"]]
    assert 0 <= arm.interval.low < arm.interval.mean < arm.interval.high <= 100
    assert all(abs(bound) <= 100 for e in page.findings.main.by_setting for bound in (e.interval.low, e.interval.high))
    assert "±" not in text_of(page)


def test_one_seed_has_numbers_without_intervals(build: Build) -> None:
    page = build(curves((80, 88, 96), (88, 90, 96.2)), comparison_study(num_seeds=1))
    assert page.words.headline() == "Too few seeds for an answer: 1 seed, at least 3 are needed."
    assert "(no interval: one seed)" in page.answer()[0] and "95% CI" not in answer(page)
    assert sentence(page, "What next") == "What next: 2 more seeds at least, so that differences can be tested."


def test_15_a_lower_loss_is_better(build: Build) -> None:
    page = build(
        lambda at: {"metrics": {"test_loss": 1 - 0.2 * index(at) + SCATTER[at["seed"]] / 10 - 0.3 * is_tst(at)}},
        comparison_study(metric="test_loss", metric_name="test loss"),
    )
    assert page.words.headline().endswith(
        "two-stage training (TST) outperforms one-stage training (OST) by 0.300 in test loss."
    )
    assert (
        "−0.300 in test loss (95% CI −0.360 to −0.240; adjusted p < 0.001), significantly better." in page.answer()[0]
    )
    assert [card.tone for card in page.cards()] == ["up", "up", "down"]
    assert "fewer labels" in sentence(page, "With the patchify stem, two-stage training (TST) with 10%")
    assert (
        "Lower values of test loss count as better; its range is not known (`report.metric_range`), so that equivalence is not "
        "tested." in page.notes()
    )
    assert "points" not in answer(page) and not any("TOST" in note for note in page.notes())


def test_15_a_metric_in_0_to_1_has_its_own_scale(build: Build) -> None:
    page = build(
        lambda at: {"metrics": {"test_map": 0.5 + 0.1 * index(at) + SCATTER[at["seed"]] / 100 + 0.03 * is_tst(at)}},
        comparison_study(metric="test_map", metric_name="mAP", metric_range=[0, 1]),
    )
    assert page.words.headline().endswith("outperforms one-stage training (OST) by 0.030 in mAP.")
    assert page.cards()[0].number == "+0.030" and page.cards()[0].interval == "95% CI +0.024 to +0.036"
    assert "Higher values of mAP count as better." in page.notes()
    assert "points" not in answer(page)


def test_15_a_small_difference_of_a_metric_in_0_to_1_is_equivalent(build: Build) -> None:
    page = build(
        lambda at: {"metrics": {"test_map": 0.5 + 0.1 * index(at) + SCATTER[at["seed"]] / 200 + 0.001 * is_tst(at)}},
        comparison_study(metric="test_map", metric_name="mAP", metric_range=[0, 1]),
    )
    assert page.words.headline().endswith("are equivalent within 0.010 in mAP.")


def test_15_an_unknown_metric_says_how_it_is_taken(build: Build) -> None:
    page = build(
        lambda at: {"metrics": {"test_score": 5 + index(at) + SCATTER[at["seed"]] / 10 + 0.3 * is_tst(at)}},
        comparison_study(metric="test_score", metric_name="score"),
    )
    assert any(
        note.startswith("Higher values of score count as better; its range is not known") for note in page.notes()
    )
    assert "%" not in page.cards()[0].number


def test_15_diverged_runs_of_an_unknown_metric_count_for_nothing(build: Build) -> None:
    page = build(
        lambda at: (
            {"crash": 7}
            if at["seed"] == "3"
            else {"metrics": {"test_score": 5 + index(at) + SCATTER[at["seed"]] / 10 + 0.3 * is_tst(at)}}
        ),
        comparison_study(metric="test_score", metric_name="score", num_seeds=4),
    )
    assert page.findings.claims[0].outcome is Outcome.DEPENDS_ON_DIVERGED
    assert "Diverged runs are excluded; no score is known for which they would count." in page.answer()[0]


def test_16_small_fractions_and_ten_stems(build: Build) -> None:
    stems = ["patchify", "conv", *(f"stem{number}" for number in range(8))]

    def values(at: Levels) -> dict[str, Any]:
        value = 80 + 100 * float(at["fraction"]) + SCATTER[at["seed"]] + 4 * is_tst(at)
        return {"value": value, "train_images": round(10_000 * float(at["fraction"]))}

    page = build(values, comparison_study(fractions=(0.004, 0.0045, 0.125), stems=stems))
    assert page.tables.accuracies().header[2:] == ["0.4% (40 labels)", "0.45% (45 labels)", "12.5% (1,250 labels)"]
    assert len(page.answer()) <= 10 and len(page.cards()) == 3
    assert max(map(len, page.answer())) < 500
    assert "Of the 10 levels of stem, two are compared: patchify stem and conv stem." in page.answer()
    assert len(page.tables.savings().rows) == 10


def test_16_amounts_with_equal_numbers_of_labels_are_told_apart_by_their_fraction(build: Build) -> None:
    page = build(
        lambda at: {
            "value": 80 + 4 * is_tst(at) + SCATTER[at["seed"]] + 1000 * float(at["fraction"]),
            "train_images": 4,
        },
        comparison_study(fractions=(0.004, 0.0045)),
    )
    assert page.findings.labels == {}
    assert page.tables.accuracies().header[2:] == ["0.4%", "0.45%"]
    assert page.tables.savings().rows[0][1] == "0.4%"


def test_18_axes_and_single_points_are_worded(build: Build) -> None:
    page = build(curves((80, 88, 95), (81, 89, 96)), comparison_study(fractions=(0.1, 0.25, 1.0)))
    assert page.facts()[1] == "stem (2) × training (2) × fraction (3) × seed (3)"
    assert "by 1.0 point." in page.words.headline() and "+1.0 point of top-1 accuracy" in page.answer()[0]
    assert page.cards()[0].number == "+1.0 point"
    assert "1.0 points" not in text_of(page)


def test_shared_pretraining_is_outside_the_intervals(build: Build) -> None:
    page = build(curves((80, 88, 95), (84, 92, 96)), comparison_study(shared=True))
    assert page.answer()[-1] == (
        "With two-stage training (TST), several seeds start from the same pretrain run: the intervals do not cover how pretrain "
        "runs vary, and are for these runs alone."
    )


def test_pretraining_of_each_seed_is_inside_the_intervals(build: Build) -> None:
    page = build(curves((80, 88, 95), (84, 92, 96)))
    assert "start from the same" not in answer(page)


def test_study_of_one_compared_axis(build: Build) -> None:
    page = build(curves((80, 88, 95), (84, 92, 96)), comparison_study(stems=("patchify",), **ONE_AXIS))
    assert page.words.headline().startswith("Two-stage training (TST) outperforms")
    assert [claim.name for claim in page.findings.claims] == ["effect", "saving"]
    assert "stem" not in page.answer()[0] and "declared effect is" not in answer(page)


def test_study_of_one_amount_has_one_claim_and_no_saving(build: Build) -> None:
    study = comparison_study(fractions=(0.1,), stems=("patchify",), **ONE_AXIS)
    page = build(curves((80,), (84,)), study)
    assert [claim.name for claim in page.findings.claims] == ["effect"]
    assert "(TST) compared with one-stage training (OST), with 10% (100 labels): +4.0 points" in page.answer()[0]
    assert "because one-stage training (OST) has results at only one amount." in page.answer()[1]
    assert "Exploratory" not in answer(page)


def test_study_of_three_compared_axes(build: Build) -> None:
    study = comparison_study(
        fractions=(0.1, 1.0),
        axes={"size": {"levels": {"small": {"model.dim": 1}, "big": {"model.dim": 2}}}},
        compare={"training": ["OST", "TST"], "stem": ["patchify", "conv"], "size": ["small", "big"]},
    )
    page = build(lambda at: 80 + 9 * (at["fraction"] == "1") + SCATTER[at["seed"]] + 4 * is_tst(at), study)
    assert page.words.headline().startswith("With patchify stem and small, two-stage training (TST) outperforms")
    assert "averaged over 4 settings" in sentence(page, "Conv stem with one-stage")
    assert "big − small" in text_of(page) and "conv − patchify" in text_of(page)


def test_what_would_settle_an_open_claim_is_at_least_one_more_seed(build: Build) -> None:
    wobble = {"0": 0.6, "1": 1.9, "2": 2.6}
    page = build(
        lambda at: (80, 88, 96)[index(at)] + (wobble[at["seed"]] if is_tst(at) else SCATTER[at["seed"]]), images=1000
    )
    steps = list(page.words.next_steps())
    assert steps and not any(" 0 more" in step for step in steps)
    assert all("if the estimate does not change." in step for step in steps)
