"""Findings compared with a published table: rows, crashes, claims and ranking, checked against values derived by hand."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats
from table_studies import (
    CLAIMS,
    SEED_OFFSETS,
    TABLE1,
    row_axis,
    seed_axis,
    table1_outcome,
    table1_study,
    table_study,
    write_study,
)

from recipes.reports.next_steps import NextStep
from recipes.reports.replication.agreement import find_agreements, tau_p_value
from recipes.reports.replication.claims import Outcome, claim_step, find_claims
from recipes.reports.replication.divergences import count_diverged, find_divergences
from recipes.reports.replication.findings import TableFindings, compute_table_findings
from recipes.reports.statistics import bounded_interval, holm, student_interval
from recipes.study.report_specification import Figure, Pair
from recipes.study.specification import Axis

PUBLISHED = (79.8, -math.inf, 80.0, 79.6, 81.6, 81.9, -math.inf, 81.7)


@pytest.fixture
def findings(tmp_path: Path) -> TableFindings:
    """Return the findings of table 1."""
    return compute_table_findings(write_study(table1_study(), tmp_path, table1_outcome))


def test_row_has_the_mean_over_its_seeds_and_the_published_value(findings: TableFindings) -> None:
    assert [dict(row.columns) for row in findings.rows] == [dict(columns) for columns in TABLE1]
    score = findings.rows[4].scores["top1"]
    assert score.interval.mean == pytest.approx(93.0) and score.published == 81.6
    expected = bounded_interval(student_interval([92.5, 93.1, 93.4]), 0.0, 100.0)
    assert (score.interval.low, score.interval.high) == pytest.approx((expected.low, expected.high))
    assert findings.varied == ["stem", "lr", "optimizer", "warmup_epochs"]


def test_row_counts_as_a_crash_if_half_of_its_runs_crashed(findings: TableFindings) -> None:
    assert [row.crashed for row in findings.rows] == [False, True, *[False] * 6]
    assert findings.rows[1].rank_value("top1") == -math.inf
    assert findings.rows[3].rank_value("top1") == pytest.approx((88.5 + 89.4) / 2)
    crash = findings.rows[1].crashes["0"]
    assert (crash.stage, crash.step, crash.kind) == ("finetune", 97, "non_finite_loss")


def test_crash_of_an_earlier_stage_counts_for_the_row(tmp_path: Path) -> None:
    rows = [{"stem": "conv"}, {"stem": "patchify"}]
    axis = Axis("row", {"row00": {"row": 0}, "row01": {"row": 1}}, {f"row0{n}": row for n, row in enumerate(rows)})
    study = table_study([axis, seed_axis(1)], Figure("rows"), stages=("pretrain", "finetune"))

    def run_of(stage: str, levels: Mapping[str, str]) -> dict[str, object]:
        if levels["row"] == "row01":
            return {"crash": 12} if stage == "pretrain" else {"waiting": True}
        return {"value": 80.0, "status": "collapsed_uniform" if stage == "pretrain" else "finished"}

    first, second = compute_table_findings(write_study(study, tmp_path, run_of)).rows
    assert second.crashed and second.crashes["0"].stage == "pretrain" and not second.waiting
    assert not first.crashed and first.collapses == {"0": "collapsed_uniform"}
    assert first.scores["top1"].points == {"0": 80.0}


def test_ranking_of_the_rows_matches_a_loop_over_all_pairs(findings: TableFindings) -> None:
    (agreement,) = find_agreements(findings)
    ours = [row.rank_value("top1") or 0.0 for row in findings.rows]
    signs = [
        1 if (PUBLISHED[a] > PUBLISHED[b]) == (ours[a] > ours[b]) else -1
        for a, b in itertools.combinations(range(8), 2)
        if PUBLISHED[a] != PUBLISHED[b]
    ]
    assert (agreement.same, agreement.opposite, agreement.tied) == (signs.count(1), signs.count(-1), 0)
    assert agreement.pairs == 27  # the two published crashes are not ordered
    finite = [[max(value, -1.0) for value in values] for values in (ours, PUBLISHED)]
    assert agreement.kendall == pytest.approx(stats.kendalltau(*finite).statistic)
    assert agreement.spearman == pytest.approx(stats.spearmanr(*finite).statistic)


def test_claims_compare_independent_rows_and_divergence_of_two_of_three_runs_decides_none(
    findings: TableFindings,
) -> None:
    first, second, third, fourth = find_claims(findings)
    variance = 2 * (0.5**2 + 0.1**2 + 0.4**2) / 2 / 3
    half = stats.t.ppf(0.975, 4) * variance**0.5
    assert first.interval.mean == pytest.approx(3.0) and first.interval.half_width == pytest.approx(half)
    assert (first.outcome, fourth.outcome) == (Outcome.SAME, Outcome.SAME)
    assert (second.outcome, third.outcome) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert second.published == ("crash", 81.9) and fourth.interval.mean == pytest.approx(2.0)


def test_p_values_of_claims_are_adjusted_for_all_claims_whose_rows_the_study_has(tmp_path: Path) -> None:
    pairs = (*CLAIMS, Pair("a row that the scale excludes", TABLE1[0], {"stem": "volo"}))
    study = table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows"), table="scaled_relu_table1", pairs=pairs)
    claims = find_claims(compute_table_findings(write_study(study, tmp_path, table1_outcome)))
    own = {str(number): claim.difference.p_value for number, claim in enumerate(claims[:4])}
    assert [claim.p_value for claim in claims[:4]] == pytest.approx(list(holm(own).values()), nan_ok=True)
    assert claims[0].p_value == pytest.approx(min(4 * own["0"], 1.0), rel=0.5) and claims[0].p_value > own["0"]
    assert math.isnan(claims[4].p_value)


def test_significant_difference_is_inconclusive_if_it_is_not_after_the_adjustment(tmp_path: Path) -> None:
    pairs = tuple(Pair(f"claim {number}", TABLE1[0], TABLE1[number]) for number in (2, 4, 5, 6, 7))

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        return {"value": 90.0 + 1.2 * (levels["row"] == "row02") + SEED_OFFSETS[int(levels["seed"])]}

    study = table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows"), table="scaled_relu_table1", pairs=pairs)
    first, *_ = find_claims(compute_table_findings(write_study(study, tmp_path, run_of)))
    assert first.interval.low > 0 and first.difference.p_value < 0.05 < first.p_value
    assert first.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("seeds", "outcome"), [(3, Outcome.INCONCLUSIVE), (5, Outcome.SAME)])
def test_divergence_of_all_runs_of_a_row_decides_a_claim_by_boschloos_test(
    seeds: int, outcome: Outcome, tmp_path: Path
) -> None:
    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        return {"crash": 9} if levels["row"] == "row01" else {"value": 90.0 + 0.1 * int(levels["seed"])}

    _, claim, *_ = find_claims(compute_table_findings(write_study(table1_study(seeds), tmp_path, run_of)))
    expected = stats.boschloo_exact([[seeds, 0], [0, seeds]]).pvalue
    assert claim.difference.p_value == pytest.approx(expected) and claim.outcome is outcome


def test_number_of_runs_that_would_settle_a_divergence_is_the_first_at_which_it_is_significant(tmp_path: Path) -> None:
    study = table_study(
        [row_axis(TABLE1), seed_axis(3)], Figure("rows"), table="scaled_relu_table1", pairs=(CLAIMS[1],) * 3
    )

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        return {"crash": 9} if levels["row"] == "row01" else {"value": 90.0 + 0.1 * int(levels["seed"])}

    claim, *_ = find_claims(compute_table_findings(write_study(study, tmp_path, run_of)))
    assert claim_step(claim, 3) == NextStep(4, None)  # 3 * 2 / 4**4 < 0.05 < 3 * 2 / 4**3


def test_claims_that_are_reversed_inconclusive_or_not_measured(tmp_path: Path) -> None:
    pairs = (
        Pair("reversed", TABLE1[4], TABLE1[0]),
        Pair("inconclusive", TABLE1[0], TABLE1[2]),
        Pair("crashes unexpectedly", TABLE1[5], TABLE1[1]),
        Pair("no such row", TABLE1[0], {"stem": "volo"}),
        Pair("waiting", TABLE1[0], TABLE1[7]),
    )
    study = table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows"), table="scaled_relu_table1", pairs=pairs)
    noise = {"0": 0.9, "1": -1.1, "2": 0.4}

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        if levels["row"] == "row07":
            return {"waiting": True}
        return {"value": 90.4 + noise[levels["seed"]]} if levels["row"] == "row02" else table1_outcome(stage, levels)

    outcomes = [claim.outcome for claim in find_claims(compute_table_findings(write_study(study, tmp_path, run_of)))]
    assert outcomes == [Outcome.OPPOSITE, *[Outcome.INCONCLUSIVE] * 2, Outcome.MISSING, Outcome.MISSING]


def test_one_seed_gives_only_a_direction(tmp_path: Path) -> None:
    claims = find_claims(compute_table_findings(write_study(table1_study(1), tmp_path, table1_outcome)))
    assert claims[0].outcome is Outcome.SAME_ONE and not claims[0].interval.is_known


def test_diverged_runs_are_counted_by_what_the_paper_prints(findings: TableFindings) -> None:
    found = find_divergences(findings)
    assert [len(rows) for rows in (found.crash, found.value, found.unpublished)] == [2, 6, 0]
    assert count_diverged(found.crash) == (2, 6) and count_diverged(found.value) == (1, 18)
    assert found.crash_rows_diverged == 1


def test_rate_of_divergence_of_a_row_has_wilsons_interval(findings: TableFindings) -> None:
    rates = find_divergences(findings).rates
    assert [(len(each.row.crashes), each.row.ended) for each in rates] == [(2, 3), (0, 3), (1, 3)]
    z = stats.norm.ppf(0.975)
    center, half = (2 / 3 + z**2 / 6) / (1 + z**2 / 3), z / (1 + z**2 / 3) * (2 / 27 + z**2 / 36) ** 0.5
    assert (rates[0].low, rates[0].high) == pytest.approx((center - half, center + half))


def test_p_value_of_kendalls_tau_is_that_over_all_permutations_of_the_rows() -> None:
    ours, published = (1.0, 2.0, 2.0, 5.0, 4.0, 6.0), (1.0, 1.0, 3.0, 4.0, -math.inf, 6.0)
    order = [max(value, -9.0) for value in published]
    found = stats.kendalltau(ours, order).statistic
    taus = [stats.kendalltau(ours, each).statistic for each in itertools.permutations(order)]
    upper, lower = (sum(sign * tau >= sign * found - 1e-12 for tau in taus) / len(taus) for sign in (1, -1))
    assert tau_p_value(ours, published) == pytest.approx(min(1.0, 2 * min(upper, lower)))
    assert tau_p_value(ours[3:], published[3:]) == pytest.approx(stats.kendalltau([2, 1, 3], [2, 1, 3]).pvalue)


def test_order_as_a_whole_counts_where_no_pair_differs_by_itself(tmp_path: Path) -> None:
    ranks = [sorted(PUBLISHED).index(value) for value in PUBLISHED]

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        return {"value": 90.0 + 0.02 * ranks[int(levels["row"][3:])] + 3 * SEED_OFFSETS[int(levels["seed"])]}

    (agreement,) = find_agreements(compute_table_findings(write_study(table1_study(), tmp_path, run_of)))
    assert agreement.distinguished == 0 and agreement.p_value < 0.001 and agreement.has_order


def test_ranks_are_ranges_of_rows_that_do_not_differ_significantly(tmp_path: Path) -> None:
    values = (80.0, 80.1, 80.05, 80.02, 95.0, 95.1, 95.05, 95.02)

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        return {"value": values[int(levels["row"][3:])] + 0.2 * SEED_OFFSETS[int(levels["seed"])]}

    findings = compute_table_findings(write_study(table1_study(), tmp_path, run_of))
    (agreement,) = find_agreements(findings)
    assert [agreement.ranks[row] for row in findings.rows] == [(5, 8)] * 4 + [(1, 4)] * 4
    assert [agreement.published_ranks[row] for row in findings.rows] == [
        (5, 5), (7, 8), (4, 4), (6, 6), (3, 3), (1, 1), (7, 8), (2, 2),
    ]  # fmt: skip


def test_doubtful_values_are_excluded_from_the_ranking(tmp_path: Path) -> None:
    rows = [{"stem": "1Proj+1BN+1ReLU", "lr": lr} for lr in (0.0016, 0.05)] + [{"stem": "1Proj", "lr": 0.0016}]
    metrics = {"msmt17_map": "test_top1", "msmt17_rank1": "test_top1"}
    study = table_study([row_axis(rows), seed_axis(1)], Figure("rows"), table="scaled_relu_table4", metrics=metrics)
    found = compute_table_findings(
        write_study(study, tmp_path, lambda stage, levels: {"value": 60.0 + int(levels["row"][3:])})
    )
    assert [row.scores["msmt17_rank1"].doubtful for row in found.rows] == [True, True, False]
    assert [agreement.column for agreement in find_agreements(found)] == ["msmt17_map"]


def test_metric_after_a_fraction_of_the_epochs_is_read_during_training(tmp_path: Path) -> None:
    metrics = {"early": "validation_top1@0.25", "late": "validation_top1@1.0"}
    study = table_study([row_axis([{"stem": "conv"}]), seed_axis(2)], Figure("rows"), metrics=metrics)
    found = compute_table_findings(write_study(study, tmp_path, lambda stage, levels: {"value": 80.0}))
    early = found.rows[0].scores["early"].interval.mean
    assert early == pytest.approx(
        10 + 70 * (1 - math.exp(-4 / 5))
    )  # evaluated every second epoch: 4 is closest to 5 of 20
    assert found.epochs_read == {"validation_top1@0.25": ((4, 20),), "validation_top1@1.0": ((20, 20),)}


def test_value_of_layers_is_their_mean(tmp_path: Path) -> None:
    study = table_study(
        [row_axis([{"stem": "conv"}]), seed_axis(1)], Figure("layers"), metrics={"similarity": "similarity"}
    )
    layers = {f"similarity_{number:02d}": 0.2 + 0.1 * number for number in range(3)}
    found = compute_table_findings(write_study(study, tmp_path, lambda stage, levels: {"metrics": layers}))
    assert found.rows[0].scores["similarity"].points == {"0": pytest.approx(0.3)}


def test_distribution_counts_draws_near_the_best_and_crashes_as_errors_of_100(tmp_path: Path) -> None:
    draws = Axis("draw", {str(n): {"lr": n} for n in range(4)}, {str(n): {"lr": 0.1 * n} for n in range(4)})
    axes = [Axis("stem", {"conv": {"s": 1}}), draws, seed_axis(1)]
    values = {"0": {"value": 95.0}, "1": {"value": 93.5}, "2": {"value": 80.0}, "3": {"crash": 9}}
    study = table_study(axes, Figure("distribution", x="draw"))
    (row,) = compute_table_findings(write_study(study, tmp_path, lambda stage, levels: values[levels["draw"]])).rows
    assert dict(row.columns) == {"stem": "conv"} and not row.crashed
    assert sorted(row.draws.values()) == [0.0, 80.0, 93.5, 95.0]
    assert row.scores["top1"].interval.mean == pytest.approx(50.0)


def test_seeds_of_a_draw_are_no_draws_of_their_own(tmp_path: Path) -> None:
    draws = Axis("draw", {str(n): {"d": n} for n in range(4)}, {str(n): {"lr": n} for n in range(4)})
    axes = [Axis("stem", {"patchify": {"s": 0}, "conv": {"s": 1}}), draws, seed_axis(3)]
    values = {"patchify": (95.0, 93.5, 80.0, 94.5), "conv": (95.0, 80.0, 81.0, 82.0)}

    def run_of(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        if (levels["stem"], levels["draw"], levels["seed"]) == ("patchify", "3", "1"):
            return {"crash": 9}
        return {"value": values[levels["stem"]][int(levels["draw"])] + SEED_OFFSETS[int(levels["seed"])]}

    pair = Pair("fewer good draws", {"stem": "conv"}, {"stem": "patchify"})
    found = compute_table_findings(
        write_study(table_study(axes, Figure("distribution", x="draw"), pairs=(pair,)), tmp_path, run_of)
    )
    patchify, conv = found.rows
    diverged = (94.5 - 0.5 + 94.5 + 0.4) / 3  # a run that diverged counts as 0
    assert patchify.draws == pytest.approx({"0": 95.0, "1": 93.5, "2": 80.0, "3": diverged})
    assert (patchify.diverged_draws, conv.diverged_draws) == ({"3"}, set())
    assert (patchify.scores["top1"].interval.count, conv.scores["top1"].interval.count) == (4, 4)
    assert patchify.scores["top1"].points == {"0": 100.0, "1": 100.0, "2": 0.0, "3": 0.0}
    (claim,) = find_claims(found)
    assert claim.interval.count == 4 and claim.interval.mean == pytest.approx(25.0)


def test_claim_about_gaps_compares_the_distance_to_the_last_value(tmp_path: Path) -> None:
    axes = [
        Axis("stem", {"patchify": {"s": 0}, "conv": {"s": 1}}),
        Axis("epochs", {"50": {"e": 50}, "400": {"e": 400}}),
        seed_axis(3),
    ]
    pair = Pair("closer", {"stem": "patchify", "epochs": 50}, {"stem": "conv", "epochs": 50})
    values = {("patchify", "50"): 90.0, ("patchify", "400"): 96.0, ("conv", "50"): 85.0, ("conv", "400"): 87.0}
    study = table_study(axes, Figure("gap", x="epochs"), pairs=(pair,))
    found = compute_table_findings(
        write_study(study, tmp_path, lambda stage, at: {"value": values[at["stem"], at["epochs"]] + int(at["seed"])})
    )
    (claim,) = find_claims(found)
    assert claim.interval.mean == pytest.approx(4.0)  # 6 points below the last value compared with 2
