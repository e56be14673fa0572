"""Runs whose inputs were moved or copied: they resume, or have ended, if the content is the same; otherwise they are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import assert_same_run
from PIL import Image
from safetensors.torch import load_file, save_file

from common.command import USER_ERROR

Stage = Callable[..., int]

PHOTOS = ("data.images_per_class=none", "data.image_size=8", "model.patch_size=4", "train.batch_size=10")


def write_photos(root: Path) -> Path:
    """Write 20 images of each of two classes."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


def change_photos(root: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(root / "cat" / "00.png")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos")


@pytest.fixture
def copy(photos: Path) -> Path:
    return Path(shutil.copytree(photos, photos.with_name("job_4712")))


def test_run_resumes_from_copies_of_its_images_and_weights(
    stage: Stage, tmp_path: Path, photos: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, out, init = tmp_path / "first", tmp_path / "run", tmp_path / "weights"
    words = (*PHOTOS, "train.epochs=1")
    assert stage("finetune", first, f"data.source={photos}", *words) == 0
    shutil.copytree(first, init)
    assert stage("finetune", out, f"data.source={photos}/", f"init={first}", *words) == 0
    shutil.copytree(out, tmp_path / "uninterrupted")
    (out / "result.json").unlink()
    assert stage("finetune", out, f"data.source={copy}/", f"init={init}", *words) == 0
    text = capsys.readouterr().out
    assert f"data.source was {photos}/, now {copy}/, with the same images" in text
    assert f"init was {first}, now {init}, with the same content" in text
    assert_same_run(tmp_path / "uninterrupted", out)
    assert yaml.safe_load((out / "config.yaml").read_text())["init"] == str(init), "that of the last command"
    weights = load_file(init / "export" / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, init / "export" / "model.safetensors")
    (out / "result.json").unlink()
    assert stage("finetune", out, f"data.source={copy}", f"init={init}/", *words) == USER_ERROR
    assert f"began with others, of {init}: their values differ" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["knn", "finetune"])
def test_ended_run_with_a_moved_source_is_confirmed(
    stage: Stage, tmp_path: Path, photos: Path, copy: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out, words = tmp_path / "run", PHOTOS if name == "knn" else (*PHOTOS, "train.epochs=1")
    assert stage(name, out, f"data.source={photos}", *words) == 0
    before = (out / "metrics.jsonl").read_bytes()
    assert stage(name, out, f"data.source={copy}", *words) == 0
    assert "has already ended" in capsys.readouterr().out
    change_photos(copy)
    assert stage(name, out, f"data.source={copy}", *words) == USER_ERROR
    error = capsys.readouterr().err
    assert f"data.source: {photos} there, {copy} now" in error and "content of the" in error
    (out / "result.json").unlink()
    assert stage(name, out, f"data.source={copy}", *words) == USER_ERROR
    assert (out / "metrics.jsonl").read_bytes() == before


def test_relative_source_from_another_working_directory(
    stage: Stage, tmp_path: Path, photos: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same text may name other images, and another text the same."""
    out, words = tmp_path / "run", (*PHOTOS, "train.epochs=1")
    monkeypatch.chdir(tmp_path)
    assert stage("finetune", out, "data.source=photos", *words) == 0
    (out / "result.json").unlink()
    monkeypatch.chdir(copy)
    assert stage("finetune", out, "data.source=../photos", *words) == 0
    (out / "result.json").unlink()
    (tmp_path / "there").mkdir()
    change_photos(Path(shutil.move(copy, tmp_path / "there" / "photos")))
    monkeypatch.chdir(tmp_path / "there")
    assert stage("finetune", out, "data.source=photos", *words) == USER_ERROR


def test_token_labels_resume_with_a_moved_teacher(stage: Stage, tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "labels"
    assert stage("finetune", teacher, "train.epochs=1") == 0
    assert stage("token_labels", out, f"init={teacher}") == 0
    shards = sorted(out.glob("labels-*.safetensors"))
    expected = load_file(shards[-1])
    for path in (out / "result.json", shards[-1]):
        path.unlink()
    moved = teacher.rename(tmp_path / "archive")
    assert stage("token_labels", out, f"init={moved}") == 0
    assert all(torch.equal(tensor, expected[name]) for name, tensor in load_file(shards[-1]).items())
    save_file(load_file(shards[0]), shards[0], metadata={"description": "{}", "num_right": "0"})
    (out / "result.json").unlink()
    assert stage("token_labels", out, f"init={moved}") == USER_ERROR, "labels of another description"
