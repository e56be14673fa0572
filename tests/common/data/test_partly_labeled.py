"""Partly labeled data: images without a label train the first stage; both stages hold out what the labeled part alone would."""

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.sources.missing_labels import holds_labeled, is_unlabeled_name
from common.data.sources.split import UNLABELED, Split
from common.data.splits.fingerprint import describe_data
from common.data.splits.roles import Splits
from common.data.splits.subset import Subset
from common.errors import UserError

LABELED = tuple((number, ("cat", "dog")[number % 2]) for number in range(24))
UNLABELED_IMAGES = tuple((number, None) for number in range(100, 107))
MIXED = tuple(sorted((*LABELED, *((number, None) for number in range(24, 31))), key=lambda row: row[0] % 7))
Row = tuple[int, str | None]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of `datasets` inside a folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def picture(number: int) -> bytes:
    """Return a small picture that no other number has."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path: Path, number: int) -> None:
    """Write the picture of a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture(number))


def write_list(root: Path, rows: tuple[Row, ...], listed: Callable[[Row], bool] = bool) -> None:
    """Write images and metadata.csv with those that are listed."""
    for number, _ in rows:
        write(root / f"{number:03d}.png", number)
    with (root / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("file_name", "label"), *((f"{n:03d}.png", label or "") for n, label in rows if listed((n, label)))]
        )


def write_table(path: Path, rows: tuple[Row, ...]) -> None:
    """Write a parquet table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = pa.array([label for _, label in rows], pa.string())
    pq.write_table(pa.table({"image": [picture(number) for number, _ in rows], "label": labels}), path)


def write_folders(root: Path, rows: tuple[Row, ...], outside: str = "") -> None:
    """Write class folders, and images without a label into the folder `outside`."""
    for number, label in rows:
        write(root / (label or outside) / f"{number:03d}.png", number)


def write_saved(root: Path, rows: tuple[Row, ...]) -> None:
    """Write a saved data set with declared classes, in which -1 is no label."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    labels = [-1 if label is None else ("cat", "dog").index(label) for _, label in rows]
    content = {"image": [{"bytes": picture(number), "path": None} for number, _ in rows], "label": labels}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(root))


def write_splits(root: Path, rows: tuple[Row, ...], unlabeled: str = "unlabeled") -> None:
    """Write split folders, with those without a label beside them."""
    for number, label in rows:
        split = "test" if number < 6 else "train"
        write(root / split / label / f"{number:03d}.png" if label else root / unlabeled / f"{number}.png", number)


def write_split_tables(root: Path, rows: tuple[Row, ...]) -> None:
    """Write a table for each split."""
    for name, members in (
        ("train", [row for row in rows if row[1] and row[0] >= 6]),
        ("test", [row for row in rows if row[1] and row[0] < 6]),
        ("unlabeled", [row for row in rows if not row[1]]),
    ):
        if members:
            write_table(root / f"{name}-00000-of-00001.parquet", tuple(members))


def write_tables_of_other_columns(root: Path, rows: tuple[Row, ...], extension: str) -> None:
    """Write a table of the labeled images, and one without a column of labels."""
    labeled, unlabeled = ([row for row in rows if bool(row[1]) == wanted] for wanted in (True, False))
    table = pa.table({"image": [picture(number) for number, _ in labeled], "label": [label for _, label in labeled]})
    tables = {"labeled-0": table, "no label-0": pa.table({"image": [picture(number) for number, _ in unlabeled]})}
    root.mkdir(exist_ok=True)
    for name, content in tables.items():
        if not len(content):
            continue
        if extension == ".parquet":
            pq.write_table(content, root / f"{name}.parquet")
        else:
            with (
                pa.OSFile(str(root / f"{name}.arrow"), "wb") as file,
                pa.ipc.new_stream(file, content.schema) as writer,
            ):
                writer.write_table(content)


def write_list_and_folder(root: Path, rows: tuple[Row, ...]) -> None:
    """Write a list of the labeled images, and a folder beside them with those that it does not list."""
    write_list(root, tuple(row for row in rows if row[1]))
    for number, label in rows:
        if label is None:
            write(root / "no_label" / f"{number}.png", number)


KEPT = {"unlabeled": "pretrain"}
LAYOUTS: Mapping[str, tuple[Callable[[Path, tuple[Row, ...]], None], dict[str, Any]]] = {
    "table": (lambda root, rows: write_table(root / "all.parquet", rows), KEPT),
    "saved data set": (write_saved, KEPT),
    "list with blanks": (write_list, KEPT),
    "list of some": (lambda root, rows: write_list(root, rows, lambda row: row[1] is not None), KEPT),
    "list and folder": (write_list_and_folder, {}),
    "folder beside classes": (lambda root, rows: write_folders(root, rows, "unlabelled"), {}),
    "folder of folders": (lambda root, rows: write_folders(root, rows, "Unlabeled images/day 1"), {}),
    "images outside of classes": (write_folders, KEPT),
    "labeled and unlabeled": (
        lambda root, rows: (
            [
                write(root.joinpath(*(("labeled", label) if label else ("unlabeled",)), f"{number}.png"), number)
                for number, label in rows
            ]
            and None
        ),
        {},
    ),
    "folder beside splits": (write_splits, {}),
    "folder in a split": (lambda root, rows: write_splits(root, rows, "train/no_label"), {}),
    "split_folders": (lambda root, rows: write_splits(root, rows, "unsup"), {"kind": "split_folders"}),
    "tables of splits": (write_split_tables, {}),
    "parquet of other columns": (lambda root, rows: write_tables_of_other_columns(root, rows, ".parquet"), {}),
    "arrow of other columns": (lambda root, rows: write_tables_of_other_columns(root, rows, ".arrow"), {}),
}


def opened(source: Path, *, labeled: bool, **keys: Any) -> Splits:
    """Return the splits of a source."""
    return open_splits(DataConfig(source=str(source), workers=0, **keys), labeled=labeled)


def contents(split: Split | None) -> list[bytes]:
    """Return the files of a split."""
    assert split is not None
    return [split.images.content(index) for index in range(len(split))]


@pytest.mark.parametrize("keys", [{}, {"fraction": 0.5}, {"split_seed": 3, "cache_megabytes": 0}], ids=str)
@pytest.mark.parametrize("kind", LAYOUTS)
def test_stages_divide_as_the_labeled_part_alone(tmp_path: Path, kind: str, keys: dict[str, Any]) -> None:
    build, key = LAYOUTS[kind]
    build(tmp_path / "partly", MIXED)
    build(tmp_path / "alone", tuple(row for row in MIXED if row[1]))
    expected = opened(tmp_path / "alone", labeled=True, **keys)
    second = opened(tmp_path / "partly", labeled=True, **key, **keys)
    assert describe_data(second) == describe_data(expected)
    assert second.class_names == expected.class_names == ("cat", "dog")
    assert contents(second.test) == contents(expected.test) and second.subset.num_unlabeled == 0

    first = opened(tmp_path / "partly", labeled=False, **key, **keys)
    assert contents(first.validation) == contents(expected.validation)
    assert contents(first.test) == contents(expected.test)
    number = len(expected.train)
    assert contents(first.train)[:number] == contents(expected.train)
    assert sorted(contents(first.train)[number:]) == sorted(picture(n) for n, label in MIXED if label is None)
    assert first.train.labels is not None and first.train.labels[number:].tolist() == [UNLABELED] * 7
    assert first.subset.num_unlabeled == 7 and sum(first.train.class_counts().values()) == number
    assert describe_data(first.without_unlabeled()) == describe_data(expected)
    assert len(set(first.train.image_ids())) == len(first.train)
    assert np.array_equal(first.train.image(number + 1), first.train.select([number + 1]).image(0))


@pytest.mark.parametrize("kind", [kind for kind, (_, key) in LAYOUTS.items() if key == KEPT and kind != "list of some"])
def test_missing_labels_are_refused_without_the_key(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    LAYOUTS[kind][0](tmp_path / "partly", MIXED)
    with pytest.raises(UserError, match=r"set data\.unlabeled=pretrain to use them in pre-training only"):
        opened(tmp_path / "partly", labeled=True)
    assert opened(tmp_path / "partly", labeled=False).train.labels is None
    assert "the hold-outs differ" in caplog.text


@pytest.mark.parametrize("kind", LAYOUTS)
def test_ignored_images_train_no_stage(tmp_path: Path, kind: str) -> None:
    build, key = LAYOUTS[kind]
    build(tmp_path, MIXED)
    keys = {**key, "unlabeled": "ignore"}
    first, second = (opened(tmp_path, labeled=labeled, **keys) for labeled in (False, True))
    assert describe_data(first) == describe_data(second)


def test_log_counts_the_images_of_each_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_folders(tmp_path, MIXED, "unlabelled")
    opened(tmp_path, labeled=True)
    assert "'unlabelled' of" in caplog.text and "no class" in caplog.text and "data.kind=class_folders" in caplog.text
    assert "7 images without a label are left to pre-training" in caplog.text
    caplog.clear()
    opened(tmp_path, labeled=False)
    assert "7 images without a label are training images, too" in caplog.text


def test_forced_class_folders_make_it_a_class(tmp_path: Path) -> None:
    write_folders(tmp_path, MIXED, "unlabelled")
    assert opened(tmp_path, labeled=True, kind="class_folders").class_names == ("cat", "dog", "unlabelled")
    write_folders(tmp_path / "alone", tuple(row for row in MIXED if row[1] is None), "unlabeled")
    split = opened(tmp_path / "alone", labeled=False).train
    assert split.class_names == ("unlabeled",)


def test_one_class_beside_an_unlabeled_folder_is_not_taken_for_a_wrapper(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / "cat" / f"day {number % 2}" / f"{number}.png", number)
        write(tmp_path / "unlabeled" / f"{number}.png", 100 + number)
    with pytest.raises(UserError, match="single class, 'cat'"):
        opened(tmp_path, labeled=True)


def test_declared_split_of_that_name_is_a_split(tmp_path: Path) -> None:
    write_splits(tmp_path, MIXED)
    splits = opened(tmp_path, labeled=False, train_split="unlabeled")
    assert splits.train.labels is None and splits.subset.num_unlabeled == 0 and len(splits.train) < 7


@pytest.mark.parametrize("kind", ["list", "table"])
def test_images_of_a_group_that_is_held_out_do_not_train(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rows = [(n, None if n % 4 == 3 else ("cat", "dog")[n % 2], f"p{n // 4}") for n in range(48)]
    if kind == "table":
        columns = {"label": [label for _, label, _ in rows], "patient": [patient for *_, patient in rows]}
        pq.write_table(pa.table({"image": [picture(n) for n, *_ in rows], **columns}), tmp_path / "all.parquet")
    else:
        write_list(tmp_path, tuple((n, label) for n, label, _ in rows))
        with (tmp_path / "metadata.csv").open("w", newline="") as file:
            lines = [(f"{n:03d}.png", label or "", patient) for n, label, patient in rows]
            csv.writer(file).writerows([("file_name", "label", "patient"), *lines])
    keys = {"group_column": "patient", "unlabeled": "pretrain"}
    first, second = (opened(tmp_path, labeled=labeled, **keys) for labeled in (False, True))
    parts = [first.validation, first.test]
    held_out = {group for part in parts if part is not None for group in part.groups.tolist()}  # type: ignore[union-attr]
    assert held_out and not held_out & set(first.train.groups.tolist())  # type: ignore[union-attr]
    assert contents(first.test) == contents(second.test) and contents(first.validation) == contents(second.validation)
    assert first.subset.num_unlabeled == 12 - len(held_out)
    assert f"{len(held_out)} images without a label are not used: images of their groups" in caplog.text
    assert f"{12 - len(held_out)} images without a label are left to pre-training" in caplog.text


def test_missing_group_of_an_unlabeled_image_is_named(tmp_path: Path) -> None:
    for number, label in MIXED:
        write(
            tmp_path / (label or "unlabeled") / (f"p{number // 4}_{number}.png" if label else f"x{number}.png"), number
        )
    with pytest.raises(UserError, match=r"for 7 of the 31 images .*unlabeled/x.*data\.leave_out leaves out"):
        opened(tmp_path, labeled=True, group_pattern="(p[0-9]+)_")
    splits = opened(tmp_path, labeled=False, group_pattern="(p[0-9]+)_", leave_out=("unlabeled",))
    assert splits.subset.num_unlabeled == 0


def test_partly_labeled_test_split_is_reduced_to_its_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_table(tmp_path / "train.parquet", tuple(row for row in MIXED if row[1]))
    write_table(tmp_path / "test.parquet", tuple((200 + n, label) for n, label in MIXED))
    for labeled in (True, False):
        splits = opened(tmp_path, labeled=labeled, unlabeled="pretrain")
        assert splits.test is not None and len(splits.test) == 24 and splits.subset.num_unlabeled == 0
    assert "7 images of the split 'test' have no label and are not used" in caplog.text


def test_unlabeled_test_split_is_never_a_training_split(tmp_path: Path) -> None:
    write_splits(tmp_path, MIXED, "test_unlabeled")
    splits = opened(tmp_path, labeled=False, unlabeled="pretrain")
    assert splits.subset.num_unlabeled == 0 and splits.train.class_names == ("cat", "dog")


def test_corrupt_unlabeled_images_are_named(tmp_path: Path) -> None:
    write_folders(tmp_path, MIXED, "unlabeled")
    (tmp_path / "unlabeled" / "024.png").write_bytes(picture(24)[:60])
    with pytest.raises(UserError, match=r"unlabeled/024\.png"):
        opened(tmp_path, labeled=False)
    assert len(opened(tmp_path, labeled=True).train)
    splits = opened(tmp_path, labeled=False, on_corrupt="skip", max_corrupt=0.5)
    assert splits.subset.num_unlabeled == 7


def test_fingerprint_and_manifest_include_unlabeled_images(tmp_path: Path) -> None:
    write_folders(tmp_path, MIXED, "unlabeled")
    before = opened(tmp_path, labeled=False)
    before.subset.save(tmp_path / "subset.json")
    assert json.loads((tmp_path / "subset.json").read_text())["num_unlabeled"] == 7
    assert Subset.load(tmp_path / "subset.json").hash == replace(before.subset, num_unlabeled=0).hash
    (tmp_path / "subset.json").rename(tmp_path.parent / "subset.json")
    subset = {"subset_file": str(tmp_path.parent / "subset.json")}
    assert describe_data(opened(tmp_path, labeled=True, **subset)) == describe_data(opened(tmp_path, labeled=True))
    write(tmp_path / "unlabeled" / "more.png", 500)
    after = opened(tmp_path, labeled=False)
    assert describe_data(after)["training"] != describe_data(before)["training"]
    assert describe_data(after)["test"] == describe_data(before)["test"]
    assert describe_data(after.without_unlabeled()) == describe_data(before.without_unlabeled())


@pytest.mark.parametrize(
    "name",
    ["unlabeled", "unlabelled", "Unlabelled", "no_label", "no labels", "nolabel", "unsup", "unsupervised", "UNLABELED"]
    + ["unlabeled_images", "train_unlabeled", "unlabeled2017", "without-labels", "not_labeled", "unannotated", "UnlabeledData"],
)  # fmt: skip
def test_names_of_unlabeled_folders(name: str) -> None:
    assert is_unlabeled_name(name)


@pytest.mark.parametrize(
    "name",
    ["unlabeled_cells", "test_unlabeled", "val_unlabeled", "unknown", "label", "labeled", "007", "unl", "ünlabeled"],
)
def test_names_of_other_folders(name: str) -> None:
    assert not is_unlabeled_name(name)


def test_names_of_folders_that_hold_the_labeled_images() -> None:
    assert all(
        map(holds_labeled, ("labeled", "images_labelled", "Labeled", "supervised", "data", "images", "with_labels"))
    )
    assert not any(map(holds_labeled, ("cat", "007", "unlabeled", "labeled cells", "猫")))


@pytest.mark.parametrize("source", ["digits", "digits_identities"])
def test_bundled_data_refuse_the_key(source: str) -> None:
    with pytest.raises(UserError, match=r"data\.unlabeled is 'pretrain', but"):
        open_splits(DataConfig(source=source, unlabeled="pretrain"), labeled=True)
