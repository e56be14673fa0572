"""Columns: images, labels and their meaning are found by type, and asked about where that is not enough."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from common.data.sources.columns import UNLABELLED, read_labels
from common.data.sources.tables import Part, TableSource
from common.errors import UserError

NAMES = ["cat", "dog"]
DECLARED = {"image": ImageFeature(), "label": ClassLabel(names=NAMES)}


def png(value: int) -> bytes:
    """Return a tiny image of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int) -> dict[str, list]:
    """Return the columns of a small table."""
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(count)]
    return {"image": images, "label": [number % 2 for number in range(count)]}


def table(columns: dict[str, list], features: dict | None = None, **named: str) -> TableSource:
    """Return a source of one split, whose features are inferred from the values or declared."""
    dataset = Dataset.from_dict(columns, features=None if features is None else Features(features))
    free = {"image_column": None, "label_column": None}
    parts = {"train": (Part("x.parquet", len(dataset)),)}
    return TableSource("the table", {"train": dataset}, parts, base=Path(), **(free | named))


def values(split: object) -> list[int]:
    """Return the red value of every image."""
    return [int(split.image(index)[0, 0, 0]) for index in range(len(split))]


def test_undeclared_columns_are_found() -> None:
    split = table(rows(6)).read("train", labelled=True)
    assert split.class_names == ("0", "1") and values(split) == list(range(6))


def test_plain_bytes_and_text_classes_will_do() -> None:
    columns = {"picture": [png(value) for value in range(6)], "kind": ["b", "a", "b", "a", "b", "a"]}
    split = table(columns).read("train", labelled=True)
    assert split.class_names == ("a", "b") and split.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert values(split) == list(range(6)) and split.file_name(0) is None


def test_numbers_of_classes_keep_their_order_and_names() -> None:
    split = table(rows(6) | {"label": [10, 9, 10, 9, 10, 9]}).read("train", labelled=True)
    assert split.class_names == ("9", "10") and split.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_declared_classes_keep_their_names() -> None:
    split = table(rows(4), DECLARED).read("train", labelled=True)
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [0, 1, 0, 1]


def test_declared_columns_go_before_undeclared_ones() -> None:
    columns = rows(4) | {"width": [4] * 4, "raw": [b"x"] * 4}
    split = table(columns, DECLARED | {"width": Value("int64"), "raw": Value("binary")}).read("train", labelled=True)
    assert split.class_names == ("cat", "dog") and values(split) == [0, 1, 2, 3]


def test_two_columns_of_images_are_asked_about() -> None:
    columns = rows(4) | {"mask": [{"bytes": png(9), "path": "m"}] * 4}
    with pytest.raises(UserError, match=r"several columns of images: 'image', 'mask'\. Set data\.image_column"):
        table(columns).read("train", labelled=True)
    assert values(table(columns, image_column="mask").read("train", labelled=True)) == [9] * 4


def test_two_columns_of_classes_are_asked_about_when_labels_count(caplog: pytest.LogCaptureFixture) -> None:
    columns = rows(4) | {"coarse": [0, 0, 0, 1]}
    with pytest.raises(UserError, match=r"several columns of classes: 'label', 'coarse'\. Set data\.label_column"):
        table(columns).read("train", labelled=True)
    assert table(columns).read("train", labelled=False).labels is None
    assert "set data.label_column in both" in caplog.text
    assert table(columns, label_column="coarse").read("train", labelled=False).labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"image_column": "img"}, r"data\.image_column is 'img', but .* has the columns 'image' \(.*'label' \(int64\)"),
        ({"label_column": "y"}, r"data\.label_column is 'y', but .* has the columns 'label' \(int64\), 'score'"),
        ({"image_column": "label"}, r"data\.image_column 'label' of .* holds no images but int64"),
        ({"label_column": "score"}, r"data\.label_column 'score' of .* holds no classes but float64"),
    ],
)
def test_named_columns_must_exist_and_fit(named: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(rows(4) | {"score": [0.5] * 4}, **named).read("train", labelled=False)


def test_a_table_without_images_says_what_it_has() -> None:
    with pytest.raises(UserError, match=r"no column of images, only 'text' \(string\), 'label' \(int64\)"):
        table({"text": ["a"], "label": [0]}).read("train", labelled=False)


def test_a_table_without_labels_says_what_it_has_when_they_count() -> None:
    source = table({"image": rows(3)["image"], "score": [0.1, 0.2, 0.3]})
    with pytest.raises(UserError, match=r"no column of classes, only 'score' .* Labels are needed"):
        source.read("train", labelled=True)
    assert source.read("train", labelled=False).labels is None


def test_numbers_that_are_no_classes_are_refused_when_labels_count() -> None:
    columns = {"image": rows(6)["image"], "id": list(range(6))}
    with pytest.raises(UserError, match="'id' of .* has 6 different values for 6 images, which is too many"):
        table(columns).read("train", labelled=True)
    assert table(columns).read("train", labelled=False).labels is None
    assert len(table(columns, label_column="id").read("train", labelled=True).class_names) == 6


@pytest.mark.parametrize("features", [None, DECLARED])
@pytest.mark.parametrize("hole", [-1, None])
def test_images_without_a_label_are_counted_and_the_first_is_named(hole: int | None, features: dict | None) -> None:
    source = table(rows(6) | {"label": [0, 1, hole, 0, hole, 1]}, features)
    with pytest.raises(UserError) as caught:
        source.read("train", labelled=True)
    assert "2 of 6 images" in str(caught.value) and "the first is x.parquet row 2" in str(caught.value)
    assert source.read("train", labelled=False).labels is None


def test_a_label_beyond_the_declared_classes_is_named() -> None:
    dataset = Dataset.from_dict(rows(6) | {"label": [0, 1, 0, 1, 4, 3]})
    undeclared = dataset.data.table
    dataset.info.features = Features(
        DECLARED
    )  # as a file that declares its classes wrongly: nothing is checked on reading
    source = TableSource(
        "the table",
        {"train": dataset},
        {"train": (Part("x.parquet", 6),)},
        image_column=None,
        label_column=None,
        base=Path(),
    )
    assert undeclared.column("label").to_pylist()[4] == 4
    with pytest.raises(
        UserError, match=r"'label' .*2 labels lie beyond the 2 declared classes \(0 to 1\).* 4 in row 4"
    ):
        source.read("train", labelled=True)


def test_blank_text_is_no_label() -> None:
    with pytest.raises(UserError, match="2 of 6 images .* the first is x.parquet row 1"):
        table(rows(6) | {"label": ["a", "", "b", "a", " ", "b"]}).read("train", labelled=True)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0.0, 1.0, float("nan"), 1.0], "float64"), ([[0], [1], [0], [1]], "List"), ([None] * 4, "null")],
)
def test_columns_that_cannot_hold_classes_are_listed_with_their_kind(labels: list, kind: str) -> None:
    with pytest.raises(UserError, match=rf"no column of classes, only 'label' \({kind}\).* names or whole numbers"):
        table(rows(4) | {"label": labels}).read("train", labelled=True)


def naive_labels(values: list, names: list[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Number the values row by row."""

    def is_missing(value: object) -> bool:
        return value is None or (not value.strip() if isinstance(value, str) else value < 0)

    if names is not None:
        return [UNLABELLED if is_missing(value) else value for value in values], tuple(names)
    known = sorted({value for value in values if not is_missing(value)})
    labels = [UNLABELLED if is_missing(value) else known.index(value) for value in values]
    return labels, tuple(str(value) for value in known)


COLUMNS = {
    "declared": ([1, 0, None, -1, 1], pyarrow.int64(), ClassLabel(names=NAMES)),
    "one row": ([4], pyarrow.int8(), Value("int8")),
    "numbers": ([30, None, -2, 7, 30], pyarrow.int32(), Value("int32")),
    "the largest numbers": ([2**64 - 1, 0, 2**63, 2**64 - 1], pyarrow.uint64(), Value("uint64")),
    "truth": ([True, False, None], pyarrow.bool_(), Value("bool")),
    "text": (["b", " ", "", None, "a", "b"], pyarrow.string(), Value("string")),
    "large text": (["b", "a"], pyarrow.large_string(), Value("large_string")),
    "nothing but gaps": ([None, None], pyarrow.string(), Value("string")),
    "no rows": ([], pyarrow.int64(), Value("int64")),
}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("case", COLUMNS.values(), ids=COLUMNS)
def test_labels_are_those_of_a_loop_over_the_rows(case: tuple, pieces: int) -> None:
    values, kind, feature = case
    edges = np.linspace(0, len(values), pieces + 1).astype(int)
    parts = [pyarrow.array(values[first:last], kind) for first, last in zip(edges[:-1], edges[1:])]
    labels, names = read_labels(pyarrow.chunked_array(parts, kind), feature, title="the column")
    assert labels.dtype == np.int64
    assert (labels.tolist(), names) == naive_labels(values, getattr(feature, "names", None))
