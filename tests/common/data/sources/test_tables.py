"""Tables: parquet, arrow, `save_to_disk` and the Hub give the same split; columns are detected by feature type."""

import io
import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, load_from_disk
from datasets import Image as ImageFeature
from huggingface_hub import constants
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.data.sources import hub_tables
from common.data.sources.hub_tables import open_hub_dataset
from common.data.sources.table_files import (
    find_table_files,
    group_by_split,
    match_files,
    open_saved_dataset,
    open_table_files,
)
from common.data.sources.tables import TableOptions, TableSource
from common.errors import UserError

OPTIONS = TableOptions(image_column=None, label_column=None, decoder=ImageDecoder(), memory_bytes=10**9)
NAMES = ["cat", "dog"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` inside the folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(value: int) -> bytes:
    """Return a tiny encoded image of one color."""
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
    """Return a dataset with declared image and class features."""
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=NAMES)})
    return Dataset.from_dict(rows(count, start), features=features)


def plain_parquet(path: Path, columns: dict[str, list]) -> Path:
    """Write a parquet file without declared features."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def open_parquet(folder: Path, **options: object) -> TableSource:
    """Open the tables in a folder."""
    changed = OPTIONS._replace(**options)
    return open_table_files(find_table_files(folder), folder, changed, title="the tables", declared=())


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
    train = source.read("train", labeled=True)
    assert train.class_names == ("cat", "dog") and train.labels.tolist() == [0, 1] * 4 + [0]
    assert values(train) == list(range(9)) and values(source.read("test", labeled=True)) == [20, 21, 22]
    assert train.name(6) == f"{folder / 'train-00001-of-00002.parquet'} row 1"
    assert train.file_names() == [f"{number}.png" for number in range(9)]


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
def test_split_of_a_file_follows_from_its_path(path: str, split: str) -> None:
    groups = group_by_split([Path("r") / path, Path("r/train.parquet")], Path("r"))
    assert Path("r") / path in groups[split]


def test_files_without_split_names_are_training_files() -> None:
    files = [Path("r/a.parquet"), Path("r/b.parquet")]
    assert group_by_split(files, Path("r")) == {"train": files}
    assert group_by_split(files, Path("r"), declared=["b"]) == {"a": files[:1], "b": files[1:]}


def test_tables_are_found_in_subfolders_unless_an_image_comes_first(tmp_path: Path) -> None:
    for name in ("t/train/0.parquet", "t/test/0.parquet", "t/.cache/1.parquet", "t/x.arrow.lock", "i/z/later.parquet"):
        plain_parquet(tmp_path / name, rows(1))
    (tmp_path / "i" / "a").mkdir()
    (tmp_path / "i" / "a" / "1.png").write_bytes(png(1))
    assert find_table_files(tmp_path / "t") == [tmp_path / "t" / name / "0.parquet" for name in ("test", "train")]
    assert find_table_files(tmp_path / "i") == []


def test_what_datasets_derived_from_tables_is_not_read_with_them(tmp_path: Path) -> None:
    table = dataset(6)
    table.save_to_disk(tmp_path)
    loaded = load_from_disk(str(tmp_path))
    loaded.map(lambda row: {"twice": 2 * row["label"]})
    loaded.filter(lambda row: row["label"] == 0, num_proc=2)
    assert len(list(tmp_path.glob("cache-*.arrow"))) == 3
    for found in (find_table_files(tmp_path), match_files(str(tmp_path / "*.arrow"))):
        assert [path.name for path in found] == ["data-00000-of-00001.arrow"]
    plain_parquet(tmp_path / "other" / "train.parquet", rows(2))
    (tmp_path / "data-00000-of-00001.arrow").unlink()
    assert [path.name for path in find_table_files(tmp_path)] == ["train.parquet"]
    (tmp_path / "other" / "train.parquet").unlink()
    assert len(find_table_files(tmp_path)) == 3, "there is nothing else"


def test_glob_pattern_selects_tables(tmp_path: Path) -> None:
    for name in ("a1", "a2", "b1"):
        plain_parquet(tmp_path / f"{name}.parquet", rows(2))
    assert [path.name for path in match_files(str(tmp_path / "a*.parquet"))] == ["a1.parquet", "a2.parquet"]
    with pytest.raises(UserError, match="no file matches the pattern"):
        match_files(str(tmp_path / "c*.parquet"))
    (tmp_path / "a3.csv").write_text("x")
    with pytest.raises(UserError, match=r"the files have the extensions \.csv, \.parquet; all must be"):
        match_files(str(tmp_path / "a*"))


def test_saved_datasets_open_with_and_without_splits(tmp_path: Path) -> None:
    DatasetDict(train=dataset(6), test=dataset(2, 10)).save_to_disk(tmp_path / "dict")
    dataset(4).save_to_disk(tmp_path / "single")
    both = open_saved_dataset(tmp_path / "dict", OPTIONS)
    assert both.names() == ("train", "test") and values(both.read("test", labeled=True)) == [10, 11]
    assert both.read("test", labeled=True).name(1) == f"{tmp_path / 'dict' / 'test'} row 1"
    single = open_saved_dataset(tmp_path / "single", OPTIONS)
    assert single.names() == ("train",) and values(single.read("train", labeled=True)) == [0, 1, 2, 3]


def test_saved_selection_keeps_its_order(tmp_path: Path) -> None:
    dataset(6).select([4, 1, 3]).save_to_disk(tmp_path / "some")
    split = open_saved_dataset(tmp_path / "some", OPTIONS).read("train", labeled=True)
    assert values(split) == [4, 1, 3] and split.labels.tolist() == [0, 1, 1]


def test_arrow_file_opens(tmp_path: Path) -> None:
    dataset(4).save_to_disk(tmp_path / "saved")
    (tmp_path / "data").mkdir()
    next((tmp_path / "saved").glob("*.arrow")).rename(tmp_path / "data" / "train.arrow")
    split = open_parquet(tmp_path / "data").read("train", labeled=True)
    assert values(split) == [0, 1, 2, 3] and split.class_names == ("cat", "dog")


@pytest.fixture
def hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_tables, "why_unreachable", lambda url: None)


@pytest.mark.usefixtures("hub_answers")
def test_revision_and_configuration_are_passed_to_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple] = []

    def load_dataset(path: str, **options: object) -> DatasetDict:
        calls.append((path, options))
        return DatasetDict(train=dataset(4), validation=dataset(2, 4))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = open_hub_dataset("owner/images", OPTIONS, config_name="small", revision="v1")
    assert calls == [("owner/images", {"name": "small", "revision": "v1"})]
    assert source.names() == ("train", "validation")
    assert source.read("validation", labeled=True).name(1) == "owner/images validation row 1"
    assert source.title == "the Hub dataset owner/images at revision v1"


@pytest.mark.usefixtures("hub_answers")
def test_hub_failure_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(path: str, **options: object) -> DatasetDict:
        raise ConnectionError("Couldn't reach 'owner/images' on the Hub.\nmore")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError) as caught:
        open_hub_dataset("owner/images", OPTIONS, config_name=None, revision=None)
    assert str(caught.value).startswith(
        "data.source: the Hub dataset owner/images cannot be opened (ConnectionError: Couldn't reach 'owner/images' on"
        " the Hub). There is no local file or folder 'owner/images' either."
    )


@pytest.mark.usefixtures("hub_answers")
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ValueError(
                "Config name is missing.\nPlease pick one among the available configs: ['full', '320px']\nExample: ..."
            ),
            "(Config name is missing). Set data.config_name to one of its configurations: 'full', '320px'.",
        ),
        (
            ValueError("Couldn't find cache for images for config 'default'\nAvailable configs in the cache: ['full']"),
            "for config 'default'). Without a connection data.config_name must be one of those in the cache: 'full'.",
        ),
        (
            ValueError("There are multiple 'images' configurations in the cache: full, 320px\nPlease specify which"),
            "Without a connection data.config_name must be one of those in the cache: 'full', '320px'.",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported, but found images.py"),
            "is a script, which is not run. Set data.revision=refs/convert/parquet,",
        ),
    ],
)
def test_what_the_hub_asks_for_is_answered_by_a_key(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def load_dataset(path: str, **options: object) -> DatasetDict:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError) as caught:
        open_hub_dataset("owner/images", OPTIONS, config_name=None, revision=None)
    assert message in str(caught.value) and "no local file" not in str(caught.value)


def test_without_a_connection_only_the_cache_is_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []

    def load_dataset(path: str, **options: object) -> DatasetDict:
        modes.append((constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE))
        if path == "owner/cached":
            return DatasetDict(train=dataset(4))
        raise ConnectionError("Couldn't reach it (offline mode).")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert open_hub_dataset("owner/cached", OPTIONS, config_name=None, revision=None).names() == ("train",)
    with pytest.raises(
        UserError,
        match=r"http://127\.0\.0\.1:9 cannot be reached: .*, so that only what is in the cache .*no local file",
    ):
        open_hub_dataset("owner/images", OPTIONS, config_name=None, revision=None)
    assert modes == [(True, True)] * 2 and not constants.HF_HUB_OFFLINE


def test_another_commit_in_the_cache_is_not_the_one_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / ("a" * 40)
    dataset(4).save_to_disk(place)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: DatasetDict(train=load_from_disk(str(place))))
    for revision in (None, "main", "a" * 40):
        assert open_hub_dataset("owner/images", OPTIONS, config_name=None, revision=revision).names() == ("train",)
    with pytest.raises(UserError, match=f"is not in the cache, only the commit {'a' * 40}"):
        open_hub_dataset("owner/images", OPTIONS, config_name=None, revision="b" * 40)


def test_rows_may_contain_paths_instead_of_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    columns = {"image": [{"bytes": None, "path": f"{name}.png"} for name in "abc"], "label": [0, 1, 0]}
    schema = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    folder.mkdir()
    pq.write_table(
        pa.table({"image": pa.array(columns["image"], schema), "label": columns["label"]}), folder / "x.parquet"
    )
    for number, name in enumerate("ab"):
        (folder / f"{name}.png").write_bytes(png(number))
    split = open_parquet(folder).read("train", labeled=True)
    assert [int(split.image(index)[0, 0, 0]) for index in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match=r"x\.parquet row 2: the row contains no bytes, only the path c\.png, .* Embed"):
        split.image(2)


def test_corrupt_and_missing_images_are_reported_by_row(tmp_path: Path) -> None:
    images = [{"bytes": png(1)[:40], "path": "a"}, {"bytes": b"", "path": "b"}, None]
    path = plain_parquet(tmp_path / "data" / "x.parquet", {"image": images, "label": [0, 1, 0]})
    split = open_parquet(tmp_path / "data").read("train", labeled=True)
    for index, reason in enumerate(("truncated or damaged", "is empty", "contains no image")):
        with pytest.raises(UserError) as caught:
            split.image(index)
        assert str(caught.value).startswith(f"{path} row {index}: ") and reason in str(caught.value)


def test_damaged_table_is_reported_by_path(tmp_path: Path) -> None:
    path = plain_parquet(tmp_path / "data" / "x.parquet", rows(4))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"data\.source: .*x\.parquet is damaged or not a \.parquet file \("):
        open_parquet(tmp_path / "data")


def test_pickled_table_contains_no_image_bytes(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    plain_parquet(folder / "x.parquet", rows(4) | {"padding": [np.random.default_rng(0).bytes(100_000)] * 4})
    split = open_parquet(folder, image_column="image").read("train", labeled=True)
    pickled = pickle.dumps(split)
    assert values(pickle.loads(pickled)) == [0, 1, 2, 3]
    assert len(pickled) < 50_000


def test_fingerprint_does_not_depend_on_the_table_format(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    dataset(5).to_parquet(folder / "x.parquet")
    dataset(5).save_to_disk(tmp_path / "saved")
    sources = (open_parquet(folder), open_saved_dataset(tmp_path / "saved", OPTIONS))
    assert len({source.read("train", labeled=True).fingerprint for source in sources}) == 1


def test_ids_are_paths_of_rows_or_table_and_row_wherever_the_tables_are(tmp_path: Path) -> None:
    columns = rows(4)
    for number, path in enumerate((None, "/data/a/x.png", "/data/b/y.png")):
        columns["image"][number]["path"] = path
    for place in ("one", "other/place"):
        plain_parquet(tmp_path / place / "part" / "test.parquet", columns)
        split = open_parquet(tmp_path / place).read("test", labeled=True)
        assert split.select([3, 0, 2, 1]).image_ids() == ["3.png", "part/test.parquet row 0", "b/y.png", "a/x.png"]


def test_ids_of_saved_datasets_do_not_depend_on_the_folder(tmp_path: Path) -> None:
    for place in ("one", "other/place"):
        folder = tmp_path / place
        saved = Dataset.from_dict({"image": [png(0)], "label": [0]})
        saved.save_to_disk(folder / "alone")
        DatasetDict(test=saved).save_to_disk(folder / "splits")
        for kind, name in (("alone", "train"), ("splits", "test")):
            split = open_saved_dataset(folder / kind, OPTIONS).read(name, labeled=False)
            assert split.image_ids() == [f"{name} row 0"]
