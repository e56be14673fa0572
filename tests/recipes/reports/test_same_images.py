"""A report does not mix runs that were tested on different images."""

import json
from pathlib import Path

import pytest
from comparison_studies import comparison_study, write_comparison

from common.errors import UserError
from recipes.reports.same_images import check_same_images


def test_runs_tested_on_different_images_are_not_one_report(tmp_path: Path) -> None:
    study = write_comparison(comparison_study(fractions=(1.0,), num_seeds=2), tmp_path, lambda levels: 90.0)
    runs = study.of_stage("finetune")
    for run in runs:
        (run.folder / "data.json").write_text(json.dumps({"test": {"images": 10, "labels": "a", "content": "b"}}))
        (run.folder / "config.yaml").write_text("data: {source: photos}\n")
    check_same_images(study)
    (runs[-1].folder / "data.json").write_text(json.dumps({"test": {"images": 10, "labels": "c", "content": "b"}}))
    with pytest.raises(UserError, match=f"{runs[0].planned.id} and {runs[-1].planned.id} .* not of one data set"):
        check_same_images(study)
    (runs[-1].folder / "config.yaml").write_text("data: {source: sketches}\n")  # an axis over data sets
    check_same_images(study)


@pytest.mark.parametrize("key", ["train_split", "subset_file", "group_pattern", "metadata_file", "leave_out"])
def test_arms_whose_recipes_name_other_test_images_are_one_report(tmp_path: Path, key: str) -> None:
    study = write_comparison(comparison_study(fractions=(1.0,), num_seeds=2), tmp_path, lambda levels: 90.0)
    for number, run in enumerate(study.of_stage("finetune")):
        (run.folder / "data.json").write_text(json.dumps({"test": {"images": 10, "labels": str(number)}}))
        (run.folder / "config.yaml").write_text(f"data: {{source: photos, {key}: '{number}'}}\n")
    check_same_images(study)


def test_a_damaged_recipe_is_named(tmp_path: Path) -> None:
    study = write_comparison(comparison_study(fractions=(1.0,), num_seeds=2), tmp_path, lambda levels: 90.0)
    run = study.of_stage("finetune")[0]
    (run.folder / "data.json").write_text(json.dumps({"test": {"images": 10}}))
    (run.folder / "config.yaml").write_bytes(b"data: {source: \xff")
    with pytest.raises(UserError, match=r"config\.yaml: not the recipe of a run"):
        check_same_images(study)
