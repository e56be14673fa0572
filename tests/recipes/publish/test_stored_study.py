"""Stored results: the folder that is made from them has the report of the study's own folder."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published_studies import ENVIRONMENT, accuracy, with_surroundings, write_study
from table_studies import plan_of, write_run

from common.errors import UserError
from common.evaluation.predictions import Predictions, per_image
from recipes.publish.command import store
from recipes.publish.origin import Origin, describe_origin
from recipes.publish.parts import parts_of
from recipes.publish.stored_predictions import (
    describe_test_sets,
    read_predictions_text,
    read_test_sets,
    write_images,
    write_predictions_text,
)
from recipes.publish.stored_study import FILES, restored, store_study
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.report import page_of
from recipes.reports.results import StudyRecord
from recipes.study.study_file import build_study


def texts(study: StudyRecord, origin: Origin) -> dict[str, str]:
    """Return every part of a study's report."""
    return {name: text() for name, text in parts_of(page_of(study), origin).items()}


def test_report_of_the_restored_folder_is_that_of_the_study(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    store_study(study, tmp_path / "stored")
    with restored(tmp_path / "stored") as (again, origin):
        page = page_of(again)
        assert isinstance(page, ComparisonPage)
        assert page.findings.values.problems == ()
        assert page.findings.main.pooled.interval.images == 1000
        assert texts(again, origin) == texts(study, origin)
    assert sorted(path.name for path in (tmp_path / "stored").iterdir()) == sorted(
        set(FILES) - {"curves.csv", "duplicates.json"}
    )


def test_diverged_and_missing_runs_are_restored(tmp_path: Path) -> None:
    def values(levels: Mapping[str, str]) -> Any:
        if levels["stem"] == "conv" and levels["training"] == "TST":
            return {"crash": 97} if levels["seed"] == "1" else {"waiting": True}
        return accuracy(levels)

    study = write_study(tmp_path / "study", values)
    export = study.of_stage("finetune")[0].folder / "export"
    export.mkdir()
    (export / "config.json").write_text('{"num_classes": 2}')
    store_study(study, tmp_path / "stored")
    with restored(tmp_path / "stored") as (again, origin):
        assert {name: run.state for name, run in again.runs.items()} == {n: r.state for n, r in study.runs.items()}
        assert {name: run.result for name, run in again.runs.items()} == {n: r.result for n, r in study.runs.items()}
        assert texts(again, origin) == texts(study, origin)
        assert "Chance level is about 50%" in texts(again, origin)["notes"]


def test_metric_without_predictions_is_restored(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", images=0)
    store_study(study, tmp_path / "stored")
    assert not (tmp_path / "stored" / "predictions.csv").exists()
    with restored(tmp_path / "stored") as (again, origin):
        assert texts(again, origin) == texts(study, origin)


def test_metrics_during_training_are_restored(tmp_path: Path) -> None:
    report = {"metrics": {"early": {"metric": "validation_top1", "at": 0.5}, "top1": "test_top1"}, "repeats": "seed"}
    study = build_study(
        {
            "name": "early",
            "question": "Which stem converges faster?",
            "stages": {"finetune": {"recipe": "finetune.yaml"}},
            "axes": {
                "stem": {"levels": {"patchify": {"model.stem": "patchify"}, "conv": {"model.stem": "conv"}}},
                "seed": {"key": "train.seed", "values": [0, 1, 2]},
            },
            "report": {**report, "figure": {"kind": "rows"}},
        },
        "early.yaml",
    )
    for run in plan_of(study).runs:
        value = 80.0 + int(run.levels["seed"]) + 5 * (run.levels["stem"] == "conv")
        write_run(tmp_path / "study" / "runs" / run.id, {"value": value})
    record = with_surroundings(study, tmp_path / "study")
    store_study(record, tmp_path / "stored")
    with restored(tmp_path / "stored") as (again, origin):
        rows = texts(again, origin)["rows"]
        assert rows == texts(record, origin)["rows"]
        assert "read after epoch 10 of 20" in rows


def test_storing_again_gives_the_same_bytes_and_removes_what_is_no_longer_stored(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    store_study(study, tmp_path / "stored")
    before = {path.name: path.read_bytes() for path in (tmp_path / "stored").iterdir()}
    (tmp_path / "stored" / "curves.csv").write_text("of another study")
    store_study(study, tmp_path / "stored")
    assert {path.name: path.read_bytes() for path in (tmp_path / "stored").iterdir()} == before


def test_origin_says_where_the_runs_come_from(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    changed = next(iter(study.runs.values())).folder / "environment.json"
    changed.write_text(json.dumps(ENVIRONMENT | {"git_changed": True}))
    store_study(study, tmp_path / "stored", "next to other work")
    with restored(tmp_path / "stored") as (again, origin):
        lines = describe_origin(again, origin, "30 runs")
    assert lines[0] == "Command: `python -m recipes run known.yaml`"
    assert (
        "Machine: Known CPU (family 6, model 106), 2 cores, 1 thread per run, device cpu; next to other work" in lines
    )
    assert "Images: 100 to 1,000 for training, 1,000 for testing" in lines
    assert f"Code: commit 012345678 ({len(study.runs) - 1} runs); commit 012345678 with changed files (1 run)" in lines
    assert "Versions: Python 3.11.7, torch 2.15.0" in lines
    assert "/somewhere" not in (tmp_path / "stored" / "origin.json").read_text()


def test_study_without_results_is_not_stored(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    shutil.rmtree(tmp_path / "study" / "runs")
    with pytest.raises(UserError, match="no run is done"):
        store(study.folder, tmp_path, None, "")
    assert not (tmp_path / "docs").exists()


def test_report_that_needs_more_than_is_stored_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_study(tmp_path / "study")
    monkeypatch.setattr("recipes.publish.stored_study._write_predictions", lambda study, origin: {})
    with pytest.raises(UserError, match="depends on files of the run folders that are not stored .*accuracies"):
        store(tmp_path / "study", tmp_path, None, "")
    assert not (tmp_path / "docs").exists()


@pytest.mark.parametrize("name", ["origin.json", "runs.csv", "images.csv", "predictions.csv"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_stored_results_are_named(tmp_path: Path, name: str, damage: str) -> None:
    store_study(write_study(tmp_path / "study"), tmp_path / "stored")
    path = tmp_path / "stored" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_text(path.read_text()[: -len(path.read_text()) // 3])
    match = r"stored: not the stored results of a study.*recipes publish"
    with pytest.raises(UserError, match=match), restored(tmp_path / "stored"):
        pass


def test_missing_stored_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: no stored results of a study"), restored(tmp_path / "none"):
        pass


def test_invalid_stored_plan_is_named_by_its_own_folder(tmp_path: Path) -> None:
    store_study(write_study(tmp_path / "study"), tmp_path / "stored")
    (tmp_path / "stored" / "study.yaml").write_text("runs: 3")
    match = r"stored: not the stored results of a study \(study.yaml: not written"
    with pytest.raises(UserError, match=match), restored(tmp_path / "stored"):
        pass


def predictions(name: str, kind: str, seed: int) -> Predictions:
    """Return predictions of 13 images by 12 classes with all columns, of which a metric needs one."""
    rng = np.random.default_rng(seed)
    return Predictions(
        images=tuple(f'odd, "{number}"' for number in range(13)),
        target=np.random.default_rng(0).integers(0, 12, 13).astype(np.int32),
        prediction=rng.integers(-1 if kind in ("average_precision", "rank5") else 0, 12, 13).astype(np.int32),
        metrics={name: kind},
        split="test",
        fingerprint="known",
        class_names=tuple("abcdefghijkl"),
        loss=rng.random(13, dtype=np.float32) / 3,
        classes=rng.integers(0, 12, (13, 5)).astype(np.int32),
        auroc=rng.random(13, dtype=np.float32) * 100,
        average_precision=np.where(np.arange(13) % 5, rng.random(13), np.nan).astype(np.float32),
        first_match=rng.integers(0, 12, 13).astype(np.int32),
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [(k, k) for k in ("top1", "top5", "loss", "balanced_accuracy", "macro_f1", "auroc", "rank5")]
    + [("map", "average_precision"), ("knn_top1", "top1")],
)
def test_values_by_image_are_restored_exactly(name: str, kind: str) -> None:
    runs = {f"run{seed}": predictions(name, kind, seed) for seed in range(3)}
    sets: list[Predictions] = []
    text = write_predictions_text(runs, sets, f"test_{name}")
    known = read_test_sets(write_images(sets), describe_test_sets(sets))
    found = read_predictions_text(text, known, f"test_{name}", kind)
    assert len(sets) == 1 and list(found) == list(runs)
    for run, own in runs.items():
        np.testing.assert_array_equal(per_image(found[run], name), per_image(own, name))
        np.testing.assert_array_equal(found[run].prediction, own.prediction)
        assert (found[run].images, found[run].class_names) == (own.images, own.class_names)
