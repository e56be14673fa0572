"""The fingerprint: a run goes on with the images it began with, or tells what differs."""

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
    return open_splits(DataConfig(source=str(root), workers=0, validation_fraction=0.2, **options), labelled=True)


def begin(splits: Splits, folder: Path) -> None:
    """Begin or go on with a run over the images, as the main process does."""
    save_data(check_data(splits, folder), splits, folder)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


@pytest.fixture
def begun(tmp_path: Path, images: Path) -> Path:
    """Return the folder of a run over the images that has a checkpoint."""
    folder = tmp_path / "run"
    folder.mkdir()
    begin(opened(images), folder)
    (folder / "checkpoints" / "step-000000004").mkdir(parents=True)
    return folder


def test_a_run_writes_what_it_began_with(begun: Path, images: Path) -> None:
    found = json.loads((begun / "data.json").read_text())
    assert found == describe_data(opened(images)) and found["training"]["images"] == 8
    assert found["validation"]["images"] == 2 and found["test"]["images"] == 4 and (begun / "subset.json").is_file()


def test_the_same_images_in_another_place_go_on(begun: Path, images: Path, tmp_path: Path) -> None:
    shutil.move(images, tmp_path / "moved")
    before = (begun / "data.json").read_text()
    begin(opened(tmp_path / "moved", cache_megabytes=0), begun)
    assert (begun / "data.json").read_text() == before


def lose_one(root: Path) -> None:
    (root / "train" / "dog" / "4.png").unlink()


def change_class(root: Path) -> None:
    (root / "train" / "dog" / "4.png").rename(root / "train" / "cat" / "9.png")


def rename_class(root: Path) -> None:
    for split in ("train", "test"):
        (root / split / "dog").rename(root / split / "fox")


def paint(root: Path) -> None:
    Image.fromarray(np.full((6, 6, 3), 250, np.uint8)).save(root / "test" / "dog" / "1.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose_one, "number of training images: 8 there, 7 now"),
        (change_class, "labels of the training images"),
        (rename_class, "names of the classes"),
        (paint, "content of the test images"),
    ],
)
def test_other_images_are_refused_with_what_differs(
    begun: Path, images: Path, change: Callable[[Path], None], words: str
) -> None:
    before = (begun / "data.json").read_text(), (begun / "subset.json").read_text()
    change(images)
    with pytest.raises(UserError) as caught:
        begin(opened(images), begun)
    assert words in str(caught.value) and str(begun) in str(caught.value)
    assert before == ((begun / "data.json").read_text(), (begun / "subset.json").read_text())


def test_another_subset_is_refused(begun: Path, images: Path) -> None:
    with pytest.raises(UserError, match="content of the training images"):
        begin(opened(images, split_seed=1), begun)


def test_before_the_first_checkpoint_the_images_may_change(begun: Path, images: Path) -> None:
    shutil.rmtree(begun / "checkpoints")
    lose_one(images)
    begin(opened(images), begun)
    assert json.loads((begun / "data.json").read_text())["training"]["images"] == 7


def test_a_run_without_a_fingerprint_goes_on_and_gets_one(
    begun: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (begun / "data.json").unlink()
    begin(opened(images), begun)
    assert "cannot be compared" in caplog.text and (begun / "data.json").is_file()


@pytest.mark.parametrize("content", ["{", "[]", "\x00"])
def test_a_damaged_fingerprint_is_named(begun: Path, images: Path, content: str) -> None:
    (begun / "data.json").write_text(content)
    with pytest.raises(UserError, match=r"data\.json: "):
        begin(opened(images), begun)


def test_only_one_process_writes(tmp_path: Path, images: Path) -> None:
    check_data(opened(images), tmp_path)
    assert not (tmp_path / "data.json").exists()
