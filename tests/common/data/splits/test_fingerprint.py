"""Data fingerprint: a run resumes on the same images, and reports differences otherwise."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.fingerprint import check_data, describe_data, save_data
from common.data.splits.roles import Splits
from common.errors import UserError


def write_images(root: Path) -> Path:
    """Write 10 training and 4 test images of two classes."""
    for split, count in (("train", 5), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for image in range(count):
                pixels = np.full((6, 6, 3), 40 * number + image, np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{image}.png")
    return root


def opened(root: Path, **options: object) -> Splits:
    """Return the splits of the folder."""
    return open_splits(DataConfig(source=str(root), workers=0, validation_fraction=0.2, **options), labeled=True)


def start(splits: Splits, folder: Path) -> None:
    """Start or resume a run on the images, as the main process does."""
    save_data(check_data(splits, folder), splits, folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture
def run_folder(tmp_path: Path, images: Path) -> Path:
    """Return the folder of a run on the images that has a checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    start(opened(images), folder)
    (folder / "checkpoints" / "step-000000004").mkdir(parents=True)
    return folder


def test_run_writes_its_fingerprint_and_subset(run_folder: Path, images: Path) -> None:
    found = json.loads((run_folder / "data.json").read_text())
    assert found == describe_data(opened(images)) and found["training"]["images"] == 8
    assert (
        found["validation"]["images"] == 2 and found["test"]["images"] == 4 and (run_folder / "subset.json").is_file()
    )


def test_run_resumes_on_the_same_images_in_another_location(run_folder: Path, images: Path, tmp_path: Path) -> None:
    shutil.move(images, tmp_path / "moved")
    before = (run_folder / "data.json").read_text()
    start(opened(tmp_path / "moved", cache_megabytes=0), run_folder)
    assert (run_folder / "data.json").read_text() == before


def delete_image(root: Path) -> None:
    (root / "train" / "dog" / "4.png").unlink()


def change_label(root: Path) -> None:
    (root / "train" / "dog" / "4.png").rename(root / "train" / "cat" / "9.png")


def rename_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "dog").rename(root / split / "fox")


def change_pixels(root: Path) -> None:
    Image.fromarray(np.full((6, 6, 3), 250, np.uint8)).save(root / "test" / "dog" / "1.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (delete_image, "number of training images: was 8, now 7"),
        (change_label, "labels of the training images"),
        (rename_class, "class names: changed"),
        (change_pixels, "content of the test images"),
    ],
)
def test_changed_images_are_rejected_with_the_differences(
    run_folder: Path, images: Path, change: Callable[[Path], None], message: str
) -> None:
    before = (run_folder / "data.json").read_text(), (run_folder / "subset.json").read_text()
    change(images)
    with pytest.raises(UserError) as caught:
        start(opened(images), run_folder)
    assert message in str(caught.value) and str(run_folder) in str(caught.value)
    assert before == ((run_folder / "data.json").read_text(), (run_folder / "subset.json").read_text())


def test_a_run_that_meets_a_corrupt_image_resumes_without_it(images: Path, tmp_path: Path) -> None:
    """Its images counted as others, so that data.on_corrupt=skip, which the message advises, was refused."""
    damaged = images / "test" / "dog" / "1.png"
    damaged.write_bytes(damaged.read_bytes()[:60])
    folder = tmp_path / "run"
    folder.mkdir()
    start(opened(images, verify="none", cache_megabytes=0), folder)
    (folder / "checkpoints" / "step-000000004").mkdir(parents=True)
    without = opened(images, on_corrupt="skip", max_corrupt=0.5)
    assert without.test is not None and len(without.test) == 3
    start(without, folder)
    start(opened(images, verify="none", cache_megabytes=0), folder)
    saved = json.loads((folder / "data.json").read_text())
    described = describe_data(without)["test"]
    assert saved["test"]["images"] == described["complete"]["images"] == 4 and described["images"] == 3
    begun_without = {name: value for name, value in described.items() if name != "complete"}
    for test in (described, begun_without):  # the run began without the image, also in an earlier version
        (folder / "data.json").write_text(json.dumps(saved | {"test": test}))
        start(without, folder)
    (folder / "data.json").write_text(json.dumps(saved | {"test": described}))
    start(opened(images, verify="none", cache_megabytes=0), folder)
    (images / "test" / "cat" / "1.png").unlink()
    for options in ({"on_corrupt": "skip", "max_corrupt": 0.5}, {"verify": "none", "cache_megabytes": 0}):
        with pytest.raises(UserError, match="number of test images: was 4, now 3"):
            start(opened(images, **options), folder)


def test_changed_split_seed_is_rejected(run_folder: Path, images: Path) -> None:
    with pytest.raises(UserError, match="content of the training images"):
        start(opened(images, split_seed=1), run_folder)


def test_images_may_change_before_the_first_checkpoint(run_folder: Path, images: Path) -> None:
    shutil.rmtree(run_folder / "checkpoints")
    delete_image(images)
    start(opened(images), run_folder)
    assert json.loads((run_folder / "data.json").read_text())["training"]["images"] == 7


def test_run_without_a_fingerprint_resumes_and_writes_one(
    run_folder: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (run_folder / "data.json").unlink()
    start(opened(images), run_folder)
    assert "cannot be compared" in caplog.text and (run_folder / "data.json").is_file()


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_damaged_fingerprint_is_reported_by_path(run_folder: Path, images: Path, content: str) -> None:
    (run_folder / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json: "):
        start(opened(images), run_folder)


def test_check_data_does_not_write(tmp_path: Path, images: Path) -> None:
    check_data(opened(images), tmp_path)
    assert not (tmp_path / "data.json").exists()
