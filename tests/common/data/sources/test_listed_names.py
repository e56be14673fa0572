"""Names in lists that do not say where the images are."""

from pathlib import Path

import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.open_splits import open_splits
from common.data.sources.open_source import open_source
from common.errors import UserError


def fill(root: Path, *paths: str) -> Path:
    """Write small images at `paths` relative to `root`."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number, 0, 0)).save(root / path, "PNG")
    return root


def labels(root: Path, **keys: object) -> dict[str, str]:
    """Return the class of each training image, by its path, as both stages read it."""
    source = open_source(DataConfig(source=str(root), **keys), ImageDecoder())
    read = [source.read("train", labeled=labeled) for labeled in (True, False)]
    found = [dict(zip(part.file_names(), [part.class_names[k] for k in part.labels], strict=True)) for part in read]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("name", ["{}", "{}.PNG", "images/{}.jpg", "/elsewhere/{}.png", "C:\\data\\{}.png", " {}.png"])
def test_names_without_extension_or_with_folders_of_another_machine(tmp_path: Path, name: str) -> None:
    root = fill(tmp_path, "0.png", "1.png", "2.10.png", "3.png")
    rows = [f"{name.format(stem)},{kind}" for stem, kind in (("0", "a"), ("1", "b"), ("2.10", "a"), ("3", "b"))]
    (root / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    assert labels(root) == {"0.png": "a", "1.png": "b", "2.10.png": "a", "3.png": "b"}


def test_a_list_above_the_splits_names_the_images_of_the_split_it_is_called_after(tmp_path: Path) -> None:
    root = fill(tmp_path, *(f"{split}/{number}.png" for split in ("train", "test") for number in range(4)))
    (root / "train.csv").write_text("id,label\n0,a\n1,b\n2,a\n3,b\n")
    keys = {"metadata_file": "train.csv", "image_column": "id"}
    assert labels(root, **keys) == {"0.png": "a", "1.png": "b", "2.png": "a", "3.png": "b"}


def test_images_of_a_split_that_no_list_names_have_no_labels_in_both_stages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = fill(tmp_path, *(f"train/{number}.png" for number in range(10)), "test/a.png", "test/b.png")
    (root / "train" / "metadata.csv").write_text("file_name,label\n" + "".join(f"{k}.png,{k % 2}\n" for k in range(10)))
    parts = [open_splits(DataConfig(source=str(root), workers=0), labeled=labeled) for labeled in (True, False)]
    assert parts[0].test.file_names() == parts[1].test.file_names()
    assert all(name[0].isdigit() for name in parts[0].test.file_names()), "held out from the training images"
    assert "none of the 2 images in" in caplog.text


def test_a_list_that_names_no_training_image_is_an_error_that_says_so(tmp_path: Path) -> None:
    root = fill(tmp_path, "0.png", "1.png")
    (root / "metadata.csv").write_text("file_name,label\n../other/x.png,a\n../other/y.png,b\n")
    with pytest.raises(UserError, match=r"none of the 2 images .*'0\.png'.*metadata\.csv.*data\.image_column"):
        labels(root)


def test_a_name_that_fits_several_images_is_not_guessed(tmp_path: Path) -> None:
    root = fill(tmp_path, "p/0.png", "q/0.png", "q/1.png")
    (root / "metadata.csv").write_text("file_name,label\n0,a\n1,b\n")
    with pytest.raises(UserError, match="do not exist there: '0'"):
        labels(root, kind="metadata")


@pytest.mark.parametrize("name", ["labels.csv", "~/images/labels.csv"])
def test_a_list_that_the_recipe_names_is_read_beside_class_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "images").mkdir()
    tmp_path = tmp_path / "images"
    root = fill(tmp_path, "patient1/0.png", "patient1/1.png", "patient2/2.png", "patient2/3.png")
    rows = [f"patient{1 + k // 2}/{k}.png,{'ab'[k % 2]}" for k in range(4)]
    (root / "labels.csv").write_text("\n".join(["file_name,label", *rows]))
    found = labels(root, metadata_file=name)
    assert sorted(found.values()) == ["a", "a", "b", "b"] and set(found) == {
        f"patient{1 + k // 2}/{k}.png" for k in range(4)
    }


def test_a_list_above_an_only_folder_of_images_is_found(tmp_path: Path) -> None:
    root = fill(tmp_path, "images/p/0.png", "images/p/1.png", "images/q/2.png", "images/q/3.png")
    (root / "metadata.csv").write_text(
        "file_name,label\n" + "".join(f"images/{'pq'[k // 2]}/{k}.png,{k % 2}\n" for k in range(4))
    )
    assert set(labels(root, kind="metadata").values()) == {"0", "1"}
    with pytest.raises(UserError, match="contradict each other"):
        labels(root)
