"""Duplicates in a report: how many images occur in several parts, which, and what that means for the numbers."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from recipes.__main__ import main
from recipes.publish.stored_study import restored, store_study
from recipes.reports.duplicate_words import DuplicateWords
from recipes.reports.duplicates import find_duplicates
from recipes.reports.report import page_of, write_report
from recipes.reports.results import read_study
from recipes.study.plan import PlannedRun

NONE: dict[str, Any] = {"exact": 0, "near": 0, "examples": []}
SIZES = {"train": 115, "validation": 50, "test": 240}


def record(
    test: Mapping[str, Any] = NONE,
    validation: Mapping[str, Any] = NONE,
    *,
    both: Mapping[str, Any] = NONE,
    skipped: Mapping[str, str] = {},
    **more: int,
) -> dict[str, Any]:
    """Return the entry `duplicates` of a result: test and validation images that were trained on, and `both`."""
    pairs = {"train/test": test, "train/validation": validation, "validation/test": both}
    counted = {
        name: {f"{name.partition('/')[0]}_images": pair["exact"] + pair["near"], **pair} for name, pair in pairs.items()
    }
    return {"mode": "auto", "skipped": dict(skipped), **counted, "label_conflicts": 0, "dropped": 0, **more}


def set_duplicates(folder: Path, of_run: Any) -> None:
    """Write the entry `duplicates` into the result of every run of a study, as `of_run(run)` gives it."""
    for run in read_study(folder).plan.runs:
        path = folder / "runs" / run.id / "result.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"duplicates": of_run(run), "splits": SIZES}))


LEAKED = {"exact": 3, "near": 2, "train_images": 4, "examples": [["test/cat/07.png", "train/cat/01.png"]]}


def leaked(run: PlannedRun) -> dict[str, Any]:
    """Return five of 240 test images among the training images of runs on all labels, one on fewer; none in pre-training."""
    if run.stage == "pretrain":
        return record()
    return record(LEAKED if run.levels["fraction"] == "1" else {**NONE, "near": 1})


@pytest.mark.usefixtures("without_figures")
def test_report_names_test_images_that_were_trained_on_and_what_they_mean(study_folder: Path) -> None:
    set_duplicates(study_folder, leaked)
    page = write_report(study_folder)
    html = (study_folder / "report.html").read_text()
    assert "test/cat/07.png" in html and "train/cat/01.png" in html
    assert any("Up to 5 of the 240 test images (2.1%) are also among the training images" in w for w in page.warnings())
    (sentence,) = page.duplicates.sentences()
    assert sentence.startswith(
        "Up to 5 of the 240 test images (2.1%) are also among the training images of finetune (3 with the same content, 2 resized,"
        " recompressed or mirrored)."
    )
    assert "top-1 accuracy by at most 2.1 points" in sentence
    assert "data.duplicates=drop to the command: it excludes the 4 training images" in sentence
    assert sentence in (study_folder / "report.md").read_text()


def test_bound_of_the_error_is_rounded_upwards(study_folder: Path) -> None:
    set_duplicates(study_folder, lambda run: record({**NONE, "exact": 1}))
    (sentence,) = page_of(read_study(study_folder)).duplicates.sentences()
    assert sentence.startswith(
        "1 of the 240 test images (0.42%) is also among the training images of pretrain and finetune"
    )
    assert "by at most 0.5 points" in sentence


def test_excluded_images_affect_nothing(study_folder: Path) -> None:
    set_duplicates(study_folder, lambda run: record(LEAKED, dropped=4))
    page = page_of(read_study(study_folder))
    assert page.warnings() == []
    (sentence,) = page.duplicates.sentences()
    assert "the 4 training images were excluded (data.duplicates=drop), and no number is affected" in sentence


def test_what_other_pairs_of_parts_mean(study_folder: Path) -> None:
    set_duplicates(
        study_folder, lambda run: record(validation={**NONE, "near": 2}, both={**NONE, "exact": 1}, label_conflicts=3)
    )
    page = page_of(read_study(study_folder))
    assert page.warnings() == []
    of_validation, of_test, conflicts = page.duplicates.sentences()
    assert of_validation.startswith("2 of the 50 validation images (4%) are also among the training images")
    assert "no test metric counts these images" in of_validation
    assert of_test.startswith("1 of the 240 test images (0.42%) is also among the validation images")
    assert "Choices made on validation images have seen these test images." in of_test
    assert conflicts.startswith("3 training images have the same content as another one with another label")


def test_nothing_found_and_what_was_not_looked_for_are_stated(study_folder: Path) -> None:
    set_duplicates(study_folder, lambda run: record(skipped={"near": "the images are flat."}))
    assert page_of(read_study(study_folder)).duplicates.sentences() == [
        "No image was found in more than one of the parts training, validation and test.",
        "Resized, recompressed and mirrored copies were not looked for in pretrain and finetune: the images are flat.",
    ]


@pytest.mark.usefixtures("without_figures")
def test_runs_that_recorded_nothing_have_no_section(study_folder: Path) -> None:
    page = write_report(study_folder)
    assert page.duplicates.sentences() == []
    assert "Duplicate images" not in (study_folder / "report.html").read_text()


def test_sizes_of_fine_tuning_are_those_of_its_data(study_folder: Path) -> None:
    set_duplicates(study_folder, leaked)
    for path in (study_folder / "runs").glob("*/result.json"):
        content = json.loads(path.read_text())
        del content["splits"]
        path.write_text(json.dumps(content))
        (path.parent / "data.json").write_text(json.dumps({"test": {"images": 1200}, "training": {"images": 115}}))
    assert "of the 1,200 test images" in DuplicateWords(find_duplicates(read_study(study_folder))).warning()


DAMAGED: dict[str, Any] = {
    "a word": {"train/test": {"exact": "some"}},
    "a list": [1],
    "a pair": record() | {"train/test": 3},
    "examples": record({**NONE, "examples": [["one image"]]}),
    "reasons": record() | {"skipped": None},
    "a number": record() | {"dropped": "no"},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_record_names_its_file(study_folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A report and the storage of results end in one error, with exit code 2."""
    set_duplicates(study_folder, lambda run: DAMAGED[name])
    assert main(["report", str(study_folder)]) == 2
    assert "result.json: not the result of a run" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"result\.json: not the result of a run"):
        store_study(read_study(study_folder), study_folder / "stored")


def test_number_of_images_that_cannot_be_told_is_not_stated(study_folder: Path) -> None:
    set_duplicates(study_folder, leaked)
    for path in (study_folder / "runs").glob("*/result.json"):
        content = json.loads(path.read_text())
        del content["splits"]
        path.write_text(json.dumps(content))
        (path.parent / "data.json").write_text(json.dumps({"test": {}, "training": {"images": 115}}))
    assert "Up to 5 test images are also among" in DuplicateWords(find_duplicates(read_study(study_folder))).warning()


@pytest.mark.parametrize("content", ["[1]", '["a word"]', "[", '[{"runs": ["none"]}]', '[{"duplicates": {}}]'])
def test_damaged_stored_records_are_one_error(study_folder: Path, tmp_path: Path, content: str) -> None:
    set_duplicates(study_folder, leaked)
    store_study(read_study(study_folder), tmp_path / "stored")
    (tmp_path / "stored" / "duplicates.json").write_text(content)
    with (
        pytest.raises(UserError, match=r"not the stored results of a study \(.*duplicates\.json"),
        restored(tmp_path / "stored"),
    ):
        pass


def test_images_are_named_relative_to_their_source(study_folder: Path) -> None:
    path = study_folder / "study.yaml"
    plan = yaml.safe_load(path.read_text())
    for run in plan["runs"]:
        run["overrides"].append("data.source=/home/me/my photos")
    path.write_text(yaml.safe_dump(plan))
    examples = [["/home/me/my photos/cat/1.png", "/home/me/my photos/cat/2.png"]]
    set_duplicates(study_folder, lambda run: record({"exact": 1, "near": 0, "examples": examples}))
    assert find_duplicates(read_study(study_folder)).shared[0].examples == (("cat/1.png", "cat/2.png"),)


def test_stored_results_keep_them(study_folder: Path, tmp_path: Path) -> None:
    set_duplicates(study_folder, leaked)
    study = read_study(study_folder)
    store_study(study, tmp_path / "stored")
    with restored(tmp_path / "stored") as (again, _):
        assert page_of(again).duplicates.sentences() == page_of(study).duplicates.sentences()
        assert page_of(again).warnings() == page_of(study).warnings()
    set_duplicates(study_folder, lambda run: record())
    store_study(read_study(study_folder), tmp_path / "stored")
    assert not (tmp_path / "stored" / "duplicates.json").exists()
