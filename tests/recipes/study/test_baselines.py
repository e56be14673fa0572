"""Baselines of a study: frozen pre-trained and untrained features and pixels, planned with the data of every cell."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from recipes.stages import resolve_by_config
from recipes.study.baselines import _reduced, with_baselines
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, find_study, load_study


def with_section(study: Study, **changes: Any) -> Study:
    """Return the study with a section baselines."""
    return build_study({**study.mapping, "baselines": {"recipe": "probe.yaml"}, **changes}, "known.yaml")


@pytest.fixture
def baselines(study: Study, echo_config: Resolver) -> list[PlannedRun]:
    """Return the baselines of `STUDY`."""
    return baselines_of(with_baselines(make_plan(with_section(study), echo_config), echo_config))


def baselines_of(plan: Plan) -> list[PlannedRun]:
    """Return the baselines of a plan."""
    return [run for run in plan.runs if run.stage == "baselines"]


def test_every_cell_has_its_features_and_pixels_are_planned_once_for_each_share_and_seed(
    baselines: list[PlannedRun],
) -> None:
    counts = Counter(run.levels["features"] for run in baselines)
    assert counts == {"pre-trained": 2 * 4 * 3, "untrained": 2 * 4 * 3, "pixels": 4 * 3}
    assert len({run.id for run in baselines}) == len(baselines)
    for run in baselines:
        network = {"stem"} if run.levels["features"] != "pixels" else set()
        assert set(run.levels) == network | {"fraction", "seed", "features"}


def test_they_get_the_data_the_seed_and_the_network_of_their_cell(baselines: list[PlannedRun]) -> None:
    levels = {"fraction": "0.25", "seed": "2"}
    words = {
        run.levels["features"]: set(run.overrides)
        for run in baselines
        if run.levels.items() >= levels.items() and run.levels.get("stem", "conv") == "conv"
    }
    shared = {"data.fraction=0.25", "data.subset_seed=2", "train.seed=2"}
    assert words == {
        "pre-trained": shared | {"model.stem=conv"},
        "untrained": shared | {"model.stem=conv", "init=null"},
        "pixels": shared | {"features=pixels", "init=null"},
    }


@pytest.mark.parametrize(
    ("size", "reduced"), [("32", None), ("224", "32"), ("[256,128]", "[32,16]"), ("[20,48]", "[13,32]")]
)
def test_pixels_are_those_of_images_reduced_to_32_px(size: str, reduced: str | None) -> None:
    settings = {"data.image_size": yaml.safe_load(size)}
    assert _reduced(settings) == ({} if reduced is None else {"data.image_size": yaml.safe_load(reduced)})


def test_pre_trained_features_are_those_of_the_run_that_the_last_stage_starts_from(
    baselines: list[PlannedRun], run_of: Any, tmp_path: Path
) -> None:
    for run in baselines:
        if run.levels["features"] == "pre-trained":
            pretraining = run_of("pretrain", stem=run.levels["stem"], seed=run.levels["seed"])
            assert run.needs == pretraining.id
            arguments = run.arguments(tmp_path)
            assert arguments[:2] == ("probe", "probe.yaml") and f"init={tmp_path / pretraining.id}" in arguments
        else:
            assert run.needs is None


def test_they_are_no_part_of_a_cell_and_come_after_the_runs_they_need(study: Study, echo_config: Resolver) -> None:
    plain = make_plan(study, echo_config)
    plan = with_baselines(make_plan(with_section(study), echo_config), echo_config)
    assert plan.cells == plain.cells
    assert plan.runs[: len(plain.runs)] == plain.runs
    assert {run.stage for run in plan.runs[len(plain.runs) :]} == {"baselines"}


def test_a_study_with_baselines_is_read_as_it_was_written(study: Study, echo_config: Resolver, tmp_path: Path) -> None:
    plan = with_baselines(make_plan(with_section(study), echo_config), echo_config)
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path) == plan


def test_overrides_of_the_last_stages_data_apply(study: Study, echo_config: Resolver) -> None:
    overridden = with_section(
        study, set={"data.source": "photos", "finetune.data.image_size": 48, "pretrain.data.workers": 3}
    )
    for run in baselines_of(with_baselines(make_plan(overridden, echo_config), echo_config)):
        side = 32 if run.levels["features"] == "pixels" else 48
        assert {"data.source=photos", f"data.image_size={side}"} <= set(run.overrides)
        assert "data.workers=3" not in run.overrides


def test_weights_that_replace_the_first_stage_are_evaluated(study: Study, echo_config: Resolver) -> None:
    published = with_section(study, set={"pretrain.published": "weights.pth"})
    runs = baselines_of(with_baselines(make_plan(published, echo_config), echo_config))
    pre_trained = [run for run in runs if run.levels["features"] == "pre-trained"]
    assert len(pre_trained) == 2 * 4 * 3
    assert all("init=weights.pth" in run.overrides and run.needs is None for run in pre_trained)


def test_a_missing_recipe_and_taken_names_are_errors(study_file: Path, study: Study) -> None:
    study_file.write_text(study_file.read_text() + "baselines: {recipe: nowhere.yaml}\n")
    with pytest.raises(UserError, match=r"baselines\.recipe = nowhere\.yaml: no such file"):
        load_study(study_file)
    axes = {**study.mapping["axes"], "features": {"levels": {"a": {}}}}
    with pytest.raises(UserError, match="the names of a stage baselines and of an axis features are taken"):
        with_section(study, axes=axes)


def test_invalid_configs_are_one_error_before_anything_starts(study: Study, echo_config: Resolver) -> None:
    def refuse(module: str, recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
        if "features=pixels" in overrides:
            raise UserError("pixels are invalid")
        return echo_config(module, recipe, overrides)

    with pytest.raises(UserError) as caught:
        with_baselines(make_plan(with_section(study), refuse), refuse)
    assert str(caught.value) == "study known: invalid baselines; nothing was started.\npixels are invalid"


def test_the_quick_starts_baselines_can_be_planned_with_their_configs() -> None:
    plan = with_baselines(
        make_plan(load_study(find_study("quickstart"), seeds=(0,)), resolve_by_config), resolve_by_config
    )
    counts = Counter(run.levels["features"] for run in baselines_of(plan))
    shares = len(next(axis for axis in plan.study.axes if axis.name == "fraction").levels)
    assert counts == {"pre-trained": 2 * shares, "untrained": 2 * shares, "pixels": shares}


def test_the_network_is_that_of_the_last_stages_recipe() -> None:
    """The recipe of CIFAR-10's baselines has a larger network than that of its study for CPUs."""
    study = load_study(find_study("cifar10_cpu"), seeds=(0,))
    runs = baselines_of(with_baselines(make_plan(study, resolve_by_config), resolve_by_config))
    for run in runs:
        assert ("model.name=vit_mini" in run.overrides) == (run.levels["features"] != "pixels")
