"""Fuzz layouts of data: folders, splits, lists of labels, tables and what lies beside them, each with a known right reading.

A case is a data set as people keep them: classes and splits of many names, in folders, lists or tables, in other folders, beside
thumbnails, links, notes and foreign tables. Both stages must read exactly the images, classes and splits that it was made of, or
refuse in one message: nothing may be read differently.
"""

import io
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow
import pyarrow.parquet
from hypothesis import strategies as st
from PIL import Image

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.errors import UserError

CLASSES = (
    "cat", "dog", "None", "NA", "null", "007", "1e3", "-1", "café", "cafe\u0301 noir", "a b", "photos #1", "[x]", "x*y",
    "test_tube", "Validation_error", "training_shoes", "bus", "n01440764", "yes", "ÄÖ", "class", "data", "images", "d'or", "a,b",
)  # fmt: skip
"""Names of classes; some look like missing values, numbers, patterns or splits."""
SPLITS = (
    ("train", "val", "test"), ("train", "test"), ("training", "validation", "testing"), ("Train", "Test"),
    ("train", "dev"), ("training_set", "test_set"), ("seg_train", "seg_test"), ("train2017", "val2017"),
    ("Training", "Validate"), ("TrainSet", "TestSet"),
)  # fmt: skip
"""Names of splits that people use, the training split first."""
WRAPPERS = ("", "data", "archive/flowers", "my images")
NOISE = (
    "hidden", "thumbnails", "macos", "notes", "dangling", "loop", "link up", "link to class", "annotations", "foreign table",
    "state.json", "list_train.txt", "foreign metadata", "closed name",
)  # fmt: skip
"""What lies beside the images."""
EXTRA_COLUMNS = ("fold", "width", "id", "__index_level_0__", "Unnamed: 0", "caption", "is_flipped", "score")
UNLABELED = ("unlabeled", "Unlabelled images", "no_label", "unsup", "train_unlabeled", "unlabeled2017")
"""Names of folders and tables of images without a label."""
Kind = Literal["folders", "csv", "jsonl", "metadata.parquet", "parquet", "arrow"]


@dataclass(frozen=True)
class Case:
    """How a data set is laid out."""

    kind: Kind
    classes: tuple[str, ...]
    splits: tuple[str, ...]
    """Empty: no splits."""
    wrapper: str
    noise: tuple[str, ...]
    extra: tuple[str, ...]
    """Columns beside file name and label, of a list or a table."""
    label: str
    label_kind: Literal["text", "integer", "float", "view"]
    nested: bool
    """Images of a class lie in folders within it."""
    repeated: bool
    """A split's folder holds a folder of its own name."""
    extension: str
    above: bool
    """One list above the splits, instead of one in each."""
    unlabeled: str
    """Folder or table beside classes and splits with images without a label; empty: there is none."""


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a layout."""
    kind: Kind = draw(
        st.sampled_from(("folders", "folders", "folders", "csv", "jsonl", "metadata.parquet", "parquet", "arrow"))
    )
    return Case(
        kind=kind,
        classes=tuple(draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))),
        splits=draw(st.sampled_from(((), *SPLITS))),
        wrapper=draw(st.sampled_from(WRAPPERS)),
        noise=tuple(draw(st.lists(st.sampled_from(NOISE), max_size=3, unique=True))),
        extra=tuple(draw(st.lists(st.sampled_from(EXTRA_COLUMNS), max_size=3, unique=True))),
        label=draw(st.sampled_from(("label", "label", "Label", "class", "category", "species"))),
        label_kind=draw(st.sampled_from(("text", "text", "integer", "float", "view"))),
        nested=draw(st.booleans()),
        repeated=draw(st.booleans()),
        extension=draw(st.sampled_from((".png", ".PNG", ".jpg", "", ".jpg_large", ".img"))),
        above=draw(st.booleans()),
        unlabeled=draw(st.sampled_from(("", "", "", *UNLABELED))),
    )


Truth = dict[str, dict[bytes, str]]
"""The class of each image, by its content, by role: train, validation, test."""


def check(case: Case) -> bool:
    """Return whether the layout is read, as it is in both stages, or refused with a message. Raise AssertionError otherwise."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "set")
        truth = build(case, root)
        unlabeled = _write_unlabeled(case, root / case.wrapper)
        read = [_read(root, labeled=labeled) for labeled in (True, False)]
    supervised, unsupervised = read
    if supervised is not None:
        assert supervised == truth, f"read {_summary(supervised)}, made of {_summary(truth)}"
    if unsupervised is not None:
        held_out = [image for role in ("validation", "test") for image in truth.get(role, ())]
        assert not set(held_out) & set(unsupervised["train"]), "pre-training sees held-out images"
        assert set(unsupervised["train"]) == {*truth["train"], *unlabeled}, (
            f"pre-training reads {_summary(unsupervised)}"
        )
        labeled = {content: label for content, label in unsupervised["train"].items() if content not in unlabeled}
        assert not unlabeled or supervised is None or labeled == truth["train"], (
            f"pre-training reads {_summary(unsupervised)}"
        )
    return supervised is not None and unsupervised is not None


def build(case: Case, root: Path) -> Truth:
    """Write a data set; return the truth about it."""
    truth: Truth = {}
    base = root / case.wrapper
    base.mkdir(parents=True)
    number = 0
    for split in case.splits or ("",):
        role = _role(split)
        images = []
        for label in case.classes:
            for _ in range(6 if role == "train" else 3):
                images.append((_picture(number), label, number))
                number += 1
        truth[role] = {content: _class_name(case, label) for content, label, _ in images}
        _write(case, base, split, images)
    if case.kind in ("csv", "jsonl", "metadata.parquet") and case.above:
        _merge_lists(case, base)
    for index, noise in enumerate(case.noise):
        _add_noise(noise, case, base, index)
    return truth


def _write_unlabeled(case: Case, base: Path) -> list[bytes]:
    """Write images without a label beside the classes or the splits; return them."""
    contents = [_picture(20_000 + number) for number in range(5)] if case.unlabeled else []
    if contents and case.kind in ("parquet", "arrow"):
        table = pyarrow.table({"image": pyarrow.array(contents)})
        if case.repeated:  # a column of labels without a label
            table = table.append_column(case.label, pyarrow.nulls(len(contents), pyarrow.string()))
        _write_table(table, base / f"{case.unlabeled}-00000.{case.kind}")
    for number, content in enumerate(contents if case.kind not in ("parquet", "arrow") else ()):
        parts = (f"day {number % 2}",) if case.nested else ()
        path = base.joinpath(case.unlabeled, *parts, f"{number}{case.extension}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return contents


def _role(split: str) -> str:
    """Return the role of a split."""
    lower = split.lower()
    return "test" if "test" in lower else "validation" if "val" in lower or "dev" in lower else "train"


@cache
def _picture(number: int) -> bytes:
    """Return a small picture that no other number has."""
    rng = np.random.default_rng(number)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _class_name(case: Case, label: str) -> str:
    """Return the name by which a class must be known: in NFC, or its number."""
    import unicodedata

    if case.kind == "folders" or case.label_kind in ("text", "view"):
        return unicodedata.normalize("NFC", label) if case.kind == "folders" else label
    return str(case.classes.index(label))


def _write(case: Case, base: Path, split: str, images: list[tuple[bytes, str, int]]) -> None:
    """Write the images of a split."""
    if case.kind in ("parquet", "arrow"):
        table = pyarrow.table(
            {"image": pyarrow.array([content for content, _, _ in images])} | _columns(case, images)
        ).select(_order(case, "image"))
        _write_table(table, base / f"{split or 'part'}-00000.{case.kind}")
        return
    folder = base / split / split if case.repeated and split and case.kind == "folders" else base / split
    names = []
    for content, label, number in images:
        parts = [label] if case.kind == "folders" else []
        if case.nested:
            parts.append(f"day {number % 2}")
        path = folder.joinpath(*parts, f"{number}{case.extension}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        names.append(path.relative_to(base / split).as_posix())
    if case.kind != "folders":
        _write_list(case, base / split, pyarrow.table({"file_name": names} | _columns(case, images)))


def _write_table(table: Any, path: Path) -> None:
    """Write a parquet or arrow file."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
        return
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


def _order(case: Case, first: str) -> list[str]:
    """Return the order of the columns: some of the others before the image and the label."""
    return [*case.extra[:1], first, *case.extra[1:], case.label]


def _columns(case: Case, images: list[tuple[bytes, str, int]]) -> dict[str, Any]:
    """Return the label column and the other columns."""
    labels: Any = [label for _, label, _ in images]
    if case.label_kind in ("integer", "float"):
        numbers = [case.classes.index(label) for label in labels]
        labels = pyarrow.array(numbers, pyarrow.int64() if case.label_kind == "integer" else pyarrow.float64())
    elif case.label_kind == "view" and case.kind == "parquet":
        labels = pyarrow.array(labels).cast(pyarrow.string_view())
    values: Mapping[str, Any] = {
        "fold": [number % 3 for _, _, number in images],
        "width": [480 + number % 2 for _, _, number in images],
        "id": [1000 + number for _, _, number in images],
        "__index_level_0__": list(range(len(images))),
        "Unnamed: 0": [number % 5 for _, _, number in images],
        "caption": [f"a picture of {number}" for _, _, number in images],
        "is_flipped": [number % 2 == 0 for _, _, number in images],
        "score": [number / 7 for _, _, number in images],
    }
    return {name: values[name] for name in case.extra} | {case.label: labels}


def _write_list(case: Case, folder: Path, table: Any) -> None:
    """Write a list of labels into a folder."""
    table = table.select(_order(case, "file_name"))
    if case.kind == "metadata.parquet":
        pyarrow.parquet.write_table(table, folder / "metadata.parquet")
    elif case.kind == "jsonl":
        lines = [json.dumps(row, ensure_ascii=False) for row in table.to_pylist()]
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        import csv

        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(table.column_names)
            writer.writerows(row.values() for row in table.to_pylist())


def _merge_lists(case: Case, base: Path) -> None:
    """Replace the lists in the splits by one above them."""
    if not case.splits:
        return
    name = {"csv": "metadata.csv", "jsonl": "metadata.jsonl"}.get(case.kind, case.kind)
    tables = []
    for split in case.splits:
        path = base / split / name
        if case.kind == "metadata.parquet":
            table = pyarrow.parquet.read_table(path)
        elif case.kind == "jsonl":
            table = pyarrow.Table.from_pylist([json.loads(line) for line in path.read_text("utf-8").splitlines()])
        else:
            import csv

            with path.open(encoding="utf-8", newline="") as file:
                table = pyarrow.Table.from_pylist(list(csv.DictReader(file)))
        names = [f"{split}/{found}" for found in table.column("file_name").to_pylist()]
        tables.append(table.set_column(table.column_names.index("file_name"), "file_name", pyarrow.array(names)))
        path.unlink()
    _write_list(case, base, pyarrow.concat_tables(tables))


def _add_noise(noise: str, case: Case, base: Path, index: int) -> None:
    """Add something that is no image of the data set, or is none that counts."""
    inner = next((path for path in sorted(base.rglob("*")) if path.is_dir()), base)
    other = _picture(10_000 + index)
    if noise == "hidden":
        (inner / ".hidden.png").write_bytes(other)
    elif noise == "thumbnails":
        (inner / "@eaDir").mkdir()
        (inner / "@eaDir" / "thumb.png").write_bytes(other)
    elif noise == "macos":
        (base / "__MACOSX" / "cat").mkdir(parents=True)
        (base / "__MACOSX" / "cat" / "._1.png").write_bytes(other)
    elif noise == "notes":
        (inner / "notes.txt").write_text("no image")
        (base / "README").write_text("no image")
    elif noise == "dangling":
        (inner / "gone.png").symlink_to(base / "nowhere.png")
    elif noise == "loop":
        (inner / "loop.png").symlink_to(inner / "loop.png")
    elif noise == "link up":
        (inner / "up").symlink_to(base)
    elif noise == "link to class" and case.kind == "folders":
        folders = sorted(path for path in inner.parent.iterdir() if path.is_dir() and not path.is_symlink())
        (inner / "see also").symlink_to(folders[-1])
    elif noise == "annotations" and case.splits:
        (base / "annotations").mkdir()
        (base / "annotations" / "instances.json").write_text("{}")
    elif noise == "foreign table" and case.kind == "folders":
        pyarrow.parquet.write_table(pyarrow.table({"url": ["u", "v"], "width": [20, 21]}), base / "00000.parquet")
    elif noise in ("state.json", "list_train.txt"):
        (base / noise).write_text("{}")
    elif noise == "foreign metadata" and case.kind == "folders":
        (base / "metadata.csv").write_text("image_id,dx,age\n00,mel,40\n01,nv,50\n")
    elif noise == "closed name" and case.kind == "folders":
        (inner / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def _read(root: Path, *, labeled: bool) -> Truth | None:
    """Return what a stage reads; None if it refuses."""
    config = DataConfig(
        source=str(root), workers=0, verify="none", cache_megabytes=0, validation_fraction=0.0, test_fraction=0.0
    )
    try:
        splits = open_splits(config, labeled=labeled)
    except UserError:
        return None
    parts: Mapping[str, Split | None] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {role: _classes(part) for role, part in parts.items() if part is not None}


def _classes(split: Split) -> dict[bytes, str]:
    """Return the class of each image of a split, by its content."""
    labels = np.zeros(len(split), np.int64) if split.labels is None else split.labels
    names = (*split.class_names, "")  # the last one is that of images without a label
    found = {split.images.content(index): names[label] for index, label in enumerate(labels.tolist())}
    assert len(found) == len(split), "an image is read twice"
    return found


def _summary(truth: Truth) -> dict[str, dict[str, int]]:
    """Return the number of images per class and role."""
    return {
        role: {name: sum(label == name for label in images.values()) for name in sorted(set(images.values()))}
        for role, images in truth.items()
    }
