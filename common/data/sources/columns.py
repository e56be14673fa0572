"""Owns finding the image and the label column of a table by the type of their features, and reading the labels."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.errors import UserError, some

_log = logging.getLogger(__name__)

UNLABELLED = -1
_LARGEST_SHARE = 0.5


def find_image_column(features: Mapping[str, Any], wanted: str | None, *, title: str) -> str:
    """Return the name of the column that holds images: `wanted`, or the only one whose type fits.

    An Image feature goes before encoded bytes. Raise UserError when there is none, or more than one.
    """
    if wanted is not None:
        _demand(features, wanted, key="data.image_column", title=title)
        if not (_is_image(features[wanted]) or _is_encoded(features[wanted])):
            raise UserError(f"data.image_column '{wanted}' of {title} holds no images but {_kind(features[wanted])}.")
        return wanted
    candidates = _first_kind(features, (_is_image, _is_encoded))
    if not candidates:
        raise UserError(f"data.image_column: {title} has no column of images, only {_listing(features)}.")
    if len(candidates) > 1:
        raise UserError(
            f"data.image_column: {title} has several columns of images: {some(candidates)}. Set data.image_column to"
            " one of them."
        )
    return candidates[0]


def find_label_column(features: Mapping[str, Any], wanted: str | None, *, labelled: bool, title: str) -> str | None:
    """Return the name of the column that holds the classes: `wanted`, or the only one whose type fits.

    A ClassLabel goes before whole numbers, and these before text. Where none or several fit, raise UserError if
    `labelled`, and otherwise return None.
    """
    if wanted is not None:
        _demand(features, wanted, key="data.label_column", title=title)
        if not any(fits(features[wanted]) for fits in _LABEL_KINDS):
            raise UserError(
                f"data.label_column '{wanted}' of {title} holds no classes but {_kind(features[wanted])}. Classes are"
                " whole numbers or names: write the column as one of these."
            )
        return wanted
    candidates = _first_kind(features, _LABEL_KINDS)
    if len(candidates) == 1:
        return candidates[0]
    if not labelled:
        if candidates:
            _log.warning(
                "data: %s has several columns of classes: %s. No labels are taken, and hold-outs are not those of a run"
                " with labels; set data.label_column in both",
                title,
                some(candidates),
            )
        return None
    if not candidates:
        raise UserError(
            f"data.label_column: {title} has no column of classes, only {_listing(features)}. Labels are needed: add"
            " a column of class names or whole numbers."
        )
    raise UserError(
        f"data.label_column: {title} has several columns of classes: {some(candidates)}. Set data.label_column to one"
        " of them."
    )


def read_labels(column: Any, feature: Any, *, title: str) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """Return (N,) labels and the class names of an Arrow column; missing, negative and blank labels are UNLABELLED.

    A ClassLabel brings its names; raise UserError that opens with `title` for numbers beyond them. Numbers and text are
    numbered in sorted order, and are their own names. Python looks at each distinct value once, not at each row.
    """
    values, codes = _encode(column)
    if _is_class_label(feature):
        names = tuple(str(name) for name in feature.names)
        rows = np.flatnonzero(_table([value is not None and value >= len(names) for value in values])[codes])
        if len(rows):
            raise UserError(
                f"{title}: {len(rows)} labels lie beyond the {len(names)} declared classes (0 to {len(names) - 1}), the"
                f" first is {values[codes[rows[0]]]} in row {rows[0]}. Correct the labels or declare all classes."
            )
        labels = [UNLABELLED if value is None or value < 0 else value for value in values]
        return _table(labels)[codes], names
    given = [None if _is_missing(value) else value for value in values]
    known = sorted({value for value in given if value is not None})
    numbers = {value: number for number, value in enumerate(known)}
    labels = [UNLABELLED if value is None else numbers[value] for value in given]
    return _table(labels)[codes], tuple(str(value) for value in known)


def _encode(column: Any) -> tuple[list[Any], npt.NDArray[np.int64]]:
    """Return the distinct values of an Arrow column, missing ones as None, and for each row the number of its value."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _table(numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """Return numbers as an array to look up in."""
    return np.array(numbers, dtype=np.int64)


def are_classes(num_images: int, num_classes: int, column: str, *, labelled: bool, title: str) -> bool:
    """Say whether a column that was found by its type holds classes, and not ids or captions.

    Raise UserError where it does not and the images must be `labelled`.
    """
    if num_classes <= 2 or num_classes <= _LARGEST_SHARE * num_images:
        return True
    if not labelled:
        return False
    raise UserError(
        f"data.label_column: the column '{column}' of {title} has {num_classes} different values for {num_images}"
        " images, which is too many for classes. Set data.label_column to the column of the classes, even if it is"
        " this one."
    )


def _is_missing(value: Any) -> bool:
    """Say whether a value of a column without class names stands for no label."""
    return value is None or (value < 0 if isinstance(value, int) else not value.strip())


def _dtype(feature: Any) -> str:
    """Return the Arrow type of a plain column; empty for nested ones."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else ""


def _is_image(feature: Any) -> bool:
    """Say whether a column is declared to hold images."""
    return type(feature).__name__ == "Image"


def _is_encoded(feature: Any) -> bool:
    """Say whether a column holds bytes, alone or beside a path, as image columns do when their declaration is lost."""
    inner = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return _dtype(inner) in ("binary", "large_binary")


def _is_class_label(feature: Any) -> bool:
    """Say whether a column is declared to hold classes."""
    return type(feature).__name__ == "ClassLabel"


def _is_whole(feature: Any) -> bool:
    """Say whether a column holds whole numbers."""
    return _dtype(feature).startswith(("int", "uint", "bool"))


def _is_text(feature: Any) -> bool:
    """Say whether a column holds text."""
    return _dtype(feature) in ("string", "large_string")


_LABEL_KINDS: tuple[Callable[[Any], bool], ...] = (_is_class_label, _is_whole, _is_text)


def _first_kind(features: Mapping[str, Any], kinds: tuple[Callable[[Any], bool], ...]) -> list[str]:
    """Return the columns of the first kind that occurs."""
    for fits in kinds:
        columns = [name for name, feature in features.items() if fits(feature)]
        if columns:
            return columns
    return []


def _kind(feature: Any) -> str:
    """Return the words for a column's type."""
    return _dtype(feature) or type(feature).__name__


def _listing(features: Mapping[str, Any]) -> str:
    """Return every column with its type."""
    return ", ".join(f"'{name}' ({_kind(feature)})" for name, feature in features.items()) or "no column at all"


def _demand(features: Mapping[str, Any], wanted: str, *, key: str, title: str) -> None:
    """Raise UserError unless the table has the column."""
    if wanted not in features:
        raise UserError(f"{key} is '{wanted}', but {title} has the columns {_listing(features)}.")
