"""Hold-outs by group: no group in two parts, all classes kept in training, fractions by class as far as possible."""

import csv
import logging
import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import problems_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from common.data.config import DataConfig
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.data.splits.fingerprint import describe_data
from common.data.splits.groups import check_groups, hold_out_groups
from common.data.splits.roles import Splits
from common.errors import UserError

NONE = np.zeros(0, dtype=np.int64)
PATIENTS = 12
IMAGES_OF_PATIENT = 4


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` inside a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def split_of(groups: list[str], labels: list[int] | None) -> Split:
    """Return a split of black pixels."""
    shapes = np.ones((len(groups), 2), dtype=np.int64)
    blocks = [np.zeros(3 * len(groups), dtype=np.uint8)]
    images = PixelImages(blocks, shapes, block_length=len(groups), decoder=ImageDecoder())
    names = tuple(map(str, range(max(labels) + 1))) if labels else ()
    return Split(images=images, labels=np.array(labels) if labels else None, class_names=names, groups=np.array(groups))


def held_out(split: Split, fraction: float, *, seed: int = 0, reserved: np.ndarray = NONE) -> np.ndarray:
    return hold_out_groups(split, np.arange(len(split)), fraction, seed=seed, stream="test hold-out", reserved=reserved)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=2, max_size=60),
    st.floats(0.05, 0.9),
    st.integers(0, 3),
    st.booleans(),
)
def test_no_group_is_divided_and_no_class_is_lost(
    images: list[tuple[int, int]], fraction: float, seed: int, labeled: bool
) -> None:
    split = split_of([f"g{group}" for group, _ in images], [label for _, label in images] if labeled else None)
    assert split.groups is not None
    chosen = held_out(split, fraction, seed=seed, reserved=np.array([0]))
    rest = np.setdiff1d(np.arange(len(split)), chosen)
    assert 0 in rest and not set(split.groups[chosen]) & set(split.groups[rest])
    if split.labels is not None:
        assert set(split.labels[rest]) == set(split.labels)
    assert np.array_equal(chosen, held_out(split, fraction, seed=seed, reserved=np.array([0])))


def test_fractions_of_the_classes_are_close_to_the_wanted_one() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(200, size=3000)
    labels = np.where(rng.random(3000) < 0.8, groups % 3, rng.integers(3, size=3000))
    split = split_of([f"g{group}" for group in groups], labels.tolist())
    chosen = held_out(split, 0.2)
    actual = np.bincount(labels[chosen]) / np.bincount(labels)
    assert actual == pytest.approx(0.2, abs=0.02)
    assert not np.array_equal(chosen, held_out(split, 0.2, seed=1))


def test_a_group_larger_than_the_fraction_is_held_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    split = split_of(["a"] * 10 + ["b"] * 12, None)
    with caplog.at_level(logging.WARNING):
        assert set(held_out(split, 0.1).tolist()) == set(range(10))
    assert "data.test_fraction is 0.1, but the groups held out have 0.45 of the images" in caplog.text


def write_folder(root: Path, *, by_class: bool, patient_in_name: bool = True) -> list[tuple[str, str, str]]:
    """Write images of two classes; return (path, patient, class) of each."""
    rows = []
    for number in range(PATIENTS * IMAGES_OF_PATIENT):
        patient, label = f"p{number % PATIENTS:02d}", ("cat", "dog")[(number // PATIENTS) % 2]
        name = f"{patient}_{number}.png" if patient_in_name else f"{number}.png"
        path = f"{label}/{name}" if by_class else name
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (5 * number, 0, 0)).save(root / path)
        rows.append((path, patient, label))
    return rows


def write_list(root: Path, rows: list[tuple[str, str, str]], header: tuple[str, ...]) -> None:
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *(row[: len(header)] for row in rows)])


def write_table(path: Path, rows: list[tuple[str, str, str]], root: Path, **columns: list[Any]) -> None:
    images = [(root / name).read_bytes() for name, _, _ in rows]
    table = {"image": images, "patient": [row[1] for row in rows], "diagnosis": [row[2] for row in rows], **columns}
    pq.write_table(pa.table(table), path)


def opened(source: Path, *, labeled: bool = True, **keys: Any) -> Splits:
    return open_splits(DataConfig(source=str(source), workers=0, **keys), labeled=labeled)


def parts_of(splits: Splits) -> list[set[str]]:
    """Return the patients of training, validation and test, after a check that they are disjoint."""
    found = []
    for split in (splits.train, splits.validation, splits.test):
        assert split is not None and split.groups is not None
        found.append(set(split.groups.tolist()))
    assert not found[0] & found[1] and not found[0] & found[2] and not found[1] & found[2]
    assert len(set.union(*found)) == PATIENTS
    return found


def source_with_groups(kind: str, root: Path) -> tuple[Path, dict[str, Any]]:
    """Return a source and the keys of its groups."""
    rows = write_folder(root / "images", by_class=kind in ("names", "folders and list"))
    if kind == "names":
        return root / "images", {"group_pattern": r"(p\d+)_"}
    if kind == "folders and list":
        write_list(root / "images", rows, ("file_name", "patient"))
    elif kind == "list":
        write_list(root / "images", rows, ("file_name", "patient", "diagnosis"))
    else:
        write_table(root / "all.parquet", rows, root / "images")
        return root / "all.parquet", {"group_column": "patient"}
    return root / "images", {"group_column": "patient"}


@pytest.mark.parametrize("kind", ["names", "folders and list", "list", "table"])
def test_both_stages_hold_out_the_same_patients(tmp_path: Path, kind: str) -> None:
    source, keys = source_with_groups(kind, tmp_path)
    splits, unlabeled = opened(source, **keys), opened(source, labeled=False, **keys)
    assert parts_of(splits) == parts_of(unlabeled)
    assert splits.class_names == ("cat", "dog") and describe_data(splits) == describe_data(unlabeled)
    assert {"groups"} <= describe_data(splits)["test"].keys()
    assert splits.test is not None and len(splits.test) % IMAGES_OF_PATIENT == 0
    if kind == "names":
        without = opened(source)
        assert without.test is not None and without.test.groups is None
        assert "groups" not in describe_data(without)["test"]


def test_images_without_labels_have_groups(tmp_path: Path) -> None:
    write_folder(tmp_path, by_class=False)
    assert len(parts_of(opened(tmp_path, labeled=False, group_pattern=r"(p\d+)_"))) == 3


def test_nested_subsets_stay_by_image(tmp_path: Path) -> None:
    write_folder(tmp_path, by_class=True)
    all_images, half = (opened(tmp_path, group_pattern=r"(p\d+)_", fraction=fraction) for fraction in (1.0, 0.5))
    assert len(half.train) < len(all_images.train) and set(half.train.image_ids()) < set(all_images.train.image_ids())
    assert half.test is not None and all_images.test is not None
    assert half.test.image_ids() == all_images.test.image_ids()


def test_given_splits_that_divide_a_group_are_an_error(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_folder(tmp_path / part, by_class=True)
    with pytest.raises(UserError, match=r"11 groups have images in both training and test: 'p00', .*remove the key"):
        opened(tmp_path, group_pattern=r"(p\d+)_")
    assert opened(tmp_path).test is not None
    check_groups({"training": split_of(["a", "b"], None), "test": split_of(["c"], None), "validation": None})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"group_pattern": r"(site\d)"}, r"group_pattern '\(site\\d\)' finds no group in the path for 48 of the 48 images"),
        ({"group_pattern": r"(p1\d)_"}, r"finds no group in the path for 40 of the 48 images"),
        ({"group_pattern": "(p)"}, r"test_fraction 0.2 holds out none of the 48 images of 'train': they are all of the group 'p'"),
        ({"group_pattern": "(cat|dog)"}, r"each of their 2 groups is the last one of a class"),
        ({"group_column": "patient"}, r"data.group_column is 'patient', but data.source .* no columns\. Remove the key"),
    ],
)  # fmt: skip
def test_unusable_groups_of_folders_are_one_message(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    write_folder(tmp_path, by_class=True)
    with pytest.raises(UserError, match=message):
        opened(tmp_path, **keys)


def test_missing_values_and_columns_are_one_message(tmp_path: Path) -> None:
    rows = write_folder(tmp_path / "images", by_class=False)
    with_gaps = [None if number in (3, 7) else f"s{number % 4}" for number in range(len(rows))]
    write_table(tmp_path / "all.parquet", rows, tmp_path / "images", site=with_gaps)
    with pytest.raises(UserError, match=r"data.group_column 'site' has no value for 2 of the 48 images of .*row 3"):
        opened(tmp_path / "all.parquet", group_column="site", label_column="diagnosis")
    with pytest.raises(UserError, match=r"data.group_column is 'sites', but .* has the columns .*'site'"):
        opened(tmp_path / "all.parquet", group_column="sites", label_column="diagnosis")
    with pytest.raises(UserError, match=r"finds no group in the path for 48 of the 48 images"):
        opened(tmp_path / "all.parquet", group_pattern="(p)", label_column="diagnosis")
    write_list(tmp_path / "images", [(path, "" if path[1:3] == "03" else p, c) for path, p, c in rows],
               ("file_name", "patient", "diagnosis"))  # fmt: skip
    with pytest.raises(UserError, match=r"data.group_column 'patient' has no value for 4 of the 48 images of .*p03_"):
        opened(tmp_path / "images", group_column="patient")
    with pytest.raises(UserError, match=r"data.group_column is 'site', but .*metadata.csv has the columns"):
        opened(tmp_path / "images", group_column="site")


def test_numbers_are_groups_whatever_their_type(tmp_path: Path) -> None:
    """pandas writes whole numbers as floats where one is missing."""
    rows = write_folder(tmp_path / "images", by_class=False)
    numbers = [number % PATIENTS for number in range(len(rows))]
    write_table(tmp_path / "train.parquet", rows, tmp_path / "images", patient=numbers)
    write_table(tmp_path / "test.parquet", rows[:1], tmp_path / "images", patient=[0.0])
    with pytest.raises(UserError, match=r"1 groups have images in both training and test: '0'"):
        opened(tmp_path, group_column="patient", label_column="diagnosis")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"group_pattern": "("}, r"'\(' is not a regular expression"),
        ({"group_pattern": "p[0-9]"}, "has 0 groups in parentheses"),
        ({"group_pattern": "(p)(q)"}, "has 2 groups in parentheses"),
        ({"group_pattern": "(p)", "group_column": "a"}, "mutually exclusive"),
    ],
)
def test_invalid_patterns(keys: dict[str, str], message: str) -> None:
    assert re.search(message, problems_of(DataConfig, **keys)["group_pattern"])


def test_reidentification_and_digits_have_no_groups() -> None:
    for source, keys in (("digits_identities", {"group_pattern": "(p)"}), ("digits", {"group_column": "patient"})):
        with pytest.raises(UserError, match=r"data.group_\w+ is '.*Remove the key"):
            open_splits(DataConfig(source=source, **keys), labeled=True)
