"""Folders with lists of labels: where the lists lie, what they say, and what the folders say."""

import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.open_splits import open_splits
from common.data.sources.open_source import open_source
from common.data.sources.source import Source
from common.errors import UserError


def fill(root: Path, *paths: str) -> Path:
    """Write small images at `paths` relative to `root`."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3), (number, 0, 0)).save(root / path, "PNG")
    return root


def source(root: Path, **keys: object) -> Source:
    """Return the source of a folder."""
    return open_source(DataConfig(source=str(root), **keys), ImageDecoder())


def labels(root: Path, split: str = "train", **keys: object) -> dict[str, str]:
    """Return the class of each image, by its path, as both stages read it."""
    opened = source(root, **keys)
    read = [opened.read(split, labeled=labeled) for labeled in (True, False)]
    found = [
        dict(zip(part.file_names(), [part.class_names[label] for label in part.labels], strict=True)) for part in read
    ]
    assert found[0] == found[1], "both stages read the same"
    return found[0]


FLAT = ("0.png", "1.png", "2.png", "3.png")
EXPECTED = {"0.png": "a", "1.png": "b", "2.png": "a", "3.png": "b"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", "file_name,kind\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n"),
        ("metadata.csv", "\ufefffile_name,kind\r\n0.png,a\r\n1.png,b\r\n2.png,a\r\n3.png,b\r\n"),
        ("metadata.csv", 'kind;file_name\n"a";"0.png"\na;2.png\nb;1.png\nb;./3.png'),
        ("metadata.jsonl", "\n".join(json.dumps({"file_name": name, "kind": kind}) for name, kind in EXPECTED.items())),
    ],
    ids=["csv", "byte-order mark", "semicolons", "jsonl"],
)
def test_lists_beside_flat_images_give_the_labels(tmp_path: Path, name: str, content: str) -> None:
    (fill(tmp_path, *FLAT) / name).write_text(content, encoding="utf-8", newline="")
    assert labels(tmp_path) == EXPECTED


def test_a_parquet_list_and_absolute_paths(tmp_path: Path) -> None:
    root = fill(tmp_path, *FLAT)
    table = {"file_name": [str(root / name) for name in EXPECTED], "kind": list(EXPECTED.values())}
    pyarrow.parquet.write_table(pyarrow.table(table), root / "metadata.parquet")
    assert labels(root) == EXPECTED


@pytest.mark.parametrize("words", [("None", "mild"), ("NA", "EU"), ("null", "nan"), ("n/a", "yes"), ("007", "008")])
def test_words_are_classes_as_they_stand(tmp_path: Path, words: tuple[str, str]) -> None:
    lines = [f"{name},{words[kind == 'b']}" for name, kind in EXPECTED.items()]
    (fill(tmp_path, *FLAT) / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    assert labels(tmp_path) == {name: words[kind == "b"] for name, kind in EXPECTED.items()}


def test_whole_numbers_are_sorted_as_numbers_however_they_are_written(tmp_path: Path) -> None:
    (fill(tmp_path, *FLAT) / "metadata.csv").write_text("file_name,label\n0.png,10.0\n1.png,9\n2.png,10\n3.png,9.0\n")
    split = source(tmp_path).read("train", labeled=True)
    assert split.class_names == ("9", "10") and split.labels.tolist() == [1, 0, 1, 0]


def test_a_missing_label_is_named_and_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (fill(tmp_path, *FLAT) / "metadata.csv").write_text("file_name,label\n0.png,1.0\n1.png,0.0\n2.png,\n3.png,0.0\n")
    with pytest.raises(UserError, match=r"1 of 4 images .* have no label in the column 'label'; the first is .*2\.png"):
        source(tmp_path).read("train", labeled=True)
    assert source(tmp_path).read("train", labeled=False).labels is None
    assert "hold-outs differ" in caplog.text


CLASSES = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
FOLDERS = {path: path[:3] for path in CLASSES}


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("metadata.csv", "file_name,score\ncat/0.png,0.5\ncat/1.png,0.25\ndog/0.png,0.5\ndog/1.png,0.25\n"),
        ("cat/metadata.csv", "file_name,photographer\n0.png,a\n1.png,b\n"),
        ("metadata.csv", "image_id,dx,age\n00,mel,40\n01,nv,50\n"),
        ("metadata.csv", "file_name,label\ncat/0.png,0\ncat/1.png,0\ndog/0.png,1\ndog/1.png,1\n"),
    ],
    ids=["scores", "one class alone", "another program's", "the same classes"],
)
def test_class_folders_stay_what_they_are_beside_a_list(tmp_path: Path, place: str, content: str) -> None:
    (fill(tmp_path, *CLASSES) / place).write_text(content)
    assert labels(tmp_path) == FOLDERS


@pytest.mark.parametrize("column", ["label", "species", "width"])
def test_a_list_that_contradicts_the_class_folders_is_a_question(tmp_path: Path, column: str) -> None:
    content = f"file_name,{column}\ncat/0.png,x\ncat/1.png,y\ndog/0.png,x\ndog/1.png,y\n"
    (fill(tmp_path, *CLASSES) / "metadata.csv").write_text(content)
    with pytest.raises(
        UserError, match=rf"'{column}' .* contradict .*data\.label_column={column}.*data\.kind=class_folders"
    ):
        source(tmp_path)
    assert labels(tmp_path, kind="class_folders") == FOLDERS
    assert set(labels(tmp_path, label_column=column).values()) == {"x", "y"}
    assert set(labels(tmp_path, kind="metadata").values()) == {"x", "y"}


@pytest.mark.parametrize("above", ["", "data"])
@pytest.mark.parametrize("one_file", [True, False])
def test_lists_of_splits_lie_in_them_or_above_them(tmp_path: Path, above: str, *, one_file: bool) -> None:
    paths = [f"{split}/{name}" for split in ("train", "test") for name in FLAT]
    root = fill(tmp_path / above, *paths)
    for folder, listed in ((root, paths),) if one_file else ((root / "train", FLAT), (root / "test", FLAT)):
        lines = [f"{path},{EXPECTED[path.rpartition('/')[2]]}" for path in listed]
        (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    opened = source(tmp_path)
    assert set(opened.names()) == {"train", "test"}
    assert labels(tmp_path, "train") == labels(tmp_path, "test") == EXPECTED
    parts = [open_splits(DataConfig(source=str(tmp_path), workers=0), labeled=labeled) for labeled in (True, False)]
    assert [len(part.test) for part in parts] == [4, 4], "no test image in the training of either stage"


def test_images_that_are_not_listed_are_left_aside_in_both_stages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (fill(tmp_path, *FLAT, "4.png") / "metadata.csv").write_text("file_name,label\n0.png,a\n1.png,b\n")
    assert labels(tmp_path) == {"0.png": "a", "1.png": "b"}
    assert "3 images that are not in the metadata" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,label\n0.png,a\n9.png,b\n", r"1 of the images that the metadata .* do not exist there: '9\.png'"),
        ("file_name,label\n0.png,a\n./0.png,b\n", r"lists '\./0\.png' a second time"),
        ('file_name,label\n"0.png,a', r"metadata\.csv cannot be read"),
    ],
)
def test_a_list_that_does_not_fit_is_named(tmp_path: Path, content: str, message: str) -> None:
    (fill(tmp_path, *FLAT) / "metadata.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        source(tmp_path).read("train", labeled=True)


def test_a_list_of_any_name_beside_the_images_is_read_by_its_key(tmp_path: Path) -> None:
    root = fill(tmp_path, *(f"images/{name}" for name in FLAT))
    (root / "train.csv").write_text(
        "id,breed\n" + "".join(f"images/{name},{kind}\n" for name, kind in EXPECTED.items())
    )
    keys: Mapping[str, object] = {"metadata_file": "train.csv", "image_column": "id"}
    assert {Path(path).name: kind for path, kind in labels(tmp_path, **keys).items()} == EXPECTED
    with pytest.raises(UserError, match=r"train\.csv has no column 'file_name'\. Set data\.image_column"):
        source(tmp_path, metadata_file="train.csv")
    with pytest.raises(UserError, match=r"data\.metadata_file = none\.csv: .* does not exist"):
        source(tmp_path, metadata_file="none.csv")


def test_flat_images_without_labels_name_the_list_beside_them(tmp_path: Path) -> None:
    (fill(tmp_path, *FLAT) / "train.csv").write_text("id,breed\n")
    with pytest.raises(UserError, match=r"If train\.csv lists their classes, set data\.metadata_file=train\.csv"):
        source(tmp_path).read("train", labeled=True)


def test_the_name_of_a_loader_is_no_data_set() -> None:
    for name in ("imagefolder", "parquet", "csv", "webdataset"):
        with pytest.raises(UserError, match=f"data.source '{name}' is the name of a loader"):
            source(Path(name))


def test_foreign_files_do_not_turn_class_folders_into_something_else(tmp_path: Path) -> None:
    for number, name in enumerate(("state.json", "list_train.txt", "00000.parquet")):
        root = fill(tmp_path / str(number), *CLASSES)
        if name.endswith("parquet"):
            pyarrow.parquet.write_table(pyarrow.table({"url": ["u"], "width": [20]}), root / name)
        else:
            (root / name).write_text("{}")
        parts = open_splits(
            DataConfig(source=str(root), workers=0, validation_fraction=0, test_fraction=0), labeled=True
        )
        assert parts.class_names == ("cat", "dog")


def test_whole_numbers_as_floats_that_contradict_the_folders_are_a_question(tmp_path: Path) -> None:
    rows = [{"file_name": path, "species": float(number // 2 == number % 2)} for number, path in enumerate(CLASSES)]
    text = "\n".join(map(json.dumps, rows)) + "\n"
    (fill(tmp_path, *CLASSES) / "metadata.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"data\.label_column=species"):
        open_splits(DataConfig(source=str(tmp_path), workers=0), labeled=True)
