"""Section `without`: combinations of levels that are no cells, in plans, matched arms, tuning and baselines."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recipes_fakes import fake_measure
from starts_study import STARTS, WEIGHTS, starts_mapping

from common.errors import UserError
from common.training.cost import Cost
from recipes.stages import resolve_by_config
from recipes.study.baselines import with_baselines
from recipes.study.cost import DatasetSize, estimate
from recipes.study.full_plan import make_full_plan
from recipes.study.lengths import RunLength
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study
from recipes.study.tuning import best, choose, make_choices, plan_tuning, with_doubled
from recipes.study.without import build_without

PATCHIFY_ONLY = ("public", "continued")


def error_message(**changes: Any) -> str:
    """Return the error message for `STARTS` with some sections changed."""
    with pytest.raises(UserError) as caught:
        build_study({**STARTS, **changes}, "starts.yaml")
    return str(caught.value)


def measure(run: PlannedRun) -> RunLength:
    """Return the cost of a run: 1,000 MACs for a pre-training, 600 for a continued one, 100 for an epoch of fine-tuning."""
    if run.stage == "continue":
        return RunLength(Cost(steps=40, images=1, macs_per_image=600), 4)
    return fake_measure(pretrain=1000, image=100)(run)


def epochs_by_arm(plan: Plan) -> dict[tuple[str, str], str]:
    """Return the epochs of the last stage by stem and training, as written where the plan sets none."""
    by_id = {run.id: run for run in plan.runs}
    words = {
        (cell.levels["stem"], cell.levels["training"]): dict(
            word.split("=", 1) for word in by_id[cell.runs["finetune"]].overrides
        )
        for cell in plan.cells
    }
    return {arm: own.get("train.epochs", "as written") for arm, own in words.items()}


def test_its_combinations_are_no_cells_and_have_no_runs(echo_config: Resolver) -> None:
    plan = make_plan(build_study(starts_mapping(), "starts.yaml"), echo_config)
    assert Counter((cell.levels["stem"], cell.levels["training"]) for cell in plan.cells) == {
        **{("patchify", name): 6 for name in ("OST", "TST", *PATCHIFY_ONLY)},
        **{("conv", name): 6 for name in ("OST", "TST")},
    }
    assert Counter(run.stage for run in plan.runs) == {"pretrain": 6, "continue": 3, "finetune": 36}
    assert not [run for run in plan.runs if run.stage == "continue" and run.levels["stem"] == "conv"]
    assert plan.study.size == (
        "stem (2) × training (4) × fraction (2) × seed (3), except public with conv, except continued with conv"
    )


def test_stages_of_one_module_have_runs_of_their_own(echo_config: Resolver) -> None:
    plan = make_plan(build_study(starts_mapping(), "starts.yaml"), echo_config)
    by_id = {run.id: run for run in plan.runs}
    for cell in plan.cells:
        run = by_id[cell.runs["finetune"]]
        start = {"OST": None, "TST": "pretrain", "public": None, "continued": "continue"}[cell.levels["training"]]
        assert (by_id[run.needs].stage if run.needs else None) == start
        assert (f"init={WEIGHTS}" in run.overrides) == (cell.levels["training"] == "public")
        assert run.module == "finetune" and (run.needs is None or by_id[run.needs].module == "pretrain")


def test_a_plan_with_it_is_read_as_it_was_written(echo_config: Resolver, tmp_path: Path) -> None:
    plan = make_plan(build_study(starts_mapping(), "starts.yaml"), echo_config)
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan


def test_entries_with_a_level_that_the_scale_excludes_are_dropped() -> None:
    study = build_study(starts_mapping(), "starts.yaml")
    axes = {axis.name: axis for axis in study.axes}
    axes["stem"] = replace(axes["stem"], levels={"patchify": {}})
    problems: list[str] = []
    entries = [{"training": "public", "stem": "conv"}]
    assert build_without(entries, axes, study.report, {"stem": ["conv"]}, problems) == () and problems == []
    build_without(entries, axes, study.report, {}, problems)
    assert problems == ["without.1.stem = conv: no such level. stem has patchify."]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"trainin": "public", "stem": "conv"}], "without.1.trainin: no such axis. Did you mean training?"),
        ([{"training": "pubic", "stem": "conv"}], "without.1.training = pubic: no such level. Did you mean public?"),
        ([{}], "without.1 = {}: names no level, so every cell would be removed."),
        ([{"training": "public", "seed": 0}], "without.1.seed: is report.repeats, so a part of a result would be"),
        ([{"training": "public", "fraction": 0.1}], "without.1.fraction: is report.x, so a part of a result"),
        ([{"training": "public"}], "without: removes every cell of the level public of training."),
        (
            [{"training": "public", "stem": "conv"}, {"training": "public", "stem": "patchify"}],
            "without: removes every cell of the level public of training.",
        ),
        ([{"training": "TST", "stem": "conv"}], "without: removes TST, conv, which report.compare needs."),
    ],
)
def test_what_cannot_be_removed_is_an_error(entries: list[dict[str, Any]], message: str) -> None:
    assert message in error_message(without=entries)


def test_every_arm_is_matched_with_the_most_expensive_one_of_its_stem(echo_config: Resolver) -> None:
    plan = make_full_plan(build_study(starts_mapping(), "starts.yaml"), echo_config, measure)
    assert epochs_by_arm(plan) == {
        ("patchify", "OST"): "30",  # (1,000 + 20 x 100) / 100
        ("patchify", "TST"): "as written",
        ("patchify", "public"): "30",
        ("patchify", "continued"): "24",  # (3,000 - 600) / 100
        ("conv", "OST"): "30",
        ("conv", "TST"): "as written",
    }


def test_tuning_chooses_for_every_arm_that_there_is(echo_config: Resolver) -> None:
    study = build_study(starts_mapping(tune={"seeds": [100], "lengths": [0.5, 1.0]}), "starts.yaml")
    tuning = plan_tuning(study, echo_config, measure)
    arms = {(arm[0], arm[1]) for arm in tuning.arms}
    assert arms == {("patchify", name) for name in ("OST", "TST", *PATCHIFY_ONLY)} | {("conv", "OST"), ("conv", "TST")}
    assert Counter(run.stage for run in tuning.plan.runs) == {"pretrain": 2, "continue": 1, "finetune": 2 * 2 * 6}

    def read(name: str) -> Any:
        class Found:
            status = "finished"
            metrics = {"validation_subset_top1": 90.0, "validation_top1": 90.0}

        return Found()

    chosen = {arm: best(means) for arm, means in choose(tuning, read).items()}
    doubled = with_doubled(tuning, {arm: point for arm, point in chosen.items() if point}, echo_config)
    choices = make_choices(doubled, read, "command")
    assert {(each.levels["stem"], each.levels["training"]) for each in choices.choices} == arms
    plan = make_full_plan(study, echo_config, measure, choices)
    assert epochs_by_arm(plan)["patchify", "continued"] == "12" and len(plan.cells) == 36


def test_baselines_have_the_features_of_each_start(echo_config: Resolver) -> None:
    study = build_study(starts_mapping(baselines={"recipe": "probe.yaml"}), "starts.yaml")
    plan = with_baselines(make_plan(study, echo_config), echo_config)
    by_id = {run.id: run for run in plan.runs}
    runs = [run for run in plan.runs if run.stage == "baselines"]
    kinds = Counter((run.levels["features"], run.levels.get("training"), run.levels.get("stem")) for run in runs)
    assert kinds == {
        ("pre-trained", "TST", "patchify"): 6,
        ("pre-trained", "TST", "conv"): 6,
        ("pre-trained", "public", "patchify"): 6,
        ("pre-trained", "continued", "patchify"): 6,
        ("untrained", None, "patchify"): 6,
        ("untrained", None, "conv"): 6,
        ("pixels", None, None): 6,
    }
    for run in runs:
        if run.levels["features"] == "pre-trained":
            training = run.levels["training"]
            assert (f"init={WEIGHTS}" in run.overrides) == (training == "public")
            assert ("model.name=init" in run.overrides) == (training != "TST")
            assert (by_id[run.needs].stage if run.needs else None) == {"TST": "pretrain", "continued": "continue"}.get(
                training
            )


def test_an_untrained_network_that_a_level_names_is_evaluated(echo_config: Resolver) -> None:
    mapping = starts_mapping(baselines={"recipe": "probe.yaml"})
    mapping["axes"]["training"]["levels"]["public"] = {"finetune.init": WEIGHTS, "finetune.model.name": "vit_tiny"}
    plan = with_baselines(make_plan(build_study(mapping, "starts.yaml"), echo_config), echo_config)
    untrained = [run for run in plan.runs if run.levels.get("features") == "untrained"]
    assert Counter(run.levels["training"] for run in untrained) == {"OST": 12, "public": 6}


def test_the_cost_of_a_run_with_the_network_of_its_start_is_known(tmp_path: Path) -> None:
    """`model.name=init` stands for the network of the run it starts from, which has no folder yet."""
    levels = STARTS["axes"]["training"]["levels"]
    mapping = starts_mapping(
        stages={
            "pretrain": {"recipe": "recipes/digits/pretrain.yaml"},
            "continue": {"module": "pretrain", "recipe": "recipes/digits/pretrain.yaml"},
            "finetune": {"recipe": "recipes/digits/finetune.yaml"},
        }
    )
    mapping["axes"]["training"]["levels"] = {name: levels[name] for name in ("OST", "TST", "continued")}
    mapping["without"] = [{"training": "continued", "stem": "conv"}]
    plan = make_plan(build_study(mapping, "starts.yaml", folder=tmp_path), resolve_by_config)
    by_id = {run.id: run for run in plan.runs}
    size = DatasetSize(1151, 10)
    macs = {
        cell.levels["training"]: estimate(by_id[cell.runs["finetune"]], size).macs
        for cell in plan.cells
        if cell.levels["stem"] == "patchify" and cell.levels["fraction"] == "1"
    }
    assert macs["continued"] == macs["TST"] == macs["OST"] > 0
