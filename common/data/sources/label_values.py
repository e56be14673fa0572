"""Labels of a column, as class indices."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.sources.split import UNLABELED
from common.errors import UserError


def read_labels(column: Any, feature: Any, *, title: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return (N,) labels and the class names of an Arrow column. Missing, negative and blank labels become UNLABELED.

    A ClassLabel feature provides the class names; raise UserError that starts with `title` for labels outside their range.
    Integers and strings are mapped to class indices in sorted order and serve as class names. Python visits each distinct
    value once, not each row.
    """
    values, codes = dictionary_encode(column)
    if is_class_label(feature):
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
    present = [None if is_missing(value) else int(value) if isinstance(value, float) else value for value in values]
    classes = sorted({value for value in present if value is not None})
    class_indices = {value: index for index, value in enumerate(classes)}
    labels = [UNLABELED if value is None else class_indices[value] for value in present]
    return _lookup_table(labels)[codes], tuple(str(value) for value in classes)


def dictionary_encode(column: Any) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Return the distinct values of an Arrow column (None for missing), and for each row the index of its value."""
    import pyarrow

    if str(column.type) == "string_view":  # which cannot be encoded
        column = column.cast(pyarrow.large_string())
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _lookup_table(values: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return an array that maps the index of a distinct value to `values`."""
    return np.array(values, dtype=np.int64)


def is_missing(value: Any) -> bool:
    """Return whether a value of a column without class names means "no label"."""
    if isinstance(value, float) and math.isnan(value):
        return True
    return value is None or (value < 0 if isinstance(value, int | float) else not value.strip())


def is_class_label(feature: Any) -> bool:
    """Return whether a column is declared as a ClassLabel feature."""
    return type(feature).__name__ == "ClassLabel"
