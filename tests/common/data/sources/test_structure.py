"""Folders that are not classes: images beside annotations, a level too high, splits within classes, double copies."""

import inspect
import sys
from pathlib import Path

import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.sources.open_source import open_source
from common.errors import UserError


def fill(root: Path, *paths: str) -> Path:
    """Write small images, or text files by their extension, at `paths` relative to `root`."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".png"):
            Image.new("RGB", (4, 3), (number, 0, 0)).save(root / path, "PNG")
        else:
            (root / path).write_text("text")
    return root


def classes(root: Path, split: str = "train", **keys: object) -> tuple[str, ...]:
    """Return the classes of a split, as both stages read it."""
    source = open_source(DataConfig(source=str(root), **keys), ImageDecoder())
    names = [source.read(split, labeled=labeled).class_names for labeled in (True, False)]
    assert names[0] == names[1]
    return names[0]


@pytest.mark.parametrize(
    "paths",
    [
        ("images/a/1.png", "images/b/1.png", "attributes/a.txt", "parts/parts.txt"),
        ("Images/a/1.png", "Images/b/1.png", "Annotation/a/1"),
        ("set/images/a/1.png", "set/images/b/1.png", "set/meta/train.txt"),
        ("Data/CLS/train/a/1.png", "Data/CLS/train/b/1.png", "Annotations/x.xml", "ImageSets/CLS/val.txt"),
        (
            "train/images/a/1.png",
            "train/images/b/1.png",
            "train/labels/1.txt",
            "val/images/a/1.png",
            "val/labels/1.txt",
        ),
    ],
)
def test_images_beside_what_describes_them_are_read(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert classes(fill(tmp_path, *paths)) == ("a", "b")


def test_masks_beside_images_are_a_question_whose_answers_work(tmp_path: Path) -> None:
    root = fill(tmp_path, "images/a/1.png", "images/b/1.png", "masks/1.png")
    with pytest.raises(UserError, match=r"'images' .*'masks'.*data\.leave_out=\[masks\].*data\.kind=class_folders"):
        classes(root)
    assert classes(root, leave_out=("masks",)) == classes(root / "images") == ("a", "b")
    assert classes(root, kind="class_folders") == ("images", "masks")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (("color/a/1.png", "color/b/1.png", "gray/a/1.png", "gray/b/1.png"), "all contain the folders 'a', 'b'"),
        (("cat/train/1.png", "cat/test/1.png", "dog/train/1.png", "dog/test/1.png"), "contains the splits"),
        (
            ("all/a/1.png", "all/b/1.png", "fold/train/a/1.png", "fold/val/a/1.png"),
            "contains the splits 'train', 'val'",
        ),
        (
            ("a/1.png", "b/1.png", "copy/a/1.png", "copy/b/1.png"),
            "copy is read as a class, but contains the folders 'a', 'b'",
        ),
    ],
)
def test_folders_within_class_folders_that_are_the_classes_or_splits_are_a_question(
    tmp_path: Path, paths: tuple[str, ...], message: str
) -> None:
    root = fill(tmp_path, *paths)
    for labeled in (True, False):
        with pytest.raises(UserError, match=message):
            open_source(DataConfig(source=str(root)), ImageDecoder()).read("train", labeled=labeled)
    assert len(classes(root, kind="class_folders")) == len({path.partition("/")[0] for path in paths})


@pytest.mark.parametrize(
    "paths",
    [
        ("a/images/1.png", "b/images/1.png"),
        ("a/left/1.png", "a/1.png", "a/right/1.png", "b/left/1.png", "b/right/1.png"),
        ("a/x/1.png", "a/y/1.png", "b/z/1.png"),
    ],
)
def test_other_folders_within_class_folders_belong_to_the_class(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert classes(fill(tmp_path, *paths)) == ("a", "b")


def test_splits_of_parts_of_a_data_set_are_splits(tmp_path: Path) -> None:
    root = fill(tmp_path, "2021_train_mini/a/1.png", "2021_train_mini/b/1.png", "2021_valid/a/1.png")
    assert classes(root, "2021_train_mini") == ("a", "b")


def test_class_folders_without_images_are_a_warning_and_a_question_with_a_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png", "notes/x.txt")
    assert classes(root) == ("a", "b", "notes")
    assert "1 of the 3 class folders" in caplog.text and "'notes'" in caplog.text
    assert classes(root, leave_out=("notes",)) == ("a", "b")


def test_names_with_backslashes_are_an_error_in_both_stages(tmp_path: Path) -> None:
    root = fill(tmp_path, "train\\a\\1.png", "train\\b\\1.png", "test\\a\\1.png")
    for labeled in (True, False):
        with pytest.raises(UserError, match=r"backslashes.*unzip"):
            open_source(DataConfig(source=str(root)), ImageDecoder()).read("train", labeled=labeled)


def test_an_empty_split_names_what_removes_it(tmp_path: Path) -> None:
    root = fill(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/notes.txt")
    source = open_source(DataConfig(source=str(root)), ImageDecoder())
    with pytest.raises(UserError, match=r"contains no images.*Passed over: 1 \.txt.*data\.leave_out=\[test\]"):
        source.read("test", labeled=False)
    assert open_source(DataConfig(source=str(root), leave_out=("test",)), ImageDecoder()).names() == ("train",)


def test_what_lies_beside_the_splits_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = fill(tmp_path, "train/a/1.png", "train/b/1.png", "test/a/1.png", "stray.png", ".hidden/1.png")
    (root / "val").symlink_to("test")
    assert classes(root) == ("a", "b")
    (line,) = [message for message in caplog.messages if f"passed over in {root}:" in message][:1]
    assert "1 images in no split" in line and "1 hidden folders" in line and "links to folders" in line


def test_two_links_to_one_folder_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, root = fill(tmp_path / "store", "x/1.png"), fill(tmp_path / "set", "a/1.png")
    for name in ("b", "c"):
        (root / name).symlink_to(store / "x")
    assert classes(root) == ("a", "b", "c")
    (line,) = {message for message in caplog.messages if "read twice" in message}
    assert str(root / "b") in line and str(root / "c") in line


def test_raw_images_beside_their_jpegs_are_passed_over_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = fill(tmp_path, "a/1.png", "b/1.png", "a/1.NEF")
    (root / "a" / "1.NEF").write_bytes(b"MM\0*\0\0\0\x08" + bytes(64))
    assert classes(root) == ("a", "b") and "1 .nef (raw images: develop them)" in caplog.text


def test_folders_deeper_than_the_recursion_limit_are_read(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png")
    deep = root / "a"
    for _ in range(250):
        deep = deep / "d"
        deep.mkdir()
    Image.new("RGB", (4, 3)).save(deep / "2.png")
    source = open_source(DataConfig(source=str(root)), ImageDecoder())
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 150)
    try:
        assert len(source.read("train", labeled=True)) == 3
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize("wrapper", ["", "data"])
def test_split_folders_of_any_name_are_splits_if_the_recipe_says_so(tmp_path: Path, wrapper: str) -> None:
    for split in ("a", "b"):
        for kind in ("cat", "dog"):
            for number in range(4):
                path = tmp_path / wrapper / split / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
    (tmp_path / wrapper / ".git").mkdir()
    config = DataConfig(source=str(tmp_path), kind="split_folders")
    source = open_source(config, ImageDecoder())
    assert source.names() == ("a", "b") and source.read("b", labeled=True).class_names == ("cat", "dog")


@pytest.mark.parametrize("kind", ["class_folders", "split_folders", "images"])
def test_a_list_that_the_kind_does_not_read_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "labels.csv").write_text("file_name,label\n0.png,a\n")
    config = DataConfig(source=str(tmp_path), kind=kind, metadata_file="labels.csv")
    with pytest.raises(UserError, match=rf"data\.metadata_file is 'labels\.csv'.*data\.kind={kind}.*Remove the key"):
        open_source(config, ImageDecoder())


def test_a_name_that_is_left_out_may_have_the_signs_of_a_pattern(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png", "old [2019]/1.png", "cafe\u0301/1.png")
    assert classes(root, leave_out=("old [2019]", "caf\u00e9/")) == ("a", "b")


def test_a_path_to_be_left_out_is_refused(tmp_path: Path) -> None:
    root = fill(tmp_path, "train/a/1.png", "train/bad/1.png", "test/a/1.png")
    with pytest.raises(UserError, match=r"data\.leave_out: 'train/bad' is a path\. It takes names .* such as 'bad'"):
        classes(root, leave_out=("train/bad",))
