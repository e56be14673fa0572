"""Image folders: class folders, split folders, and invalid folders."""

from collections.abc import Sequence
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
    assert split.file_names() == ["a/1.png", "b/1.png", "b/other/1.png"]


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
