"""Scales: conversion of a study's values, and errors."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from recipes.study import scales
from recipes.study.scale_rules import ScaleRule
from recipes.study.specification import REPOSITORY, Study
from recipes.study.study_file import build_study

PAPER = {
    "name": "paper",
    "question": "Does it?",
    "scales": ["imagenet1k", "small"],
    "stages": {"finetune": {"recipe": "recipes/imagenet1k/deit_small.yaml", "set": {"optim.warmup_epochs": 5}}},
    "axes": {
        "network": {"key": "model.name", "values": ["deit_small", "vit_base"]},
        "stride": {"key": "model.stem_strides", "values": [[2, 1, 1, 8], [2, 2, 2, 2]]},
        "lr": {"key": "optim.lr", "values": [5e-4, 1e-3]},
        "fraction": {"key": "data.fraction", "values": [0.1, 1.0]},
        "draw": {"draws": 2, "factors": {"optim.lr": [0.5, 2.0]}},
        "seed": {"key": "train.seed", "values": [0]},
    },
    "report": {"metrics": {"top1": "test_top1"}, "repeats": "seed", "figure": {"kind": "rows"}},
}
SMALL = {
    "description": "small",
    "seeds": [4, 5],
    "keep": {"network": ["deit_small"]},
    "recipes": {
        "recipes/imagenet1k/deit_small.yaml": {
            "recipe": "recipes/digits/finetune.yaml",
            "set": {"train.epochs": 15},
            "keys": {
                "optim.lr": {"times": 4},
                "optim.warmup_epochs": {"times": 0.05},
                "model.name": {"values": {"deit_small": "vit_mini"}},
                "model.stem_strides": {"values": {"[2, 1, 1, 8]": [2, 1, 1, 2], "[2, 2, 2, 2]": [2, 2, 1, 1]}},
                "data.fraction": {"values": {"0.1": {"data.fraction": 0.1, "train.epochs": 60}}},
            },
        }
    },
}
LEVELS = {"network": "deit_small", "stride": "[2, 1, 1, 8]", "lr": "0.001", "fraction": "1", "draw": "0", "seed": "4"}


@pytest.fixture(autouse=True)
def scale_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the scales by `small` and an empty `imagenet1k`; return their folder."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    (tmp_path / "imagenet1k.yaml").write_text("description: the paper's\n")
    monkeypatch.setattr(scales, "SCALES", tmp_path)
    return tmp_path


def study(**changed: Any) -> Study:
    """Return the study `PAPER` at the scale `small`."""
    return build_study({**copy.deepcopy(PAPER), "scale": "small", **changed}, "paper.yaml")


def settings(of: Study, **levels: str) -> dict[str, Any]:
    """Return the settings of the only stage at `LEVELS` with some changed."""
    return of.settings(of.stages[0], {**LEVELS, **levels})


def test_values_are_converted_to_the_scale() -> None:
    found = settings(study())
    factor = study().axes[4].factors["0"]["optim.lr"]
    assert found == {
        "train.epochs": 15,
        "optim.warmup_epochs": 0.25,
        "model.name": "vit_mini",
        "model.stem_strides": [2, 1, 1, 2],
        "optim.lr": pytest.approx(0.004 * factor, rel=1e-5),
        "data.fraction": 1.0,
        "train.seed": 4,
    }


def test_a_value_can_become_several_keys_which_override_those_of_the_scale() -> None:
    assert settings(study(), fraction="0.1")["train.epochs"] == 60


def test_columns_keep_the_published_values() -> None:
    columns = study().columns(LEVELS)
    assert columns["lr"] == 1e-3 and columns["stride"] == [2, 1, 1, 8] and "seed" not in columns


def test_the_scale_replaces_recipe_and_seeds_and_excludes_levels() -> None:
    axes = {axis.name: list(axis.levels) for axis in study().axes}
    assert axes["seed"] == ["4", "5"] and axes["network"] == ["deit_small"]
    assert study().stages[0].recipe == REPOSITORY / "recipes/digits/finetune.yaml"


def test_seeds_of_the_command_line_have_precedence() -> None:
    assert list(study(seeds=[7]).axes[-1].levels) == ["7"]


def test_the_papers_scale_changes_nothing() -> None:
    paper = build_study({**copy.deepcopy(PAPER), "scale": "imagenet1k"}, "paper.yaml")
    found = paper.settings(paper.stages[0], {**LEVELS, "seed": "0"})
    assert found["model.stem_strides"] == [2, 1, 1, 8] and found["optim.warmup_epochs"] == 5


def test_overrides_of_the_command_line_are_not_converted() -> None:
    assert settings(study(set={"optim.warmup_epochs": 5}))["optim.warmup_epochs"] == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scale": None}, "choose a scale: --scale imagenet1k | small"),
        ({"scale": "smal"}, "not a scale of study paper. Did you mean small? Its scales: imagenet1k, small."),
        ({"scales": []}, "has only one scale"),
        ({"set": {"train.seed": 3}}, "finetune.train.seed: the axis seed varies it"),
    ],
)
def test_an_invalid_scale_or_override_is_an_error(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        study(**changed)
    assert message in str(caught.value)


def test_a_factor_needs_a_value_to_multiply() -> None:
    axes = {name: axis for name, axis in PAPER["axes"].items() if name != "lr"}  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"factors\.optim\.lr: multiplies optim\.lr, which neither"):
        settings(study(axes=axes))


def test_a_strict_rule_rejects_values_that_it_does_not_list() -> None:
    assert ScaleRule(values={"[16]": [4]}, strict=True).apply("model.stem_strides", [16]) == {"model.stem_strides": [4]}
    with pytest.raises(UserError, match=r"model.stem_strides = \[2, 4\]: this scale has no value for it"):
        ScaleRule(values={"[16]": [4]}, strict=True).apply("model.stem_strides", [2, 4])


def test_all_errors_of_a_scale_file_are_reported_together(scale_files: Path) -> None:
    entry = {"recipe": "recipes/nowhere.yaml", "keys": {"optim.lr": {"time": 4}}}
    (scale_files / "bad.yaml").write_text(yaml.safe_dump({"descripton": "x", "recipes": {"recipes/none.yaml": entry}}))
    with pytest.raises(UserError) as caught:
        scales.load_scale("bad")
    for part in (
        "Did you mean description?",
        "none.yaml: no such file",
        "nowhere.yaml: no such file",
        "Did you mean times?",
    ):
        assert part in str(caught.value)


def test_a_value_of_a_rule_can_have_factors_and_a_start(scale_files: Path) -> None:
    small: dict[str, Any] = copy.deepcopy(SMALL)
    recipe = small["recipes"]["recipes/imagenet1k/deit_small.yaml"]
    recipe["factors"] = {"optim.lr": 3.0}
    level = {"set": {"data.fraction": 0.2}, "factors": {"optim.lr": 2.0}, "starts_from": {"finetune": "pretrain"}}
    recipe["keys"]["data.fraction"] = {"values": {"0.10": level}}
    (scale_files / "small.yaml").write_text(yaml.safe_dump(small))
    axes = {name: axis for name, axis in PAPER["axes"].items() if name != "draw"}  # type: ignore[attr-defined]
    scaled = study(axes=axes)
    (stage,) = scaled.stages
    assert settings(scaled, fraction="0.1")["optim.lr"] == pytest.approx(0.004 * 3 * 2)
    assert settings(scaled, fraction="0.1")["data.fraction"] == 0.2
    assert settings(scaled)["optim.lr"] == pytest.approx(0.004 * 3)
    assert scaled.start_of(stage, {**LEVELS, "fraction": "0.1"}) == "pretrain"
    assert scaled.start_of(stage, LEVELS) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"keys": {"optim.name": {"values": {"sgd": {"optim.lr*": 2}}}}},
            "keys.optim.name.values.sgd.optim.lr*: a factor has a field of its own, beside set. Replace it by"
            " factors: {optim.lr: 2}.",
        ),
        ({"set": {"needs": "pretrain"}}, "set.needs: what a stage starts from has a field of its own"),
        ({"keys": {"optim.lr": {"times": "four"}}}, "keys.optim.lr.times = 'four': must be a number"),
    ],
)
def test_an_error_of_a_scale_names_the_key(scale_files: Path, change: dict[str, Any], message: str) -> None:
    small: dict[str, Any] = copy.deepcopy(SMALL)
    small["recipes"]["recipes/imagenet1k/deit_small.yaml"] |= change
    (scale_files / "small.yaml").write_text(yaml.safe_dump(small))
    with pytest.raises(UserError) as caught:
        scales.load_scale("small")
    place = "recipes.recipes/imagenet1k/deit_small.yaml."
    assert str(caught.value).startswith("scale small: 1 problem") and f"{place}{message}" in str(caught.value)


def test_a_scale_cannot_extend_itself(scale_files: Path) -> None:
    (scale_files / "small.yaml").write_text("description: small\nextends: imagenet1k\n")
    (scale_files / "imagenet1k.yaml").write_text("description: large\nextends: small\n")
    with pytest.raises(UserError, match="scale small: extends itself through small, imagenet1k"):
        scales.load_scale("small")


def test_a_recipe_may_have_a_dataset_of_its_own(scale_files: Path) -> None:
    """Its costs are those of its own images; a scale that extends another inherits them."""
    recipe, other = (
        scales.REPOSITORY / "recipes" / name for name in ("imagenet21k/early_conv.yaml", "digits/knn.yaml")
    )
    size = {"train_images": 7, "num_classes": 3}
    content = {**SMALL, "train_images": 5, "num_classes": 2, "datasets": {"recipes/imagenet21k/early_conv.yaml": size}}
    (scale_files / "own.yaml").write_text(yaml.safe_dump(content))
    (scale_files / "extended.yaml").write_text("description: more\nextends: own\n")
    assert scales.load_scale("own").dataset(recipe) == (7, 3) == scales.load_scale("extended").dataset(recipe)
    assert scales.load_scale("own").dataset(other) == (5, 2) and scales.load_scale("extended").dataset(other) is None
