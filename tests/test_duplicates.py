"""Runs on images with duplicates: recorded with the run, excluded in both stages, and known to later runs by its weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import RECIPES, read_result
from PIL import Image
from textures import textures

from common.training.run_folder import changes_numbers
from recipes.stages import resolve_by_config

Stage = Callable[..., int]
pytestmark = pytest.mark.run
FAST = ("data.images_per_class=none", "data.workers=0", "train.epochs=1", "train.batch_size=10")


def image_folder(root: Path) -> Path:
    """Write 48 training and 12 test images of two classes; one training image is a mirrored test image."""
    images = iter(textures(60, seed=0, side=20))
    for split, count in (("train", 24), ("test", 6)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(images)).save(root / split / name / f"{number:02d}.png")
    mirrored = np.asarray(Image.open(root / "test/cat/03.png"))[:, ::-1]
    Image.fromarray(mirrored).save(root / "train/cat/01.png")
    return root


def test_both_stages_exclude_duplicates_and_fine_tuning_knows_what_its_weights_have_seen(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = image_folder(tmp_path / "images")
    drop = (f"data.source={root}", "data.duplicates=drop", *FAST)
    assert stage("pretrain", tmp_path / "pre", *drop) == 0
    assert stage("finetune", tmp_path / "tst", *drop, f"init={tmp_path / 'pre'}") == 0
    read = [json.loads((tmp_path / name / "data.json").read_text()) for name in ("pre", "tst")]
    assert [data["duplicates"]["dropped"] for data in read] == [1, 1]
    assert read[0]["training"]["content"] == read[1]["training"]["content"]
    result = read_result(tmp_path / "tst")
    assert result["duplicates"]["train/test"]["near"] == 1
    assert result["init_overlap"] == {"validation": 0, "test": 0}
    assert "were trained on" not in capsys.readouterr().out

    (tmp_path / "pre" / "training_images.npy").rename(tmp_path / "training_images.npy")
    assert stage("finetune", tmp_path / "unknown", *drop, f"init={tmp_path / 'pre'}") == 0
    assert read_result(tmp_path / "unknown")["init_overlap"] is None
    assert "the images that these weights were trained on are not known" in capsys.readouterr().out
    (tmp_path / "training_images.npy").rename(tmp_path / "pre" / "training_images.npy")

    other = tmp_path / "other"  # other images, among them the first stage's training images as test images
    (root / "train").rename(root / "validation")
    other.symlink_to(root)
    words = ("data.train_split=test", "data.test_split=validation", "data.validation_fraction=0.2")
    overlapping = (f"data.source={other}", *words, *FAST, f"init={tmp_path / 'pre'}")
    assert stage("finetune", tmp_path / "refused", *overlapping) == 2
    assert (
        "data.init_overlap=allow" in capsys.readouterr().err and not (tmp_path / "refused" / "metrics.jsonl").exists()
    )
    assert stage("finetune", tmp_path / "leak", *overlapping, "data.init_overlap=allow") == 0
    trained = np.load(tmp_path / "pre" / "training_images.npy")
    assert read_result(tmp_path / "leak")["init_overlap"]["test"] == len(trained) > 30
    assert f"trained on {len(trained)} of the 48 test images" in capsys.readouterr().out


def test_resumed_run_keeps_what_was_found(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = image_folder(tmp_path / "images")
    out, words = tmp_path / "run", (f"data.source={root}", *FAST)
    assert stage("finetune", out, *words) == 0
    before = read_result(out)["duplicates"]
    assert before["train/test"]["near"] == 1 and before["mode"] == "auto"
    assert "1 of the 12 test images have duplicates among the training images" in capsys.readouterr().out
    (out / "result.json").unlink()
    assert stage("finetune", out, *words, "data.duplicates=ignore") == 0, "changes no number, so the run resumes"
    assert "skipped" in read_result(out)["duplicates"] and read_result(out)["duplicates"]["mode"] == "ignore"
    (out / "result.json").unlink()
    monkeypatch.setattr("common.training.open_images.find_duplicates", None)  # not searched again
    assert stage("finetune", out, *words) == 0
    assert read_result(out)["duplicates"] == before
    (out / "result.json").unlink()
    assert stage("finetune", out, *words, "data.duplicates=drop") == 2
    assert "data.duplicates: auto there, drop now" in capsys.readouterr().err


def test_only_drop_is_part_of_what_a_run_computes() -> None:
    recipe = RECIPES / "digits" / "finetune.yaml"
    modes = ("auto", "warn", "ignore", "drop")
    resolved = [resolve_by_config("finetune", recipe, (f"data.duplicates={mode}",)) for mode in modes]
    assert resolved[0] == resolved[1] == resolved[2]
    assert resolved[3] == resolved[0] | {"data.duplicates": "drop"}
    assert changes_numbers("data.split_seed", 0) and not changes_numbers("data.workers", 0)
