"""Findings compared with a published table: rows, crashes, claims and ranking, checked against values derived by hand."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats
from table_studies import TABLE1, row_axis, seed_axis, table1_outcome, table1_study, table_study, write_study

from recipes.reports.replication.agreement import find_agreements
from recipes.reports.replication.claims import Outcome, find_claims
from recipes.reports.replication.divergences import find_divergences
from recipes.reports.replication.findings import TableFindings, compute_table_findings
from recipes.study.specification import Axis, Figure, Pair

PUBLISHED = (79.8, -math.inf, 80.0, 79.6, 81.6, 81.9, -math.inf, 81.7)


@pytest.fixture
def findings(tmp_path: Path) -> TableFindings:
    """Return the findings of table 1."""
    return compute_table_findings(write_study(table1_study(), tmp_path, table1_outcome))


def test_row_has_the_mean_over_its_seeds_and_the_published_value(findings: TableFindings) -> None:
    assert [dict(row.columns) for row in findings.rows] == [dict(columns) for columns in TABLE1]
    score = findings.rows[4].scores["top1"]
    assert score.interval.mean == pytest.approx(93.0) and score.published == 81.6
    deviation = ((0.5**2 + 0.1**2 + 0.4**2) / 2) ** 0.5
    assert score.interval.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-5)
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


def test_claims_are_paired_by_seed_and_a_crash_ranks_below_every_value(findings: TableFindings) -> None:
    first, second, third, fourth = find_claims(findings)
    assert first.points == {seed: pytest.approx(3.0) for seed in "012"} and first.outcome is Outcome.SAME
    assert (second.outcome, third.outcome, fourth.outcome) == (Outcome.SAME,) * 3
    assert second.published == ("crash", 81.9) and fourth.interval.mean == pytest.approx(2.0)


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
    assert outcomes == [Outcome.OPPOSITE, Outcome.INCONCLUSIVE, Outcome.OPPOSITE, Outcome.MISSING, Outcome.MISSING]


def test_one_seed_gives_only_a_direction(tmp_path: Path) -> None:
    claims = find_claims(compute_table_findings(write_study(table1_study(1), tmp_path, table1_outcome)))
    assert claims[0].outcome is Outcome.SAME_ONE and not claims[0].interval.is_known


def test_crashes_here_compared_with_the_published_ones(findings: TableFindings) -> None:
    crashes = find_crashes(findings)
    assert [len(rows) for rows in (crashes.both, crashes.ours_only, crashes.published_only)] == [1, 0, 1]


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
    assert claim.points == {seed: pytest.approx(4.0) for seed in "012"}  # 6 points below the last value compared with 2
