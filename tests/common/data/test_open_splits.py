"""`open_splits`: every kind of source opens, is partitioned into disjoint splits, and reports invalid input."""

import io
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import problems_of
from PIL import Image

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.open_splits import Splits, open_splits
from common.data.sources.split import Split
from common.data.splits.fingerprint import describe_data
from common.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` inside the folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def image_bytes(value: int) -> bytes:
    """Return a small encoded image whose red channel is `value`."""
    buffer = io.BytesIO()
    Image.new("RGB", (5, 4), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def class_folders(root: Path, per_class: int, *, names: tuple[str, ...] = ("cat", "dog"), start: int = 0) -> Path:
    """Write class folders of images with consecutive values from `start` on."""
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(per_class):
            (root / name / f"{name}_{number}.png").write_bytes(image_bytes(start + label * per_class + number))
    return root


def write_parquet(path: Path, count: int, start: int = 0) -> Path:
    """Write a table of images and labels; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": image_bytes(start + number), "path": f"{start + number}.png"} for number in range(count)]
    pq.write_table(pa.table({"image": images, "label": [number % 2 for number in range(count)]}), path)
    return path


def opened(source: object = "digits", *, labeled: bool = True, **options: object) -> Splits:
    """Open a source without worker processes."""
    return open_splits(DataConfig(source=str(source), workers=0, **options), labeled=labeled)


def values(split: Split | None) -> set[int]:
    """Return the red values of the images of a split."""
    assert split is not None
    return {int(split.image(index)[0, 0, 0]) for index in range(len(split))}


def sizes(splits: Splits) -> tuple[int, ...]:
    """Return the numbers of training, validation and test images; 0 for a missing split."""
    return tuple(0 if part is None else len(part) for part in (splits.train, splits.validation, splits.test))


def test_image_folder_without_splits_is_partitioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        splits = opened(class_folders(tmp_path / "pets", 10), validation_fraction=0.25)
    assert sizes(splits) == (12, 4, 4)
    assert len(values(splits.train) | values(splits.validation) | values(splits.test)) == 20
    assert "data: train: 12 of the 20 images of split 'train'" in caplog.text
    assert "data: validation: 4 images, held out from 'train' with data.split_seed 0" in caplog.text


def test_image_folder_with_splits_keeps_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for start, (name, count) in enumerate((("train", 6), ("val", 3), ("test", 2))):
        class_folders(tmp_path / name, count, start=start * 20)
    with caplog.at_level("INFO"):
        splits = opened(tmp_path)
    assert sizes(splits) == (12, 6, 4) and min(values(splits.validation)) == 20 and min(values(splits.test)) == 40
    assert "data: test: 4 images, split 'test'" in caplog.text


def test_folder_of_train_and_test_tables_opens(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train.parquet", 20)
    write_parquet(tmp_path / "data" / "test.parquet", 6, start=100)
    for source in (tmp_path / "data", tmp_path / "data" / "*.parquet"):
        splits = opened(source)
        assert sizes(splits) == (18, 2, 6) and values(splits.test) == set(range(100, 106))


def test_tables_are_assigned_by_configured_split_names(tmp_path: Path) -> None:
    for start, name in enumerate(("photos", "sketches")):
        write_parquet(tmp_path / "data" / f"{name}.parquet", 10, start=100 * start)
    splits = opened(tmp_path / "data", train_split="photos", test_split="sketches", validation_fraction=0.0)
    assert sizes(splits) == (10, 0, 10) and values(splits.test) == set(range(100, 110))


def test_single_table_is_partitioned(tmp_path: Path) -> None:
    splits = opened(write_parquet(tmp_path / "images.parquet", 20))
    assert sizes(splits) == (14, 2, 4)


def test_saved_dataset_opens(tmp_path: Path) -> None:
    table = datasets.load_dataset("parquet", data_files=str(write_parquet(tmp_path / "x.parquet", 20)), split="train")
    table.save_to_disk(tmp_path / "saved")
    assert sizes(opened(tmp_path / "saved")) == (14, 2, 4)


def test_hub_id_is_loaded_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_parquet(tmp_path / "x.parquet", 20)
    original, calls = datasets.load_dataset, []

    def load_dataset(path_or_id: str, **options: object) -> datasets.DatasetDict:
        calls.append((path_or_id, options))
        return original("parquet", data_files=str(path))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert sizes(opened("owner/images", revision="abc")) == (14, 2, 4)
    assert calls == [("owner/images", {"name": None, "revision": "abc"})]


def test_folder_and_table_give_the_same_images_and_labels(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "folder", 8)
    images = [{"bytes": image_bytes(value), "path": None} for value in range(16)]
    names = ["cat"] * 8 + ["dog"] * 8
    pq.write_table(pa.table({"image": images, "label": names}), tmp_path / "table.parquet")
    from_folder, from_table = opened(folder), opened(tmp_path / "table.parquet")
    assert from_folder.train.fingerprint != "" and from_folder.class_names == from_table.class_names
    for one, other in ((from_folder.train, from_table.train), (from_folder.test, from_table.test)):
        assert values(one) == values(other) and one.labels.tolist() == other.labels.tolist()


def test_cache_does_not_change_the_images(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets", 10)
    cached, uncached = opened(folder), opened(folder, cache_megabytes=0)
    assert values(cached.train) == values(uncached.train)
    assert cached.train.fingerprint == uncached.train.fingerprint


def test_fraction_reduces_only_the_training_split() -> None:
    full, tenth = opened(), opened(fraction=0.1)
    assert sizes(tenth) == (130, 145, 359)
    assert full.validation.fingerprint == tenth.validation.fingerprint
    assert set(tenth.subset.indices) < set(full.subset.indices)
    assert tenth.subset.num_images == 1438 and tenth.subset.fraction == 0.1
    assert tenth.subset.class_counts == tenth.train.class_counts()
    assert sizes(opened(images_per_class=3))[0] == 30


def test_subset_manifest_of_a_run_reproduces_its_training_set(tmp_path: Path) -> None:
    first = opened(images_per_class=2, subset_seed=4)
    first.subset.save(tmp_path / "subset.json")
    second = opened(subset_file=str(tmp_path / "subset.json"))
    assert second.train.fingerprint == first.train.fingerprint
    assert second.validation.fingerprint == first.validation.fingerprint
    assert second.subset.hash == first.subset.hash


def test_hold_outs_exclude_the_images_of_a_published_list(tmp_path: Path) -> None:
    folder = class_folders(tmp_path / "pets", 10)
    names = [f"{name}_{number}.png" for name in ("cat", "dog") for number in range(6)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    splits = opened(folder, subset_file=str(tmp_path / "list.txt"))
    assert values(splits.train) == {*range(6), *range(10, 16)}
    assert sizes(splits) == (12, 2, 4)
    assert not values(splits.train) & (values(splits.validation) | values(splits.test))


def test_unlabeled_images_open_if_labels_are_not_required(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(10):
        (tmp_path / "photos" / f"{number}.png").write_bytes(image_bytes(number))
    splits = opened(tmp_path / "photos", labeled=False, fraction=0.5)
    assert splits.train.labels is None and splits.class_names == () and sizes(splits) == (4, 1, 2)
    assert splits.subset.class_counts == {"unlabeled": 4}


def test_labels_are_read_even_if_not_required() -> None:
    assert opened(labeled=False).train.labels is not None


def test_corrupt_images_of_all_splits_are_reported_before_training(tmp_path: Path) -> None:
    for name in ("train", "test"):
        class_folders(tmp_path / name, 10)
        path = tmp_path / name / "dog" / "dog_3.png"
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError) as caught:
        opened(tmp_path, validation_fraction=0.0)
    message = str(caught.value)
    assert message.startswith("data.source: 2 of the 40 decoded images (of 40) are corrupt:")
    assert all(
        f"{tmp_path / name / 'dog' / 'dog_3.png'}: the image is truncated" in message for name in ("train", "test")
    )


def large_images(kind: str, root: Path) -> Path:
    """Write a dataset of black images of 1,001 x 1,000 pixels; return its source."""
    buffer = io.BytesIO()
    Image.new("1", (1001, 1000)).save(buffer, "PNG")
    if kind == "market1501":
        for folder, identities in (("bounding_box_train", (1, 2)), ("query", (3,)), ("bounding_box_test", (3, 4))):
            (root / folder).mkdir()
            for identity in identities:
                for camera in (1, 2):
                    path = root / folder / f"{identity:04d}_c{camera}s1_000001_00.jpg"
                    path.write_bytes(buffer.getvalue())
    elif kind in ("table", "saved"):
        data = datasets.Dataset.from_dict({"image": [buffer.getvalue()] * 8, "label": [0, 1] * 4})
        data.to_parquet(root / "images.parquet") if kind == "table" else data.save_to_disk(root)
    else:
        for number in range(8):
            path = root / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(buffer.getvalue())
        if kind == "metadata":
            lines = [f"{'ab'[number % 2]}/{number}.png,{'ab'[number % 2]}" for number in range(8)]
            (root / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    return root


@pytest.mark.parametrize("kind", ["folder", "metadata", "table", "saved", "market1501"])
def test_max_megapixels_limits_the_images_of_every_source(kind: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    source = large_images(kind, tmp_path / "data")
    options = {"validation_fraction": 0.0, "cache_megabytes": 0}
    assert len(opened(source, max_megapixels=2, verify="none", **options).train) > 0
    with pytest.raises(UserError, match=r"1001 x 1000 = 1,001,000 pixels, data\.max_megapixels = 1 allows 1,000,000\."):
        opened(source, max_megapixels=1, **options)


def test_empty_class_folder_is_rejected_if_labels_are_required(tmp_path: Path) -> None:
    class_folders(tmp_path, 5)
    (tmp_path / "owl").mkdir()
    with pytest.raises(UserError, match="has no images of 1 of its 3 classes: 'owl'"):
        opened(tmp_path)
    assert sizes(opened(tmp_path, labeled=False)) == (6, 2, 2)


@pytest.mark.parametrize("source", ["no/such/folder", "./nothing", "~/nothing-there", "/nothing-there", "a b"])
def test_missing_source_is_rejected(source: str) -> None:
    with pytest.raises(UserError, match=r"data\.source '.*': no such file or folder\. Set it to 'digits'"):
        opened(source)


def test_missing_folder_in_an_existing_parent_is_not_looked_up_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file or folder"):
        opened("data/imgs")


def test_file_that_is_not_a_table_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(
        UserError, match=r"images\.zip' is a file, but not a \.parquet or \.arrow table nor a \.tar shard\. Ext"
    ):
        opened(tmp_path / "images.zip")


@pytest.mark.parametrize("key", ["revision", "label_column"])
def test_keys_that_do_not_apply_to_the_digits_are_rejected(key: str) -> None:
    with pytest.raises(UserError, match=f"data.{key} is 'v1', but data.source 'digits' is the bundled digits"):
        opened(**{key: "v1"})


@pytest.mark.parametrize("options", [{"config_name": "x"}, {"image_column": "x"}])
def test_keys_that_do_not_apply_to_a_folder_are_rejected(tmp_path: Path, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"is a folder.*\. Remove the key\."):
        opened(class_folders(tmp_path / "pets", 4), **options)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, None),
        ({"source": " "}, "source"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"fraction": 0.0}, "fraction"),
        ({"fraction": 1.5}, "fraction"),
        ({"images_per_class": 0}, "images_per_class"),
        ({"fraction": 0.5, "images_per_class": 2}, "fraction"),
        ({"images_per_class": 2, "subset_file": "x"}, "fraction"),
        ({"image_size": 0}, "image_size"),
        ({"workers": -1}, "workers"),
        ({"cache_megabytes": -1}, "cache_megabytes"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
    ],
)
def test_configuration_checks_ranges(options: dict[str, object], field: str | None) -> None:
    assert [*problems_of(DataConfig, **options)] == ([] if field is None else [field])


def test_splits_for_fingerprints_are_opened_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(source="digits")
    expected = describe_data(open_splits(config, labeled=True))
    folder = tmp_path / "images"
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (4, 3), (number, 0, 0)).save(folder / name / f"{number}.png")
    of_folder = DataConfig(source=str(folder), workers=0)
    images = describe_data(open_splits(of_folder, labeled=True))
    monkeypatch.setattr(ImageDecoder, "decode", None)
    assert describe_data(open_splits(config, labeled=True, decodes=False)) == expected
    assert describe_data(open_splits(of_folder, labeled=True, decodes=False)) == images


def test_a_name_to_be_left_out_that_nothing_has_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = class_folders(tmp_path / "data", 4, names=("cat", "dog", "notes"))
    open_splits(DataConfig(source=str(root), leave_out=("notes", "cats")), labeled=True)
    assert "data.leave_out: nothing that was read of" in caplog.text and "is called 'cats'" in caplog.text
