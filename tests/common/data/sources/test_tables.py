"""Tables: parquet, arrow, save_to_disk and the hub give the same split, with columns found by the type of features."""

import io
import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features
from datasets import Image as ImageFeature
from PIL import Image

from common.data.sources.table_files import (
    find_table_files,
    group_by_split,
    match_table_files,
    open_described_folder,
    open_hub_dataset,
    open_saved_dataset,
    open_table_files,
)
from common.data.sources.tables import TableSource
from common.errors import UserError

FREE = {"image_column": None, "label_column": None}
NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what `datasets` writes inside the test's folder."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(value: int) -> bytes:
    """Return a tiny image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int, start: int = 0) -> dict[str, list]:
    """Return the columns of a small table."""
    numbers = range(start, start + count)
    return {
        "image": [{"bytes": png(number), "path": f"{number}.png"} for number in numbers],
        "label": [number % 2 for number in numbers],
    }


def dataset(count: int, start: int = 0) -> Dataset:
    """Return a data set with declared images and classes."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=NAMES)})
    return Dataset.from_dict(rows(count, start), features=features)


def plain_parquet(path: Path, columns: dict[str, list]) -> Path:
    """Write a parquet file without any declaration of features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def open_parquet(folder: Path, **columns: str | None) -> TableSource:
    """Open the tables in a folder."""
    return open_table_files(find_table_files(folder), folder, title="the tables", declared=(), **(FREE | columns))


def values(split: object) -> list[int]:
    """Return the red value of every image."""
    return [int(split.image(index)[0, 0, 0]) for index in range(len(split))]


def test_declared_parquet_files_become_splits(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    dataset(5).to_parquet(folder / "train-00000-of-00002.parquet")
    dataset(4, 5).to_parquet(folder / "train-00001-of-00002.parquet")
    dataset(3, 20).to_parquet(folder / "test-00000-of-00001.parquet")
    source = open_parquet(folder)
    assert sorted(source.names()) == ["test", "train"]
    train = source.read("train", labelled=True)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 1] * 4 + [0]
    assert values(train) == list(range(9)) and values(source.read("test", labelled=True)) == [20, 21, 22]
    assert train.name(6) == f"{folder / 'train-00001-of-00002.parquet'} row 1"
    assert train.file_name(6) == "6.png"


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.parquet", "train"),
        ("test-00000-of-00003-ab12.parquet", "test"),
        ("cifar10_train_01.parquet", "train"),
        ("validation/0000.parquet", "validation"),
        ("default/val/0.parquet", "val"),
        ("contest.parquet", "contest"),
        ("latest.parquet", "latest"),
        ("extra-00001-of-00002.parquet", "extra"),
        ("part_3.parquet", "part"),
        ("7.parquet", "7"),
    ],
)
def test_a_file_belongs_to_the_split_its_name_says(path: str, split: str) -> None:
    groups = group_by_split([Path("r") / path, Path("r/train.parquet")], Path("r"))
    assert Path("r") / path in groups[split]


def test_files_without_split_names_are_all_training() -> None:
    files = [Path("r/a.parquet"), Path("r/b.parquet")]
    assert group_by_split(files, Path("r")) == {"train": files}
    assert group_by_split(files, Path("r"), declared=["b"]) == {"a": files[:1], "b": files[1:]}


def test_tables_are_found_below_a_folder_unless_images_come_first(tmp_path: Path) -> None:
    for name in ("t/train/0.parquet", "t/test/0.parquet", "t/.cache/1.parquet", "t/x.arrow.lock", "i/z/later.parquet"):
        plain_parquet(tmp_path / name, rows(1))
    (tmp_path / "i" / "a").mkdir()
    (tmp_path / "i" / "a" / "1.png").write_bytes(png(1))
    assert find_table_files(tmp_path / "t") == [tmp_path / "t" / name / "0.parquet" for name in ("test", "train")]
    assert find_table_files(tmp_path / "i") == []


def test_a_pattern_chooses_tables(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        plain_parquet(tmp_path / f"{name}.parquet", rows(2))
    assert [path.name for path in match_table_files(str(tmp_path / "a*.parquet"))] == ["a1.parquet", "a2.parquet"]
    with pytest.raises(UserError, match="no file fits the pattern"):
        match_table_files(str(tmp_path / "c*.parquet"))
    (tmp_path / "a3.csv").write_text("x")
    with pytest.raises(UserError, match=r"the files are \.csv, \.parquet; they must all be of one kind"):
        match_table_files(str(tmp_path / "a*"))


def test_saved_data_sets_open_with_and_without_splits(tmp_path: Path) -> None:
    DatasetDict(train=dataset(6), test=dataset(2, 10)).save_to_disk(tmp_path / "dict")
    dataset(4).save_to_disk(tmp_path / "single")
    both = open_saved_dataset(tmp_path / "dict", **FREE)
    assert both.names() == ("train", "test") and values(both.read("test", labelled=True)) == [10, 11]
    assert both.read("test", labelled=True).name(1) == f"{tmp_path / 'dict' / 'test'} row 1"
    single = open_saved_dataset(tmp_path / "single", **FREE)
    assert single.names() == ("train",) and values(single.read("train", labelled=True)) == [0, 1, 2, 3]


def test_a_saved_selection_keeps_its_order(tmp_path: Path) -> None:
    dataset(6).select([4, 1, 3]).save_to_disk(tmp_path / "some")
    split = open_saved_dataset(tmp_path / "some", **FREE).read("train", labelled=True)
    assert values(split) == [4, 1, 3] and split.labels.tolist() == [0, 1, 1]


def test_an_arrow_file_opens(tmp_path: Path) -> None:
    dataset(4).save_to_disk(tmp_path / "saved")
    (tmp_path / "data").mkdir()
    next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / "data" / "train.arrow")
    split = open_parquet(tmp_path / "data").read("train", labelled=True)
    assert values(split) == [0, 1, 2, 3] and split.class_names == ("cat", "dog")


def test_a_folder_with_metadata_opens(tmp_path: Path) -> None:
    folder = tmp_path / "described"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(png(number))
    lines = [f"{number}.png,{'ab'[number % 2]}" for number in range(4)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,kind", *lines]))
    split = open_described_folder(folder, **FREE).read("train", labelled=True)
    assert split.class_names == ("a", "b") and sorted(values(split)) == [0, 1, 2, 3]


def test_the_hub_is_asked_for_the_revision_and_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []

    def load_dataset(path: str, **options: object) -> DatasetDict:
        asked.append((path, options))
        return DatasetDict(train=dataset(4), validation=dataset(2, 4))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = open_hub_dataset("owner/images", config_name="small", revision="v1", **FREE)
    assert asked == [("owner/images", {"name": "small", "revision": "v1"})]
    assert source.names() == ("train", "validation")
    assert source.read("validation", labelled=True).name(1) == "owner/images validation row 1"
    assert source.title == "the hub data set owner/images at revision v1"


def test_what_the_hub_refuses_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: object) -> DatasetDict:
        raise ConnectionError("Couldn't reach 'owner/images' on the Hub.\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError) as caught:
        open_hub_dataset("owner/images", config_name=None, revision=None, **FREE)
    assert str(caught.value).startswith(
        "data.source: the hub data set owner/images cannot be opened (ConnectionError: Couldn't reach 'owner/images' on"
        " the Hub). There is no folder or file 'owner/images' on this machine either."
    )


def test_rows_may_point_to_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    columns = {"image": [{"bytes": None, "path": f"{name}.png"} for name in "abc"], "label": [0, 1, 0]}
    schema = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    folder.mkdir()
    pq.write_table(
        pa.table({"image": pa.array(columns["image"], schema), "label": columns["label"]}), folder / "x.parquet"
    )
    for number, name in enumerate("ab"):
        (folder / f"{name}.png").write_bytes(png(number))
    split = open_parquet(folder).read("train", labelled=True)
    assert [int(split.image(index)[0, 0, 0]) for index in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match=r"x\.parquet row 2: the row holds no bytes, only the path c\.png, .* Embed"):
        split.image(2)


def test_broken_and_missing_images_are_named_by_their_row(tmp_path: Path) -> None:
    images = [{"bytes": png(1)[:40], "path": "a"}, {"bytes": b"", "path": "b"}, None]
    path = plain_parquet(tmp_path / "data" / "x.parquet", {"image": images, "label": [0, 1, 0]})
    split = open_parquet(tmp_path / "data").read("train", labelled=True)
    for index, reason in enumerate(("truncated or damaged", "is empty", "holds no image")):
        with pytest.raises(UserError) as caught:
            split.image(index)
        assert str(caught.value).startswith(f"{path} row {index}: ") and reason in str(caught.value)


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = plain_parquet(tmp_path / "data" / "x.parquet", rows(4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"data\.source: .*x\.parquet is damaged or no \.parquet file \("):
        open_parquet(tmp_path / "data")


def test_a_worker_gets_a_table_by_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    plain_parquet(folder / "x.parquet", rows(4) | {"padding": [np.random.default_rng(0).bytes(100_000)] * 4})
    split = open_parquet(folder, image_column="image").read("train", labelled=True)
    sent = pickle.dumps(split)
    assert values(pickle.loads(sent)) == [0, 1, 2, 3]
    assert len(sent) < 50_000


def test_the_same_images_have_the_same_fingerprint_in_every_kind_of_table(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    dataset(5).to_parquet(folder / "x.parquet")
    dataset(5).save_to_disk(tmp_path / "saved")
    sources = (open_parquet(folder), open_saved_dataset(tmp_path / "saved", **FREE))
    assert len({source.read("train", labelled=True).fingerprint for source in sources}) == 1
