"""Findings beside a printed table: rows, crashes, claims and the order of the rows, against values worked out by hand."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from scipy import stats
from table_studies import TABLE1, axis_of_rows, end_table1, seeds, study_table1, table_study, written

from recipes.reports.agreement import Outcome, find_agreements, find_claims, find_crashes
from recipes.reports.table_findings import TableFindings, find_table
from recipes.study.specification import Axis, Figure, Pair

PRINTED = (79.8, -math.inf, 80.0, 79.6, 81.6, 81.9, -math.inf, 81.7)


@pytest.fixture
def findings(tmp_path: Path) -> TableFindings:
    """Return the findings of table 1."""
    return find_table(written(study_table1(), tmp_path, end_table1))


def test_a_row_has_the_mean_of_its_seeds_beside_the_printed_value(findings: TableFindings) -> None:
    assert [dict(row.columns) for row in findings.rows] == [dict(columns) for columns in TABLE1]
    score = findings.rows[4].scores["top1"]
    assert score.interval.mean == pytest.approx(93.0) and score.printed == 81.6
    deviation = ((0.5**2 + 0.1**2 + 0.4**2) / 2) ** 0.5
    assert score.interval.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-5)
    assert findings.varied == ["stem", "lr", "optimizer", "warmup_epochs"]


def test_a_row_stands_as_a_crash_where_half_of_its_runs_crashed(findings: TableFindings) -> None:
    assert [row.crashed for row in findings.rows] == [False, True, *[False] * 6]
    assert findings.rows[1].standing("top1") == -math.inf
    assert findings.rows[3].standing("top1") == pytest.approx((88.5 + 89.4) / 2)
    crash = findings.rows[1].crashes["0"]
    assert (crash.stage, crash.step, crash.kind) == ("finetune", 97, "non_finite_loss")


def test_a_crash_of_an_earlier_stage_is_the_rows(tmp_path: Path) -> None:
    rows = [{"stem": "conv"}, {"stem": "patchify"}]
    axis = Axis("row", {"row00": {"row": 0}, "row01": {"row": 1}}, {f"row0{n}": row for n, row in enumerate(rows)})
    study = table_study([axis, seeds(1)], Figure("rows"), stages=("pretrain", "finetune"))

    def end(stage: str, levels: Mapping[str, str]) -> dict[str, object]:
        if levels["row"] == "row01":
            return {"crash": 12} if stage == "pretrain" else {"waiting": True}
        return {"value": 80.0, "verdict": "collapsed_uniform" if stage == "pretrain" else "finished"}

    first, second = find_table(written(study, tmp_path, end)).rows
    assert second.crashed and second.crashes["0"].stage == "pretrain" and not second.waiting
    assert not first.crashed and first.collapses == {"0": "collapsed_uniform"}
    assert first.scores["top1"].points == {"0": 80.0}


def test_the_order_of_the_rows_against_all_pairs_one_by_one(findings: TableFindings) -> None:
    (agreement,) = find_agreements(findings)
    ours = [row.standing("top1") or 0.0 for row in findings.rows]
    signs = [
        (PRINTED[a] > PRINTED[b]) - (PRINTED[a] < PRINTED[b]) and (1 if (PRINTED[a] > PRINTED[b]) == (ours[a] > ours[b]) else -1)
        for a, b in itertools.combinations(range(8), 2)
    ]  # fmt: skip
    assert (agreement.same, agreement.opposite, agreement.tied) == (signs.count(1), signs.count(-1), 0)
    assert agreement.pairs == 27  # the two printed crashes are not ordered
    finite = [[max(value, -1.0) for value in values] for values in (ours, PRINTED)]
    assert agreement.kendall == pytest.approx(stats.kendalltau(*finite).statistic)
    assert agreement.spearman == pytest.approx(stats.spearmanr(*finite).statistic)


def test_claims_are_paired_by_seed_and_a_crash_is_below_every_value(findings: TableFindings) -> None:
    first, second, third, fourth = find_claims(findings)
    assert first.points == {seed: pytest.approx(3.0) for seed in "012"} and first.outcome is Outcome.SAME
    assert (second.outcome, third.outcome, fourth.outcome) == (Outcome.SAME,) * 3
    assert second.printed == ("crash", 81.9) and fourth.interval.mean == pytest.approx(2.0)


def test_claims_that_are_reversed_unclear_or_not_measured(tmp_path: Path) -> None:
    pairs = (
        Pair("reversed", TABLE1[4], TABLE1[0]),
        Pair("unclear", TABLE1[0], TABLE1[2]),
        Pair("crashes where it should not", TABLE1[5], TABLE1[1]),
        Pair("no such row", TABLE1[0], {"stem": "volo"}),
        Pair("waiting", TABLE1[0], TABLE1[7]),
    )
    study = table_study([axis_of_rows(TABLE1), seeds(3)], Figure("rows"), table="scaled_relu_table1", pairs=pairs)
    noise = {"0": 0.9, "1": -1.1, "2": 0.4}

    def end(stage: str, levels: Mapping[str, str]) -> Mapping[str, object]:
        if levels["row"] == "row07":
            return {"waiting": True}
        return {"value": 90.4 + noise[levels["seed"]]} if levels["row"] == "row02" else end_table1(stage, levels)

    outcomes = [claim.outcome for claim in find_claims(find_table(written(study, tmp_path, end)))]
    assert outcomes == [Outcome.OPPOSITE, Outcome.UNCLEAR, Outcome.OPPOSITE, Outcome.MISSING, Outcome.MISSING]


def test_one_seed_gives_a_direction_and_says_so(tmp_path: Path) -> None:
    claims = find_claims(find_table(written(study_table1(1), tmp_path, end_table1)))
    assert claims[0].outcome is Outcome.SAME_ONE and not claims[0].interval.is_known


def test_crashes_of_ours_against_the_printed_ones(findings: TableFindings) -> None:
    crashes = find_crashes(findings)
    assert [len(group) for group in (crashes.both, crashes.ours, crashes.printed, crashes.neither)] == [1, 0, 1, 6]


def test_doubtful_values_are_left_out_of_the_order(tmp_path: Path) -> None:
    rows = [{"stem": "1Proj+1BN+1ReLU", "lr": lr} for lr in (0.0016, 0.05)] + [{"stem": "1Proj", "lr": 0.0016}]
    metrics = {"msmt17_map": "test_top1", "msmt17_rank1": "test_top1"}
    study = table_study([axis_of_rows(rows), seeds(1)], Figure("rows"), table="scaled_relu_table4", metrics=metrics)
    found = find_table(written(study, tmp_path, lambda stage, levels: {"value": 60.0 + int(levels["row"][3:])}))
    assert [row.scores["msmt17_rank1"].doubtful for row in found.rows] == [True, True, False]
    assert [agreement.column for agreement in find_agreements(found)] == ["msmt17_map"]


def test_a_metric_after_a_share_of_the_epochs_is_read_on_the_way(tmp_path: Path) -> None:
    metrics = {"early": "validation_top1@0.25", "late": "validation_top1@1.0"}
    study = table_study([axis_of_rows([{"stem": "conv"}]), seeds(2)], Figure("rows"), metrics=metrics)
    found = find_table(written(study, tmp_path, lambda stage, levels: {"value": 80.0}))
    early = found.rows[0].scores["early"].interval.mean
    assert early == pytest.approx(
        10 + 70 * (1 - math.exp(-4 / 5))
    )  # looked at every second epoch: 4 is nearest to 5 of 20
    assert found.epochs_read == {"validation_top1@0.25": ((4, 20),), "validation_top1@1.0": ((20, 20),)}


def test_layers_stand_as_their_mean(tmp_path: Path) -> None:
    study = table_study(
        [axis_of_rows([{"stem": "conv"}]), seeds(1)], Figure("layers"), metrics={"similarity": "similarity"}
    )
    layers = {f"similarity_{number:02d}": 0.2 + 0.1 * number for number in range(3)}
    found = find_table(written(study, tmp_path, lambda stage, levels: {"metrics": layers}))
    assert found.rows[0].scores["similarity"].points == {"0": pytest.approx(0.3)}


def test_a_distribution_counts_draws_near_the_best_and_crashes_as_errors_of_100(tmp_path: Path) -> None:
    draws = Axis("draw", {str(n): {"lr": n} for n in range(4)}, {str(n): {"lr": 0.1 * n} for n in range(4)})
    axes = [Axis("stem", {"conv": {"s": 1}}), draws, seeds(1)]
    values = {"0": {"value": 95.0}, "1": {"value": 93.5}, "2": {"value": 80.0}, "3": {"crash": 9}}
    study = table_study(axes, Figure("distribution", over="draw"))
    (row,) = find_table(written(study, tmp_path, lambda stage, levels: values[levels["draw"]])).rows
    assert dict(row.columns) == {"stem": "conv"} and not row.crashed
    assert sorted(row.draws.values()) == [0.0, 80.0, 93.5, 95.0]
    assert row.scores["top1"].interval.mean == pytest.approx(50.0)


def test_a_claim_about_gaps_compares_the_distance_to_the_last(tmp_path: Path) -> None:
    axes = [
        Axis("stem", {"patchify": {"s": 0}, "conv": {"s": 1}}),
        Axis("epochs", {"50": {"e": 50}, "400": {"e": 400}}),
        seeds(3),
    ]
    pair = Pair("nearer", {"stem": "patchify", "epochs": 50}, {"stem": "conv", "epochs": 50})
    values = {("patchify", "50"): 90.0, ("patchify", "400"): 96.0, ("conv", "50"): 85.0, ("conv", "400"): 87.0}
    study = table_study(axes, Figure("gap", over="epochs"), pairs=(pair,))
    found = find_table(
        written(study, tmp_path, lambda stage, at: {"value": values[at["stem"], at["epochs"]] + int(at["seed"])})
    )
    (claim,) = find_claims(found)
    assert claim.points == {seed: pytest.approx(4.0) for seed in "012"}  # 6 points below the last against 2
