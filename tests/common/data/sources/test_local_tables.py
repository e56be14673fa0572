"""Local tables: read where they lie with the same result as from the cache, which is described before it is written."""

import errno
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.data.images.shard_numbers import shard_numbers
from common.data.sources import local_tables
from common.data.sources.table_files import find_table_files, open_saved_dataset, open_table_files
from common.data.sources.tables import TableOptions, TableSource
from common.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the cache of `datasets` inside the folder of the test; return it."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with tables of 7 training images in two files, and 3 test images."""
    (tmp_path / "data").mkdir()
    features = Features({"id": datasets.Value("int64"), "image": ImageFeature(), "kind": ClassLabel(names=["a", "b"])})
    for name, numbers in (("train-0", range(4)), ("train-1", range(4, 7)), ("test", range(3))):
        images = [Image.fromarray(np.full((2, 3, 3), number, np.uint8)) for number in numbers]
        columns = {"id": list(numbers), "image": images, "kind": [number % 2 for number in numbers]}
        table = Dataset.from_dict(columns, features=features)
        table.to_parquet(tmp_path / "data" / f"{name}.parquet", batch_size=2)  # several row groups
    return tmp_path / "data"


OPTIONS = TableOptions(image_column=None, label_column=None, decoder=ImageDecoder(), memory_bytes=0)


def open_tables(folder: Path, memory_bytes: int) -> TableSource:
    options = OPTIONS._replace(memory_bytes=memory_bytes)
    return open_table_files(find_table_files(folder), folder, options, title="the tables", declared=())


def contents(source: TableSource) -> dict[str, Any]:
    """Return everything that a run sees of a source."""
    found = {}
    for name in sorted(source.names()):
        split = source.read(name, labeled=True)
        pixels = [split.image(index).tolist() for index in range(len(split))]
        labels = split.labels.tolist() if split.labels is not None else None
        found[name] = (split.fingerprint, split.image_ids(), split.file_names(), split.class_names, labels, pixels)
    return found


def test_parquet_files_give_the_same_from_memory_as_from_the_cache(folder: Path, cache: Path) -> None:
    in_memory = contents(open_tables(folder, 10**6))
    assert not cache.exists()
    assert contents(open_tables(folder, 0)) == in_memory and cache.exists()
    assert [label for label in in_memory["train"][4]] == [0, 1, 0, 1, 0, 1, 0]


def test_arrow_files_are_mapped_where_they_lie(folder: Path, cache: Path, tmp_path: Path) -> None:
    expected = contents(open_tables(folder, 0))
    shutil.rmtree(cache)
    (tmp_path / "arrow").mkdir()
    for path in folder.iterdir():
        table = pq.read_table(path)
        with (
            pa.OSFile(str(tmp_path / "arrow" / f"{path.stem}.arrow"), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table)
    found = contents(open_tables(tmp_path / "arrow", 0))
    assert {name: split[:1] + split[2:] for name, split in found.items()} == {
        name: split[:1] + split[2:] for name, split in expected.items()
    }
    assert not cache.exists()


def test_columns_without_features_and_of_other_schemas_give_the_same(tmp_path: Path) -> None:
    png = Path(tmp_path / "x.png")
    Image.new("RGB", (3, 2)).save(png)
    for name, kind in (("plain", pa.int64()), ("mixed", pa.string())):
        for number, type_ in enumerate((pa.int64(), kind)):
            (tmp_path / name).mkdir(exist_ok=True)
            labels = pa.array([0, 1, 1], pa.int64()).cast(type_)
            table = pa.table({"image": [png.read_bytes()] * 3, "label": labels})
            pq.write_table(table, tmp_path / name / f"{number}.parquet")
    assert contents(open_tables(tmp_path / "plain", 10**6)) == contents(open_tables(tmp_path / "plain", 0))
    outcomes = []
    for limit in (0, 10**6):
        try:
            outcomes.append(str(contents(open_tables(tmp_path / "mixed", limit))))
        except UserError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("memory_bytes", [2**30, 0], ids=["memory", "cache"])
def test_columns_of_types_that_are_not_read_do_not_matter(
    folder: Path, memory_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """DuckDB, Spark and polars write maps and UUIDs."""
    expected = contents(open_tables(folder, memory_bytes))
    for path in folder.iterdir():
        table = pq.read_table(path)
        pairs = pa.array([[("a", 1)]] * len(table), pa.map_(pa.string(), pa.int64()))
        pq.write_table(
            table.append_column("tags", pairs).append_column("key", pa.array([b"0" * 16] * len(table), pa.uuid())), path
        )
    with caplog.at_level(logging.INFO):
        found = contents(open_tables(folder, memory_bytes))
    assert found == expected
    assert "not read of the tables, for their types: 'tags' (map<" in caplog.text and "'key' (ext" in caplog.text


def test_cache_is_described_before_it_is_written(folder: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_tables(folder, 0)
        assert f"unpacked once into the cache {cache}" in caplog.text and "0.1 MB, of " in caplog.text
        caplog.clear()
        open_tables(folder, 0)
    assert not caplog.text  # it exists


def test_cache_without_room_is_refused_before_it_is_written(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_tables.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(
        UserError, match=r"0\.1 MB free; nothing was written\. Set HF_DATASETS_CACHE .*cache_megabytes=1 to read"
    ):
        open_tables(folder, 0)
    assert not [path for path in cache.rglob("*") if path.suffix == ".arrow"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_cache_that_cannot_be_written_is_one_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("An error occurred while generating the dataset") from error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError) as caught:
        open_tables(folder, 0)
    message = str(caught.value)
    assert os.strerror(number) in message and "Set HF_HOME or HF_DATASETS_CACHE to a folder with room" in message


def test_large_tables_are_unpacked_on_the_node(folder: Path, cache: Path, tmp_path: Path) -> None:
    """With data.stage_to the copy lies there, not in the cache, and holds the same."""
    options = TableOptions(None, None, ImageDecoder(), memory_bytes=0, stage_to=tmp_path / "node")
    staged = open_table_files(find_table_files(folder), folder, options, title="the tables", declared=())
    assert list((tmp_path / "node").rglob("*.arrow")) and not list(cache.rglob("*.arrow"))
    assert contents(staged) == contents(open_tables(folder, 10**9))


def test_the_files_of_a_table_are_its_shards(folder: Path) -> None:
    """Of selected rows, too."""
    train = open_tables(folder, 10**9).read("train", labeled=True)
    assert shard_numbers(train.images).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert shard_numbers(train.select([6, 0, 4]).images).tolist() == [1, 0, 1]


def test_signs_in_a_path_that_the_library_does_not_take_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAME", "other")
    for sign, name in (("::", "a::b"), ("$", "$NAME")):
        other = folder.rename(tmp_path / name)
        assert contents(open_tables(other, 2**30))  # from memory
        with pytest.raises(UserError, match=rf"'{re.escape(sign)}' for a part of a name.*data\.cache_megabytes=1 "):
            open_tables(other, 0)
        folder = other
    Dataset.from_dict({"a": [1]}).save_to_disk(tmp_path / "saved")
    with pytest.raises(UserError, match="'::' for a part of a name"):
        open_saved_dataset((tmp_path / "saved").rename(tmp_path / "c::d"), OPTIONS)
