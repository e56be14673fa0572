"""Study files: settings of the stages, and errors."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from recipes.study.specification import STUDIES, Study
from recipes.study.study_file import build_study, find_study, load_study


def error_message(study_file: Path, **changed: Any) -> str:
    """Return the error message for `study_file` with some of its sections changed."""
    mapping = yaml.safe_load(study_file.read_text()) | changed
    study_file.write_text(yaml.safe_dump(mapping, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_study(study_file)
    return str(caught.value)


def test_keys_with_a_stage_as_prefix_apply_only_to_that_stage(study: Study) -> None:
    pretrain, finetune = study.stages
    levels = {"stem": "conv", "training": "TST", "fraction": "0.25", "seed": "1"}
    assert study.settings(pretrain, levels) == {"model.stem": "conv", "train.seed": 1}
    assert study.settings(finetune, levels) == {
        "model.stem": "conv",
        "needs": "pretrain",
        "data.fraction": 0.25,
        "train.seed": 1,
        "data.subset_seed": 1,
    }


def test_an_axis_affects_the_stages_whose_keys_it_sets(study: Study) -> None:
    pretrain, finetune = study.stages
    assert [study.affects(axis, pretrain) for axis in study.axes] == [True, False, False, True]
    assert all(study.affects(axis, finetune) for axis in study.axes)


def test_overrides_apply_last_to_all_stages_or_to_one(study_file: Path) -> None:
    study = load_study(study_file, ("data.source=photos", "finetune.train.epochs=5"))
    levels = {"stem": "conv", "training": "OST", "fraction": "1", "seed": "0"}
    pretrain, finetune = (study.settings(stage, levels) for stage in study.stages)
    assert pretrain["data.source"] == finetune["data.source"] == "photos"
    assert finetune["train.epochs"] == 5
    assert "train.epochs" not in pretrain


def test_an_override_has_precedence_over_the_settings_of_a_stage(study_file: Path) -> None:
    mapping = yaml.safe_load(study_file.read_text())
    mapping["stages"]["finetune"]["set"] = {"train.epochs": 60}
    study_file.write_text(yaml.safe_dump(mapping, sort_keys=False))
    study = load_study(study_file, ("finetune.train.epochs=5",))
    levels = {"stem": "conv", "training": "OST", "fraction": "1", "seed": "0"}
    assert study.settings(study.stages[1], levels)["train.epochs"] == 5


def test_an_override_of_a_key_that_an_axis_varies_is_an_error(study_file: Path) -> None:
    with pytest.raises(UserError, match=r"finetune\.data\.fraction: the axis fraction varies it"):
        load_study(study_file, ("finetune.data.fraction=0.3",))


def test_a_word_that_is_not_an_override_is_an_error(study_file: Path) -> None:
    with pytest.raises(UserError, match="epochs: an override is key=value"):
        load_study(study_file, ("epochs",))


def test_unknown_keys_suggest_the_nearest_and_all_errors_are_reported_together(study_file: Path) -> None:
    message = error_message(study_file, reprot={}, stages={"pretrain": {"recipe": "pretrain.yaml", "sets": {}}})
    assert "reprot: unknown key. Did you mean report?" in message
    assert "stages.pretrain.sets: unknown key. Did you mean set?" in message
    assert "axes.training.levels.TST.finetune.needs" not in message


def test_all_missing_sections_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("name: empty\n")
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert all(f"{key}: missing" in str(caught.value) for key in ("question", "stages", "axes", "report"))


def test_a_missing_recipe_is_an_error(study_file: Path) -> None:
    assert "stages.pretrain.recipe = none.yaml: no such file" in error_message(
        study_file, stages={"pretrain": {"recipe": "none.yaml"}, "finetune": {"recipe": "finetune.yaml"}}
    )


def test_seeds_that_no_axis_uses_are_an_error(study_file: Path) -> None:
    axes = yaml.safe_load(study_file.read_text())["axes"] | {"seed": {"levels": {"0": {"train.seed": 0}}}}
    assert "seeds = [1, 2]: axes.seed has no list of values" in error_message(study_file, axes=axes, seeds=[1, 2])


def test_needs_must_name_a_stage(study_file: Path) -> None:
    axes = yaml.safe_load(study_file.read_text())["axes"]
    axes["training"]["levels"]["TST"] = {"finetune.needs": "pretrian"}
    message = error_message(study_file, axes=axes)
    assert "axes.training.levels.TST.finetune.needs = pretrian: no such stage. Did you mean pretrain?" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x", "labels", "report.x = labels: no such axis. Known axes: stem, training, fraction, seed."),
        ("x", "stem", "report.x: level patchify of stem is not a number."),
        ("compare", {"training": ["OST"]}, "must be two levels of an axis, [base, other]; training has OST, TST"),
        ("compare", {"stems": ["a", "b"]}, "stems has none"),
    ],
)
def test_the_report_must_match_the_axes(study_file: Path, key: str, value: Any, message: str) -> None:
    report = yaml.safe_load(study_file.read_text())["report"] | {key: value}
    assert message in error_message(study_file, report=report)


@pytest.mark.parametrize(
    "axis", [{"key": "a"}, {"values": [1]}, {"key": "a", "values": []}, {"key": "a", "levels": {"b": {}}}]
)
def test_an_axis_has_levels_or_a_key_with_values(study: Study, axis: dict[str, Any]) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["fraction"] = axis
    with pytest.raises(UserError, match=r"axes\.fraction"):
        build_study(mapping, "x.yaml")


def test_invalid_yaml_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "invalid.yaml"
    path.write_text("name: [unclosed\n")
    with pytest.raises(UserError, match=r"invalid\.yaml: not readable as YAML"):
        load_study(path)


def test_the_error_for_an_unknown_study_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"quickstrat: neither a study nor a file\. Did you mean quickstart\?"):
        find_study("quickstrat")


def test_every_study_of_the_repository_loads() -> None:
    paths = sorted(STUDIES.glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_study(path, scale=(yaml.safe_load(path.read_text()).get("scales") or [None])[0]).name == path.stem
