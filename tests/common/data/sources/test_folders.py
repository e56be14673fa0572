"""Image folders: class folders, split folders, and everything that is wrong with them."""

from pathlib import Path

import pytest
from PIL import Image

from common.data.sources.folders import FolderSource
from common.errors import UserError


def fill(root: Path, *paths: str) -> Path:
    """Write small images at the paths below root; a path that ends in / becomes an empty folder."""
    for number, path in enumerate(paths):
        file = root / path
        if path.endswith("/"):
            file.mkdir(parents=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 0, 0)).save(file, "PNG")
    return root


def test_class_folders_are_one_training_split_in_sorted_order(tmp_path: Path) -> None:
    source = FolderSource(fill(tmp_path, "dog/b.png", "cat/2.JPG", "cat/1.jpeg"))
    split = source.read("train", labelled=True)
    assert source.names() == ("train",)
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [0, 0, 1]
    assert [split.file_name(index) for index in range(3)] == ["cat/1.jpeg", "cat/2.JPG", "dog/b.png"]
    assert split.name(2) == str(tmp_path / "dog" / "b.png")
    assert split.image(2).shape == (3, 3, 4) and split.image(0)[0, 0, 0] == 2


def test_split_folders_hold_class_folders(tmp_path: Path) -> None:
    source = FolderSource(
        fill(tmp_path, "train/a/1.png", "train/b/1.png", "val/a/1.png", "test/b/1.png", "test/b/2.png")
    )
    assert source.names() == ("test", "train", "val")
    assert [len(source.read(name, labelled=True)) for name in source.names()] == [2, 2, 1]
    assert source.read("test", labelled=True).class_names == ("b",)


def test_a_class_called_train_is_a_class(tmp_path: Path) -> None:
    split = FolderSource(fill(tmp_path, "bus/1.png", "train/1.png", "tram/1.png")).read("train", labelled=True)
    assert split.class_names == ("bus", "train", "tram")


def test_declared_splits_make_every_folder_a_split(tmp_path: Path) -> None:
    source = FolderSource(fill(tmp_path, "photos/a/1.png", "photos/b/1.png", "sketches/a/1.png"), declared=["photos"])
    assert source.names() == ("photos", "sketches")


def test_nested_folders_hidden_names_and_other_files(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/x/y/1.png", "a/2.png", "b/1.png", "b/.hidden.png", ".cache/1.png")
    (root / "a" / "notes.txt").write_text("no image")
    (root / "labels.csv").write_text("no image")
    split = FolderSource(root).read("train", labelled=True)
    assert [split.file_name(index) for index in range(len(split))] == ["a/2.png", "a/x/y/1.png", "b/1.png"]


def test_a_link_to_a_folder_above_does_not_go_round_for_ever(tmp_path: Path) -> None:
    root = fill(tmp_path, "a/1.png", "b/1.png")
    (root / "a" / "up").symlink_to(root / "a")
    (root / "b" / "other").symlink_to(root / "a")
    split = FolderSource(root).read("train", labelled=True)
    assert [split.file_name(index) for index in range(len(split))] == ["a/1.png", "b/1.png", "b/other/1.png"]


def test_names_beyond_ascii_survive(tmp_path: Path) -> None:
    split = FolderSource(fill(tmp_path, "käse/ø.png", "猫/1.png")).read("train", labelled=True)
    assert split.class_names == ("käse", "猫") and split.file_name(0) == "käse/ø.png"
    assert split.image(1)[0, 0, 0] == 1


def test_images_without_classes_have_no_labels(tmp_path: Path) -> None:
    split = FolderSource(fill(tmp_path, "1.png", "2.png", "more/3.png")).read("train", labelled=False)
    assert len(split) == 3 and split.labels is None and split.class_names == ()


def test_images_outside_of_class_folders_are_refused_when_labels_count(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 1 images outside of class folders: 'x\.png'\. Labels are needed"):
        FolderSource(fill(tmp_path, "a/1.png", "b/1.png", "x.png")).read("train", labelled=True)


@pytest.mark.parametrize("paths", [(), ("a/", "b/")])
def test_a_folder_without_images_is_refused(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"holds no images \(files named \.jpg, .*Name a folder of class folders"):
        FolderSource(fill(tmp_path, *paths)).read("train", labelled=False)


def test_a_file_that_has_gone_is_named(tmp_path: Path) -> None:
    split = FolderSource(fill(tmp_path, "a/1.png", "b/1.png")).read("train", labelled=True)
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(UserError, match=r"a/1\.png: cannot be read \(No such file or directory\)"):
        split.image(0)


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    places = [fill(tmp_path / name, "a/1.png", "b/1.png") for name in ("one", "two", "three")]
    Image.new("RGB", (4, 3), (9, 9, 9)).save(places[2] / "b" / "1.png")
    prints = [FolderSource(place).read("train", labelled=True).fingerprint for place in places]
    assert prints[0] == prints[1] != prints[2]
