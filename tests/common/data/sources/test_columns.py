"""Columns: image and label columns are detected by type; ambiguous ones are reported."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.data.sources.label_values import read_labels
from common.data.sources.split import UNLABELED
from common.data.sources.tables import Shard, TableOptions, TableSource
from common.errors import UserError

NAMES = ["cat", "dog"]
DECLARED = {"image": ImageFeature(), "label": ClassLabel(names=NAMES)}


def png(value: int) -> bytes:
    """Return a tiny encoded image of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int) -> dict[str, list]:
    """Return the columns of a small table."""
    images = [{"bytes": png(number), "path": f"{number}.png"} for number in range(count)]
    return {"image": images, "label": [number % 2 for number in range(count)]}


def table(
    columns: dict[str, list],
    features: dict | None = None,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
) -> TableSource:
    """Return a source of one split with declared features, or features inferred from the values."""
    dataset = Dataset.from_dict(columns, features=None if features is None else Features(features))
    shards = {"train": (Shard("x.parquet", len(dataset), "x.parquet"),)}
    options = TableOptions(image_column, label_column, ImageDecoder(), 0)
    return TableSource("the table", {"train": dataset}, shards, options, base=Path())


def values(split: object) -> list[int]:
    """Return the red value of every image."""
    return [int(split.image(index)[0, 0, 0]) for index in range(len(split))]


def test_undeclared_columns_are_found() -> None:
    split = table(rows(6)).read("train", labeled=True)
    assert split.class_names == ("0", "1") and values(split) == list(range(6))


def test_encoded_bytes_and_string_classes_are_read() -> None:
    columns = {"picture": [png(value) for value in range(6)], "kind": ["b", "a", "b", "a", "b", "a"]}
    split = table(columns).read("train", labeled=True)
    assert split.class_names == ("a", "b") and split.labels.tolist() == [1, 0, 1, 0, 1, 0]
    assert values(split) == list(range(6)) and split.file_names() == [None] * 6


def test_integer_classes_are_sorted_numerically() -> None:
    split = table(rows(6) | {"label": [10, 9, 10, 9, 10, 9]}).read("train", labeled=True)
    assert split.class_names == ("9", "10") and split.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_declared_classes_keep_their_names() -> None:
    split = table(rows(4), DECLARED).read("train", labeled=True)
    assert split.class_names == ("cat", "dog") and split.labels.tolist() == [0, 1, 0, 1]


def test_declared_columns_take_precedence_over_undeclared_ones() -> None:
    columns = rows(4) | {"width": [4] * 4, "raw": [b"x"] * 4}
    split = table(columns, DECLARED | {"width": Value("int64"), "raw": Value("binary")}).read("train", labeled=True)
    assert split.class_names == ("cat", "dog") and values(split) == [0, 1, 2, 3]


def test_two_image_columns_are_ambiguous() -> None:
    columns = rows(4) | {"mask": [{"bytes": png(9), "path": "m"}] * 4}
    with pytest.raises(UserError, match=r"several image columns: 'image', 'mask'\. Set data\.image_column"):
        table(columns).read("train", labeled=True)
    assert values(table(columns, image_column="mask").read("train", labeled=True)) == [9] * 4


def test_two_label_columns_are_ambiguous_if_labels_are_required(caplog: pytest.LogCaptureFixture) -> None:
    columns = {"image": rows(4)["image"], "fine": [0, 1, 0, 1], "coarse": [0, 0, 0, 1]}
    with pytest.raises(UserError, match=r"several label columns: 'fine', 'coarse'\. Set data\.label_column"):
        table(columns).read("train", labeled=True)
    assert table(columns).read("train", labeled=False).labels is None
    assert "set data.label_column in both runs" in caplog.text
    assert table(columns, label_column="coarse").read("train", labeled=False).labels.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_column": "img"}, r"data\.image_column is 'img', but .* has the columns 'image' \(.*'label' \(int64\)"),
        ({"label_column": "y"}, r"data\.label_column is 'y', but .* has the columns 'label' \(int64\), 'score'"),
        ({"image_column": "label"}, r"data\.image_column 'label' of .* contains no images: its type is int64"),
        ({"label_column": "score"}, r"data\.label_column 'score' of .* contains no class labels: its type is float64"),
    ],
)
def test_configured_columns_must_exist_and_have_a_matching_type(keys: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        table(rows(4) | {"score": [0.5] * 4}, **keys).read("train", labeled=False)


def test_table_without_images_lists_its_columns() -> None:
    with pytest.raises(UserError, match=r"no image column, only 'text' \(string\), 'label' \(int64\)"):
        table({"text": ["a"], "label": [0]}).read("train", labeled=False)


def test_table_without_labels_lists_its_columns_if_they_are_required() -> None:
    source = table({"image": rows(3)["image"], "score": [0.1, 0.2, 0.3]})
    with pytest.raises(UserError, match=r"no label column, only 'score' .* Labels are required"):
        source.read("train", labeled=True)
    assert source.read("train", labeled=False).labels is None


def test_ids_are_rejected_as_classes_if_labels_are_required() -> None:
    columns = {"image": rows(6)["image"], "id": list(range(6))}
    with pytest.raises(UserError, match="'id' of .* has 6 distinct values for 6 images, too many"):
        table(columns).read("train", labeled=True)
    assert table(columns).read("train", labeled=False).labels is None
    assert len(table(columns, label_column="id").read("train", labeled=True).class_names) == 6


@pytest.mark.parametrize("features", [None, DECLARED])
@pytest.mark.parametrize("missing", [-1, None])
def test_missing_labels_are_counted_and_the_first_is_named(missing: int | None, features: dict | None) -> None:
    source = table(rows(6) | {"label": [0, 1, missing, 0, missing, 1]}, features)
    with pytest.raises(UserError) as caught:
        source.read("train", labeled=True)
    assert "2 of 6 images" in str(caught.value) and "the first is x.parquet row 2" in str(caught.value)
    assert "A missing, negative or blank value is no label." in str(caught.value)  # of the classes -1 and 1, too
    assert source.read("train", labeled=False).labels is None


def test_label_out_of_range_is_reported() -> None:
    dataset = Dataset.from_dict(rows(6) | {"label": [0, 1, 0, 1, 4, 3]})
    undeclared = dataset.data.table
    # Like a file with a wrong class declaration: nothing is checked on reading.
    dataset.info.features = Features(DECLARED)
    source = TableSource(
        "the table",
        {"train": dataset},
        {"train": (Shard("x.parquet", 6, "x.parquet"),)},
        TableOptions(None, None, ImageDecoder(), 0),
        base=Path(),
    )
    assert undeclared.column("label").to_pylist()[4] == 4
    with pytest.raises(
        UserError, match=r"'label' .*2 labels are out of range for the 2 declared classes \(0 to 1\).* 4 in row 4"
    ):
        source.read("train", labeled=True)


def test_blank_string_is_a_missing_label() -> None:
    with pytest.raises(UserError, match="2 of 6 images .* the first is x.parquet row 1"):
        table(rows(6) | {"label": ["a", "", "b", "a", " ", "b"]}).read("train", labeled=True)


@pytest.mark.parametrize(
    ("labels", "type_name"),
    [([0.0, 0.5, float("nan"), 1.0], "float64"), ([[0], [1], [0], [1]], "List"), ([None] * 4, "null")],
)
def test_columns_of_other_types_are_listed_with_their_type(labels: list, type_name: str) -> None:
    with pytest.raises(UserError, match=rf"no label column, only 'label' \({type_name}\).* names or integers"):
        table(rows(4) | {"label": labels}).read("train", labeled=True)


@pytest.mark.parametrize(
    ("others", "features"),
    [
        ({"fold": [0, 1, 0, 1]}, None),
        ({"id": [5, 6, 7, 8]}, None),
        ({"__index_level_0__": [0, 0, 1, 1]}, None),
        ({"Unnamed: 0": [0, 0, 1, 1]}, None),
        ({"caption": ["a", "b", "c", "d"]}, None),
    ],
)
@pytest.mark.parametrize("labels", [[1, 0, 1, 0], ["dog", "cat", "dog", "cat"], [1.0, 0.0, 1.0, 0.0]])
@pytest.mark.parametrize("labeled", [True, False])
def test_a_column_called_label_wins_in_both_stages(
    others: dict, features: dict | None, labels: list, labeled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    split = table({**others, "image": rows(4)["image"], "label": labels}, features).read("train", labeled=labeled)
    assert split.labels.tolist() == [1, 0, 1, 0] and "labels from 'label'" in caplog.text


def test_an_index_is_no_label_and_one_repeating_column_is() -> None:
    columns = {"image": rows(6)["image"], "__index_level_0__": [0, 0, 0, 1, 1, 1], "id": list(range(6))}
    with pytest.raises(UserError, match="'id' of .* too many"):
        table(columns).read("train", labeled=True)
    split = table(columns | {"breed": ["b", "a"] * 3}).read("train", labeled=True)
    assert split.class_names == ("a", "b")
    with pytest.raises(UserError, match=r"several label columns: 'breed', 'width'"):
        table(columns | {"breed": ["b", "a"] * 3, "width": [4, 4, 4, 5, 5, 5]}).read("train", labeled=True)


def test_a_declared_column_and_an_undeclared_label_are_a_question() -> None:
    columns = rows(4) | {"species": [0, 0, 1, 1]}
    features = {"image": ImageFeature(), "label": Value("int64"), "species": ClassLabel(names=NAMES)}
    with pytest.raises(UserError, match=r"several label columns: 'label', 'species'"):
        table(columns, features).read("train", labeled=True)
    both = features | {"label": ClassLabel(names=NAMES)}
    assert table(columns, both).read("train", labeled=True).labels.tolist() == [0, 1, 0, 1]


def test_whole_numbers_that_are_stored_as_floats_are_labels() -> None:
    assert table(rows(4) | {"label": [3.0, 1.0, 3.0, 1.0]}).read("train", labeled=True).class_names == ("1", "3")
    with pytest.raises(UserError, match="1 of 4 images .* the first is x.parquet row 2"):
        table(rows(4) | {"label": [0.0, 1.0, float("nan"), 1.0]}).read("train", labeled=True)


@pytest.mark.parametrize(
    "labels", [[0, 1, 2, 3], [0.0, 1.0, float("nan"), 1.0], ["a", "", "b", "a"]], ids=["too many", "missing", "blank"]
)
def test_labels_that_a_run_without_labels_does_not_read_are_a_warning(
    labels: list, caplog: pytest.LogCaptureFixture
) -> None:
    split = table({"image": rows(4)["image"], "kind": labels}).read("train", labeled=False)
    assert split.labels is None and "No labels are read" in caplog.text


def test_view_types_are_text_and_bytes() -> None:
    columns = {
        "image": pyarrow.array([png(value) for value in range(4)]).cast(pyarrow.binary_view()),
        "label": pyarrow.array(["b", "a", "b", "a"]).cast(pyarrow.string_view()),
    }
    dataset = Dataset(pyarrow.table(columns))
    options = TableOptions(None, None, ImageDecoder(), 0)
    source = TableSource("t", {"train": dataset}, {"train": (Shard("x", 4, "x"),)}, options, base=Path())
    split = source.read("train", labeled=True)
    assert split.class_names == ("a", "b") and values(split) == [0, 1, 2, 3]


def naive_labels(values: list, names: list[str] | None) -> tuple[list[int], tuple[str, ...]]:
    """Return the labels and class names by a loop over the rows."""

    def is_missing(value: object) -> bool:
        return value is None or (not value.strip() if isinstance(value, str) else value < 0)

    if names is not None:
        return [UNLABELED if is_missing(value) else value for value in values], tuple(names)
    classes = sorted({value for value in values if not is_missing(value)})
    labels = [UNLABELED if is_missing(value) else classes.index(value) for value in values]
    return labels, tuple(str(value) for value in classes)


COLUMNS = {
    "declared": ([1, 0, None, -1, 1], pyarrow.int64(), ClassLabel(names=NAMES)),
    "one row": ([4], pyarrow.int8(), Value("int8")),
    "integers": ([30, None, -2, 7, 30], pyarrow.int32(), Value("int32")),
    "large integers": ([2**64 - 1, 0, 2**63, 2**64 - 1], pyarrow.uint64(), Value("uint64")),
    "booleans": ([True, False, None], pyarrow.bool_(), Value("bool")),
    "strings": (["b", " ", "", None, "a", "b"], pyarrow.string(), Value("string")),
    "large strings": (["b", "a"], pyarrow.large_string(), Value("large_string")),
    "all missing": ([None, None], pyarrow.string(), Value("string")),
    "no rows": ([], pyarrow.int64(), Value("int64")),
}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("case", COLUMNS.values(), ids=COLUMNS)
def test_labels_match_a_loop_over_the_rows(case: tuple, pieces: int) -> None:
    values, kind, feature = case
    edges = np.linspace(0, len(values), pieces + 1).astype(int)
    parts = [pyarrow.array(values[first:last], kind) for first, last in zip(edges[:-1], edges[1:])]
    labels, names = read_labels(pyarrow.chunked_array(parts, kind), feature, title="the column")
    assert labels.dtype == np.int64
    assert (labels.tolist(), names) == naive_labels(values, getattr(feature, "names", None))
