"""Plans: the runs of a study, the runs that cells share, and run names."""

import copy
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from common.yaml_text import parse_override
from common.yaml_words import Word, as_value, values_of
from recipes.stages import resolve_by_config
from recipes.study.plan import Plan, PlannedRun, Resolver, format_value, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, find_study, load_study


def test_cells_share_one_pretraining_per_stem_and_seed(plan: Plan) -> None:
    assert Counter(run.stage for run in plan.runs) == {"pretrain": 6, "finetune": 48}
    assert len(plan.cells) == 48
    users = Counter(run.needs for run in plan.runs if run.needs)
    assert set(users.values()) == {4}
    assert len(users) == 6


def test_one_stage_training_needs_no_run(plan: Plan) -> None:
    for run in plan.runs:
        assert (run.needs is not None) == (run.levels.get("training") == "TST")


def test_a_run_starts_from_the_pretraining_of_its_own_stem_and_seed(plan: Plan) -> None:
    by_id = {run.id: run for run in plan.runs}
    for run in plan.runs:
        if run.needs:
            assert by_id[run.needs].levels == {axis: run.levels[axis] for axis in ("stem", "seed")}


def test_names_are_readable_and_end_with_the_hash(plan: Plan, run_of: Callable[..., PlannedRun]) -> None:
    run = run_of("finetune", stem="conv", training="TST", fraction="0.25", seed="2")
    assert re.fullmatch(r"finetune-conv-TST-fraction0\.25-seed2-[0-9a-f]{8}", run.id)
    assert len({run.id for run in plan.runs}) == len(plan.runs)


def test_the_arguments_of_a_run_are_complete(run_of: Callable[..., PlannedRun], tmp_path: Path) -> None:
    run = run_of("finetune", stem="conv", training="TST", fraction="0.25", seed="2")
    assert run.arguments(tmp_path) == (
        "finetune.yaml",
        "model.stem=conv",
        "data.fraction=0.25",
        "train.seed=2",
        "data.subset_seed=2",
        f"init={tmp_path / str(run.needs)}",
        f"out={tmp_path / run.id}",
    )


def test_changing_a_stage_renames_only_its_runs_and_those_that_start_from_them(
    study: Study, echo_config: Resolver
) -> None:
    def names(**settings: Any) -> set[str]:
        mapping = copy.deepcopy(dict(study.mapping))
        mapping["stages"]["pretrain"]["set"] = settings
        return {run.id for run in make_plan(build_study(mapping, "known.yaml"), echo_config).runs}

    kept = names() & names(**{"dino.out_dim": 64})
    assert len(kept) == 24
    assert all("OST" in name for name in kept)


def test_naming_does_not_depend_on_the_order_of_the_axes(study: Study, echo_config: Resolver) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"] = dict(reversed(list(mapping["axes"].items())))
    one, two = (make_plan(build_study(m, "x"), echo_config) for m in (study.mapping, mapping))
    assert {run.id[-8:] for run in one.runs} == {run.id[-8:] for run in two.runs}


def test_every_invalid_config_is_reported_before_anything_starts(study: Study, echo_config: Resolver) -> None:
    def refuse(module: str, recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
        if module == "finetune" and "model.stem=conv" in overrides:
            raise UserError("conv is invalid")
        if module == "pretrain":
            raise UserError("pretrain is invalid")
        return echo_config(module, recipe, overrides)

    with pytest.raises(UserError) as caught:
        make_plan(study, refuse)
    assert str(caught.value).splitlines() == [
        "study known: invalid configuration; nothing was started.",
        "pretrain is invalid",
        "conv is invalid",
    ]


def test_a_stage_cannot_start_from_itself_or_a_later_one(study: Study, echo_config: Resolver) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["training"]["levels"]["TST"] = {"starts_from": {"finetune": "finetune"}}
    message = r"stages\.finetune: starts from finetune, but a stage can only start from an earlier one"
    with pytest.raises(UserError, match=message):
        make_plan(build_study(mapping, "x"), echo_config)


def test_reading_a_written_plan_returns_the_same_plan(plan: Plan, tmp_path: Path) -> None:
    write_plan(plan, tmp_path)
    restored = read_plan(tmp_path)
    assert restored.runs == plan.runs
    assert restored.cells == plan.cells
    assert restored.study == plan.study


def test_a_folder_of_another_study_is_an_error(plan: Plan, study: Study, tmp_path: Path, echo_config: Resolver) -> None:
    write_plan(plan, tmp_path)
    other = make_plan(build_study({**study.mapping, "name": "other"}, "x"), echo_config)
    with pytest.raises(UserError, match="contains the study known, not other"):
        write_plan(other, tmp_path)


def test_a_report_is_not_replaced_by_that_of_other_images(study: Study, tmp_path: Path, echo_config: Resolver) -> None:
    """The same study of another folder of images needs a folder of its own; with the same images, other keys may change."""
    of_cats, of_dogs, longer = (
        make_plan(build_study({**study.mapping, "set": keys}, "x"), echo_config)
        for keys in ({"data.source": "cats"}, {"data.source": "dogs"}, {"data.source": "cats", "train.log_every": 7})
    )
    write_plan(of_cats, tmp_path)
    message = "contains the study known of data.source=cats, not of data.source=dogs. Choose another folder"
    with pytest.raises(UserError, match=message):
        write_plan(of_dogs, tmp_path)
    with pytest.raises(UserError, match="of data.source=cats, not of its recipes' images"):
        write_plan(make_plan(study, echo_config), tmp_path)
    write_plan(longer, tmp_path)
    assert read_plan(tmp_path).study == longer.study


@pytest.mark.parametrize("key", ["out", "finetune.out"])
def test_the_folder_of_a_run_is_not_a_key_of_a_study(study: Study, key: str) -> None:
    message = r"finetune\.out: each run has a folder of its own in that of the study, which --out names"
    with pytest.raises(UserError, match=message):
        build_study({**study.mapping, "set": {key: "somewhere"}}, "x")


def test_a_folder_without_a_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains no study\.yaml"):
        read_plan(tmp_path)


def test_only_selects_runs_by_part_of_their_name_and_the_runs_they_need(plan: Plan) -> None:
    selected = plan.select("conv-TST*seed1")
    assert Counter(run.stage for run in selected) == {"pretrain": 1, "finetune": 4}
    assert {run.levels["stem"] for run in selected} == {"conv"}
    with pytest.raises(UserError, match="--only mlp: matches no run"):
        plan.select("mlp")


@pytest.mark.parametrize(
    "value",
    [
        0.1, 1e-05, 3, True, None, "conv", "3Conv+1Proj", "1", "true", "", "a, b", [2, 1, 1, 2], "a: b", "[a", "'", " a ", "1e3",
        "#1", "a #1", "x\ny", "\U0001f600\x7f", ["1", "a, b", 1e-3, None], {"1": ["on", True]}, math.inf, Word("010", 10),
        Word("1.0e-3", 0.001), Word("photos #1", "photos"), Word("on", True), [Word("010", 10), Word("on", True)],
    ],
)  # fmt: skip
def test_formatted_values_parse_to_the_same_value(value: Any) -> None:
    def with_words(content: Any) -> Any:
        items = (
            content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
        )
        return (content, as_value(content)) if items is None else {key: with_words(item) for key, item in items}

    parsed = parse_override(format_value(value))
    assert with_words(parsed) == with_words(value) or values_of(parsed) == value == math.inf


def test_the_quick_start_can_be_planned_with_the_stages_configs() -> None:
    plan = make_plan(load_study(find_study("quickstart")), resolve_by_config)
    assert Counter(run.stage for run in plan.runs) == {"pretrain": 6, "finetune": 24}


def test_workers_and_folders_do_not_change_a_run(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"out": "somewhere", "data": {"workers": 0}}))
    one, two, three = (
        resolve_by_config("pretrain", recipe, overrides)
        for overrides in ((), ("data.workers=2", "data.verify=none"), ("train.seed=1",))
    )
    assert one == two != three


def test_an_unknown_stage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="evaluate is not a stage"):
        resolve_by_config("evaluate", tmp_path / "x.yaml", ())
