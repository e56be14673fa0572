"""Image folders: class folders, split folders, and invalid folders."""

import errno
import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.data.sources.folders import FolderSource
from common.errors import UserError


def fill(root: Path, *paths: str) -> Path:
    """Write small images at `paths` relative to `root`; a path that ends in / becomes an empty folder."""
    for number, path in enumerate(paths):
        file = root / path
        if path.endswith("/"):
            file.mkdir(parents=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 0, 0)).save(file, "PNG")
    return root


def image_folder(root: Path, *, declared: Sequence[str] = ()) -> FolderSource:
    """Return the source of a folder with the default decoder."""
    return FolderSource(root, decoder=ImageDecoder(), declared=declared)


def test_class_folders_form_one_training_split_in_sorted_order(tmp_path: Path) -> None:
    source = image_folder(fill(tmp_path, "dog/b.png", "cat/2.JPG", "cat/1.jpeg"))
    split = source.read("train", labeled=True)
    assert source.names() == ("train",)
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [0, 0, 1]
    assert split.file_names() == ["cat/1.jpeg", "cat/2.JPG", "dog/b.png"]
    assert split.name(2) == str(tmp_path / "dog" / "b.png")
    assert split.image(2).shape == (3, 4, 3) and split.image(0)[0, 0, 0] == 2


def test_split_folders_contain_class_folders(tmp_path: Path) -> None:
    source = image_folder(
        fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "test/b/1.png", "test/b/2.png")
    )
    assert source.names() == ("test", "train", "val")
    assert [len(source.read(name, labeled=True)) for name in source.names()] == [2, 2, 1]
    assert source.read("test", labeled=True).class_names == ("b",)


def test_what_lies_beside_class_folders_is_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = fill(tmp_path, "a/1.png", "b/1.png", "a/.hidden.png", ".hidden.png", "unlabeled/.hidden.png")
    image_folder(root).read("train", labeled=False)
    assert "3 hidden files" in caplog.text


def test_class_named_train_is_a_class(tmp_path: Path) -> None:
    split = image_folder(fill(tmp_path, "bus/1.png", "train/1.png", "tram/1.png")).read("train", labeled=True)
    assert split.class_names == ("bus", "train", "tram")


def test_declared_splits_make_every_folder_a_split(tmp_path: Path) -> None:
    source = image_folder(fill(tmp_path, "photos/a/1.png", "photos/b/1.png", "sketches/a/1.png"), declared=["photos"])
    assert source.names() == ("photos", "sketches")


def test_nested_folders_hidden_names_and_other_files(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/x/y/1.png", "a/2.png", "b/1.png", "b/.hidden.png", ".cache/1.png")
    (root / "a" / "notes.txt").write_text("no image")
    (root / "labels.csv").write_text("no image")
    split = image_folder(root).read("train", labeled=True)
    assert split.file_names() == ["a/2.png", "a/x/y/1.png", "b/1.png"]


def test_symlink_to_a_parent_folder_ends_the_recursion(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png")
    (root / "a" / "up").symlink_to(root / "a")
    (root / "b" / "other").symlink_to(root / "a")
    split = image_folder(root).read("train", labeled=True)
    assert split.file_names() == ["a/1.png", "b/1.png"]


@pytest.mark.parametrize("target", ["..", "../..", "../b"])
def test_links_never_lead_a_class_out_of_its_folder(
    tmp_path: Path, target: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    root = fill(tmp_path / "set", "a/1.png", "b/1.png")
    (root / "a" / "link").symlink_to(target)
    split = image_folder(root).read("train", labeled=True)
    assert split.file_names() == ["a/1.png", "b/1.png"] and "1 links to folders that are read anyway" in caplog.text


def test_links_to_another_disk_are_followed_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root, disk = fill(tmp_path / "set", "a/1.png", "b/1.png"), fill(tmp_path / "disk", "x/2.png", "c/3.png")
    (root / "a" / "more").symlink_to(disk / "x")
    (root / "c").symlink_to(disk / "c")
    split = image_folder(root).read("train", labeled=True)
    assert split.file_names() == ["a/1.png", "a/more/2.png", "b/1.png", "c/3.png"] and "is a link to" in caplog.text


def test_a_link_to_a_parent_or_to_another_class_is_no_class(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "a/1.png", "b/1.png")
    (root / "all").symlink_to(root)
    (root / "alias").symlink_to(root / "a")
    assert image_folder(root).read("train", labeled=True).class_names == ("a", "b")


def test_everything_passed_over_is_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    root = fill(
        tmp_path, "a/1.png", "a/2.jpg_large", "a/3", "a/.4.png", "b/1.png", "b/@eaDir/1.png", "__MACOSX/a/1.png"
    )
    (root / "a" / "notes.txt").write_text("no image")
    (root / "a" / "5.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "b" / "self.png").symlink_to(root / "b" / "self.png")
    split = image_folder(root).read("train", labeled=True)
    assert split.file_names() == ["a/1.png", "a/2.jpg_large", "a/3", "b/1.png"], "images by their bytes"
    (line,) = [record.getMessage() for record in caplog.records if "passed over" in record.getMessage()]
    for reason in ("1 .txt", "2 dangling links", "1 hidden files", "1 folders '@eaDir'", "folders '__MACOSX'"):
        assert reason in line
    assert "1 .heic (HEIC: install pillow-heif)" in line or find_spec("pillow_heif")


@pytest.mark.parametrize(
    ("paths", "splits"),
    [
        (("training_set/a/1.png", "training_set/b/1.png", "test_set/a/1.png"), ("test_set", "training_set")),
        (("train2017/a/1.png", "val2017/a/1.png"), ("train2017", "val2017")),
        (
            ("seg_train/seg_train/a/1.png", "seg_train/seg_train/b/1.png", "seg_test/seg_test/a/1.png"),
            ("seg_test", "seg_train"),
        ),
        (("Training/a/1.png", "Validate/a/1.png"), ("Training", "Validate")),
        (("train/1.png", "test/1.png", "annotations/x.json"), ("annotations", "test", "train")),
        (("data/train/a/1.png", "data/val/a/1.png"), ("train", "val")),
        (("dog/1.png", "test_tube/1.png"), ("train",)),
        (("train/1.png", "bus/1.png"), ("train",)),
        (("training_shoes/1.png", "walking_shoes/1.png"), ("train",)),
    ],
)
def test_split_folders_are_recognized_by_their_names(
    tmp_path: Path, paths: tuple[str, ...], splits: tuple[str, ...]
) -> None:
    source = image_folder(fill(tmp_path, *paths))
    assert source.names() == splits
    if len(splits) > 1 and "annotations" not in splits:
        assert all(set(source.read(name, labeled=True).class_names) <= {"a", "b"} for name in splits)


def test_flat_folders_whose_names_look_like_splits_are_a_question(tmp_path: Path) -> None:
    root = fill(tmp_path, "train2017/1.png", "val2017/1.png")
    with pytest.raises(
        UserError, match=r"'train2017', 'val2017' .*look like splits.*data\.train_split=train2017.*data\.kind=class_fol"
    ):
        image_folder(root)
    assert image_folder(root, declared=["train2017"]).names() == ("train2017", "val2017")
    classes = FolderSource(root, decoder=ImageDecoder(), kind="class_folders").read("train", labeled=True)
    assert classes.class_names == ("train2017", "val2017")


def test_folders_and_files_are_left_out_by_name(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "a/1_mask.png", "b/1.png", "rejected/1.png")
    source = FolderSource(root, decoder=ImageDecoder(), left_out=["rejected", "*_mask.png"])
    assert source.read("train", labeled=True).file_names() == ["a/1.png", "b/1.png"]


def test_class_names_are_compared_in_one_form_of_unicode(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    split = image_folder(fill(tmp_path, f"{composed}/1.png", f"{decomposed}/2.png", "x/1.png")).read(
        "train", labeled=True
    )
    assert split.class_names == (composed, "x") and split.labels.tolist() == [0, 0, 1]


def test_a_name_that_is_no_utf8_can_be_read_and_printed(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    Image.new("RGB", (4, 3)).save(os.fsdecode(os.path.join(folder, b"\xe9.png")))
    split = image_folder(fill(tmp_path, "x/1.png")).read("train", labeled=True)
    json.dumps(split.class_names).encode()
    assert split.class_names == ("caf\\xe9", "x") and split.name(0).encode().endswith(b"caf\\xe9/\\xe9.png")
    assert split.image(0).shape == (3, 4, 3) and len(split.fingerprint) == 32


def test_a_closed_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scan = fill(tmp_path, "a/1.png", "b/1.png", "lost+found/x.png"), os.scandir

    def closed(path: Path) -> object:
        if Path(path).name in ("b", "lost+found"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match=r"/b cannot be read \(Permission denied\)\. .*data\.leave_out=\[b\]"):
        image_folder(root).read("train", labeled=True)


def test_non_ascii_names_are_preserved(tmp_path: Path) -> None:
    split = image_folder(fill(tmp_path, "käse/ø.png", "猫/1.png")).read("train", labeled=True)
    assert split.class_names == ("käse", "猫") and split.file_names() == ["käse/ø.png", "猫/1.png"]
    assert split.image(1)[0, 0, 0] == 1


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    split = image_folder(fill(tmp_path, "1.png", "2.png", "more/3.png")).read("train", labeled=False)
    assert len(split) == 3 and split.labels is None and split.class_names == ()


def test_images_outside_of_class_folders_are_rejected_if_labels_are_required(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"contains 1 images outside of class folders: 'x\.png'\. Labels are required"):
        image_folder(fill(tmp_path, "a/1.png", "b/1.png", "x.png")).read("train", labeled=True)


@pytest.mark.parametrize("paths", [(), ("a/", "b/")])
def test_folder_without_images_is_rejected(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(
        UserError, match=r"contains no images \(extensions \.jpg, .*Set it to a folder of class folders"
    ):
        image_folder(fill(tmp_path, *paths)).read("train", labeled=False)


def test_missing_file_is_reported_by_name(tmp_path: Path) -> None:
    split = image_folder(fill(tmp_path, "a/1.png", "b/1.png")).read("train", labeled=True)
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(UserError, match=r"a/1\.png: cannot be read \(No such file or directory\)"):
        split.image(0)


def test_fingerprint_depends_on_content_not_location(tmp_path: Path) -> None:
    roots = [fill(tmp_path / name, "a/1.png", "b/1.png") for name in ("one", "two", "three")]
    Image.new("RGB", (4, 3), (9, 9, 9)).save(roots[2] / "b" / "1.png")
    fingerprints = [image_folder(root).read("train", labeled=True).fingerprint for root in roots]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
