"""Detection of the image and label columns of a table by feature type, and reading of the labels."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

UNLABELED = -1
_MAX_CLASSES_PER_IMAGE = 0.5


def find_image_column(features: Mapping[str, Any], requested: str | None, *, title: str) -> str:
    """Return the name of the image column: `requested`, or the only column of a matching type.

    Image features take precedence over columns of encoded bytes. Raise UserError if no column matches, or several do.
    """
    if requested is not None:
        _check_exists(features, requested, key="data.image_column", title=title)
        if not (_is_image(features[requested]) or _is_encoded(features[requested])):
            raise UserError(
                f"data.image_column '{requested}' of {title} contains no images: its type is"
                f" {_type_name(features[requested])}."
            )
        return requested
    candidates = _columns_of_first_type(features, (_is_image, _is_encoded))
    if not candidates:
        raise UserError(f"data.image_column: {title} has no image column, only {_describe_columns(features)}.")
    if len(candidates) > 1:
        raise UserError(
            f"data.image_column: {title} has several image columns: {quoted(candidates)}. Set data.image_column to one of"
            " them."
        )
    return candidates[0]


def find_label_column(features: Mapping[str, Any], requested: str | None, *, labeled: bool, title: str) -> str | None:
    """Return the name of the label column: `requested`, or the only column of a matching type.

    ClassLabel features take precedence over integers, and integers over strings. If no column matches, or several do,
    raise UserError if `labeled` and otherwise return None.
    """
    if requested is not None:
        _check_exists(features, requested, key="data.label_column", title=title)
        if not any(matches(features[requested]) for matches in _LABEL_TYPES):
            raise UserError(
                f"data.label_column '{requested}' of {title} contains no class labels: its type is"
                f" {_type_name(features[requested])}. Convert the labels to integers or class names."
            )
        return requested
    candidates = _columns_of_first_type(features, _LABEL_TYPES)
    if len(candidates) == 1:
        return candidates[0]
    if not labeled:
        if candidates:
            _log.warning(
                "data: %s has several label columns: %s. No labels are read, and the hold-outs differ from those of a run"
                " with labels; set data.label_column in both runs",
                title,
                quoted(candidates),
            )
        return None
    if not candidates:
        raise UserError(
            f"data.label_column: {title} has no label column, only {_describe_columns(features)}. Labels are required: add"
            " a column of class names or integers."
        )
    raise UserError(
        f"data.label_column: {title} has several label columns: {quoted(candidates)}. Set data.label_column to one of"
        " them."
    )


def read_labels(column: Any, feature: Any, *, title: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return (N,) labels and the class names of an Arrow column. Missing, negative and blank labels become UNLABELED.

    A ClassLabel feature provides the class names; raise UserError that starts with `title` for labels outside their range.
    Integers and strings are mapped to class indices in sorted order and serve as class names. Python visits each distinct
    value once, not each row.
    """
    values, codes = _dictionary_encode(column)
    if _is_class_label(feature):
        names = tuple(str(name) for name in feature.names)
        rows = np.flatnonzero(_lookup_table([value is not None and value >= len(names) for value in values])[codes])
        if len(rows):
            raise UserError(
                f"{title}: {len(rows)} labels are out of range for the {len(names)} declared classes (0 to"
                f" {len(names) - 1}); the first is {values[codes[rows[0]]]} in row {rows[0]}. Correct the labels or declare"
                " all classes."
            )
        labels = [UNLABELED if value is None or value < 0 else value for value in values]
        return _lookup_table(labels)[codes], names
    present = [None if _is_missing(value) else value for value in values]
    classes = sorted({value for value in present if value is not None})
    class_indices = {value: index for index, value in enumerate(classes)}
    labels = [UNLABELED if value is None else class_indices[value] for value in present]
    return _lookup_table(labels)[codes], tuple(str(value) for value in classes)


def _dictionary_encode(column: Any) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Return the distinct values of an Arrow column (None for missing), and for each row the index of its value."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _lookup_table(values: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return an array that maps the index of a distinct value to `values`."""
    return np.array(values, dtype=np.int64)


def is_class_column(num_images: int, num_classes: int, column: str, *, labeled: bool, title: str) -> bool:
    """Return whether a column that was found by its type contains class labels, not ids or captions.

    Raise UserError if it does not and labels are required (`labeled`).
    """
    if num_classes <= 2 or num_classes <= _MAX_CLASSES_PER_IMAGE * num_images:
        return True
    if not labeled:
        return False
    raise UserError(
        f"data.label_column: the column '{column}' of {title} has {num_classes} distinct values for {num_images} images,"
        " too many for class labels. Set data.label_column to the label column, even if it is this one."
    )


def _is_missing(value: Any) -> bool:
    """Return whether a value of a column without class names means "no label"."""
    return value is None or (value < 0 if isinstance(value, int) else not value.strip())


def _dtype(feature: Any) -> str:
    """Return the Arrow type of a flat column; empty for nested ones."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else ""


def _is_image(feature: Any) -> bool:
    """Return whether a column is declared as an Image feature."""
    return type(feature).__name__ == "Image"


def _is_encoded(feature: Any) -> bool:
    """Return whether a column contains bytes, alone or in a struct with a path: an image column without its declaration."""
    inner = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return _dtype(inner) in ("binary", "large_binary")


def _is_class_label(feature: Any) -> bool:
    """Return whether a column is declared as a ClassLabel feature."""
    return type(feature).__name__ == "ClassLabel"


def _is_integer(feature: Any) -> bool:
    """Return whether a column contains integers or booleans."""
    return _dtype(feature).startswith(("int", "uint", "bool"))


def _is_string(feature: Any) -> bool:
    """Return whether a column contains strings."""
    return _dtype(feature) in ("string", "large_string")


_LABEL_TYPES: tuple[Callable[[Any], bool], ...] = (_is_class_label, _is_integer, _is_string)


def _columns_of_first_type(features: Mapping[str, Any], types: tuple[Callable[[Any], bool], ...]) -> list[str]:
    """Return the columns of the first type that occurs."""
    for matches in types:
        columns = [name for name, feature in features.items() if matches(feature)]
        if columns:
            return columns
    return []


def _type_name(feature: Any) -> str:
    """Return the type of a column for messages."""
    return _dtype(feature) or type(feature).__name__


def _describe_columns(features: Mapping[str, Any]) -> str:
    """Return the columns and their types for messages."""
    return ", ".join(f"'{name}' ({_type_name(feature)})" for name, feature in features.items()) or "no columns"


def _check_exists(features: Mapping[str, Any], requested: str, *, key: str, title: str) -> None:
    """Raise UserError unless the table has the requested column."""
    if requested not in features:
        raise UserError(f"{key} is '{requested}', but {title} has the columns {_describe_columns(features)}.")
