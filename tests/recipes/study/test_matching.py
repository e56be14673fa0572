"""Matched arms: budgets counted by hand, on fake costs and on the quick start's data."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipes_fakes import Measure, fake_measure

from common.errors import UserError
from common.training.cost import Cost
from recipes.stages import resolve_by_config
from recipes.study.cost import DatasetSize, RunCosts
from recipes.study.full_plan import make_full_plan, measure_with, with_macs
from recipes.study.lengths import RunLength
from recipes.study.matching import match_arms
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.scales import Scale
from recipes.study.specification import REPOSITORY, Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, find_study, load_study


def matched(study: Study, resolve: Resolver, measure: Measure) -> dict[str, dict[str, str]]:
    """Return the overrides of each arm's last stage at one stem, fraction and seed."""
    plan = make_plan(match_arms(make_plan(study, resolve), measure), resolve)
    return {
        run.levels["training"]: dict(word.split("=", 1) for word in run.overrides)
        for run in plan.runs
        if run.stage == "finetune" and run.levels.items() >= {"stem": "conv", "fraction": "0.5", "seed": "1"}.items()
    }


def test_the_cheaper_arm_gets_the_epochs_that_the_other_arms_total_pays_for(
    study: Study, echo_config: Resolver
) -> None:
    arms = matched(study, echo_config, fake_measure(pretrain=1050, image=100))
    assert arms["OST"]["train.epochs"] == "30"  # (1,050 + 20 x 100) / 100 = 30.5, rounded down: an upper bound
    assert "train.epochs" not in arms["TST"]


def test_a_stated_budget_bounds_every_arm(study: Study, echo_config: Resolver) -> None:
    stated = build_study({**study.mapping, "budget_macs": 1500.0}, "x")
    arms = matched(stated, echo_config, fake_measure(pretrain=1050, image=100))
    assert (arms["OST"]["train.epochs"], arms["TST"]["train.epochs"]) == ("15", "4")


def test_an_arm_that_a_stated_budget_leaves_no_epoch_is_an_error(study: Study, echo_config: Resolver) -> None:
    stated = build_study({**study.mapping, "budget_macs": 1149.0}, "x")
    with pytest.raises(UserError, match="the budget of .*TST.* leaves no epoch of finetune. Raise budget_macs"):
        matched(stated, echo_config, fake_measure(pretrain=1050, image=100))


@pytest.mark.parametrize(("starts", "epochs"), [((), "200"), (("public",), "30")])
def test_further_starts_do_not_set_the_budget(
    study: Study, echo_config: Resolver, starts: tuple[str, ...], epochs: str
) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["training"]["levels"]["public"] = {"finetune.init": "weights"}
    mapping["report"] |= {"starts": list(starts)} if starts else {}
    fake = fake_measure(pretrain=1050, image=100)

    def measure(run: PlannedRun) -> RunLength:
        length = fake(run)
        is_public = run.levels.get("training") == "public"
        return replace(length, cost=replace(length.cost, macs_per_image=1000)) if is_public else length

    arms = matched(build_study(mapping, "x"), echo_config, measure)
    assert arms["OST"]["train.epochs"] == epochs  # 20 x 1,000 of public weights, or 1,050 + 20 x 100 of two stages
    assert arms["public"].get("train.epochs", "20") == ("3" if starts else "20")


def test_steps_can_be_matched_instead(study: Study, echo_config: Resolver) -> None:
    by_steps = build_study({**study.mapping, "match": "steps"}, "x")
    arms = matched(by_steps, echo_config, fake_measure(pretrain=1050, image=100))
    assert arms["OST"]["train.epochs"] == "27"  # (70 + 200) / 10


def test_the_budget_is_that_of_the_arm_that_costs_most(study: Study, echo_config: Resolver) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["training"]["levels"]["OST"] = {"finetune.train.epochs": 90}
    arms = matched(build_study(mapping, "x"), echo_config, fake_measure(pretrain=1050, image=100))
    assert arms["OST"]["train.epochs"] == "90"
    assert arms["TST"]["train.epochs"] == "79"  # (9,000 - 1,050) / 100 = 79.5


@pytest.mark.parametrize("pretrain", [0, 1, 99, 100, 101, 12345, 10**18 + 7])
@pytest.mark.parametrize("image", [1, 3, 100, 10**16 + 1])
def test_no_arm_exceeds_the_budget_and_one_more_epoch_would(
    study: Study, echo_config: Resolver, pretrain: int, image: int
) -> None:
    epochs = int(
        matched(study, echo_config, fake_measure(pretrain=pretrain, image=image))["OST"].get("train.epochs", 20)
    )
    assert epochs * image <= pretrain + 20 * image < (epochs + 1) * image


def test_no_arm_is_matched_without_match(study: Study, echo_config: Resolver) -> None:
    plan = make_plan(build_study({**study.mapping, "match": "none"}, "x"), echo_config)
    assert match_arms(plan, fake_measure(pretrain=1050, image=100)).adjusted == {}


def test_comparisons_match_compute_and_tables_match_nothing(study: Study) -> None:
    assert study.match == study.mapping["match"] == "compute"
    assert load_study(find_study("scaled_relu_table7"), scale="digits").match == "none"
    assert load_study(find_study("quickstart"), ("match=none",)).match == "none"
    assert load_study(find_study("scaled_relu_table7"), ("match=compute",), "digits").match == "compute"


def test_a_table_without_stages_that_start_from_others_cannot_be_matched() -> None:
    with pytest.raises(UserError, match="match = compute: no axis has levels that start from different stages"):
        load_study(find_study("scaled_relu_table1"), ("match=compute",), "digits")


def test_an_unknown_match_lists_the_choices(study: Study) -> None:
    with pytest.raises(UserError, match="match = 'macs': must be one of auto, compute, steps, none"):
        build_study({**study.mapping, "match": "macs"}, "x")


def test_a_stage_without_epochs_cannot_be_matched(study: Study, echo_config: Resolver) -> None:
    measure = fake_measure(pretrain=1050, image=100)
    with pytest.raises(UserError, match=r"the stage finetune has no train\.epochs.* Set match=none"):
        match_arms(make_plan(study, echo_config), lambda run: replace(measure(run), epochs=None))


def test_a_longer_run_keeps_the_shares_of_its_warmups_and_the_number_of_its_evaluations() -> None:
    keys = {"optim.warmup_epochs": 1.0, "optim.cooldown_epochs": 0.0, "train.evaluate_every": 10}
    length = RunLength(Cost(steps=1, images=1, macs_per_image=1), 60, keys)
    assert length.settings(900) == {"train.epochs": 900, "optim.warmup_epochs": 15.0, "train.evaluate_every": 150}
    assert length.settings(7) == {"train.epochs": 7, "optim.warmup_epochs": 0.116667, "train.evaluate_every": 2}
    assert length.settings(60) == {}
    pretraining = RunLength(length.cost, 28, {"dino.warmup_teacher_temp_epochs": 3, "knn.every_epochs": 7})
    assert pretraining.settings(56) == {
        "train.epochs": 56,
        "dino.warmup_teacher_temp_epochs": 6,
        "knn.every_epochs": 14,
    }


def test_epochs_of_the_command_line_change_the_budget(study_file: Path, echo_config: Resolver) -> None:
    study = load_study(study_file, ("finetune.train.epochs=40",))
    arms = matched(study, echo_config, fake_measure(pretrain=1050, image=100))
    assert (arms["OST"]["train.epochs"], arms["TST"]["train.epochs"]) == ("50", "40")


def totals(plan: Plan) -> dict[tuple[str, ...], float]:
    """Return the MACs over all stages of every cell, by its levels."""
    by_id = {run.id: run for run in plan.runs}
    return {
        plan.study.cell_key(cell.levels): sum(by_id[name].macs or math.nan for name in cell.runs.values())
        for cell in plan.cells
    }


def test_the_quick_starts_arms_spend_the_same_up_to_an_epoch() -> None:
    costs = RunCosts(None)
    plan = with_macs(
        make_full_plan(load_study(find_study("quickstart"), seeds=(0,)), resolve_by_config, measure_with(costs)), costs
    )
    spent, by_id = totals(plan), {run.id: run for run in plan.runs}
    for cell in plan.cells:
        if cell.levels["training"] == "OST":
            other = spent[plan.study.cell_key({**cell.levels, "training": "TST"})]
            run = by_id[cell.runs["finetune"]]
            epochs = int(dict(word.split("=") for word in run.overrides)["train.epochs"])
            own = spent[plan.study.cell_key(cell.levels)]
            assert own <= other < own * (epochs + 1) / epochs


def test_the_images_of_a_share_are_those_that_a_run_takes() -> None:
    """115 of 1,151 digits by rounding; class by class they are as many as the run's subset, which decides the steps per epoch."""
    from common.data.open_splits import open_splits
    from recipes.stages import load_config

    plan = make_plan(load_study(find_study("quickstart"), seeds=(3,)), resolve_by_config)
    costs = RunCosts(None)
    for run in plan.runs:
        config = load_config(run.module, Path(run.recipe), run.overrides)
        assert costs.size(run).images_of(config.data) == len(open_splits(config.data, labeled=True).train)
        assert len(costs._sizes) <= 2


def test_images_per_class_are_counted() -> None:
    data = load_study(find_study("quickstart"))  # any recipe with data
    run = make_plan(data, resolve_by_config).runs[0]
    from recipes.stages import load_config

    config = load_config(run.module, Path(run.recipe), run.overrides).data.model_copy(update={"images_per_class": 3})
    assert DatasetSize(100, 10).images_of(config) == 30
    assert DatasetSize(100, 10, (5, 9, 7)).images_of(config) == 9


def test_the_size_that_a_scale_declares_needs_no_data() -> None:
    plan = make_plan(load_study(find_study("quickstart"), ("data.source=/nowhere",)), resolve_by_config)
    size = RunCosts(Scale("x", "x", train_images=50, num_classes=3)).size(plan.runs[0])
    assert size == DatasetSize(50, 3)
    with pytest.raises(UserError, match="/nowhere"):
        RunCosts(None).size(plan.runs[0])


def test_queries_and_gallery_are_the_images_that_a_re_identification_is_tested_on() -> None:
    run = make_plan(load_study(find_study("quickstart")), resolve_by_config).runs[0]
    reid = replace(run, module="finetune", recipe=str(REPOSITORY / "recipes/reid/digits.yaml"), overrides=())
    size = RunCosts(None).size(reid)
    assert size.num_test > 0 and size.train_images == sum(size.class_counts or ())


def test_runs_record_their_macs_and_older_files_are_read_without(tmp_path: Path) -> None:
    study = load_study(find_study("quickstart"), ("match=none",), seeds=(0,))
    plan = with_macs(make_plan(study, resolve_by_config), RunCosts(None))
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path).runs == plan.runs and all(run.macs for run in plan.runs)
    content: dict[str, Any] = yaml.safe_load((tmp_path / "study.yaml").read_text())
    del content["study"]["match"]
    for run in content["runs"]:
        del run["macs"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    older = read_plan(tmp_path)
    assert {run.macs for run in older.runs} == {None}
    assert older.study.match == "none"


def test_a_plan_without_its_data_has_no_macs_if_nothing_is_matched() -> None:
    overrides = ("data.source=/nowhere", "match=none")
    costs = RunCosts(None)
    plan = with_macs(
        make_full_plan(load_study(find_study("quickstart"), overrides), resolve_by_config, measure_with(costs)), costs
    )
    assert {run.macs for run in plan.runs} == {None}
    with pytest.raises(UserError, match="/nowhere"):
        make_full_plan(load_study(find_study("quickstart"), overrides[:1]), resolve_by_config, measure_with(costs))


def test_the_match_of_a_study_is_in_its_file(plan: Plan, tmp_path: Path) -> None:
    write_plan(plan, tmp_path)
    content: Mapping[str, Any] = yaml.safe_load((tmp_path / "study.yaml").read_text())
    assert content["study"]["match"] == "compute"
    assert read_plan(tmp_path).study.match == "compute"
