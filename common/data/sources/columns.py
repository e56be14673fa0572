"""Detection of the image and label columns of a table by name, feature type and content."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from common.data.sources.label_values import dictionary_encode, is_class_label, is_missing
from common.data.sources.split_names import split_role
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

_MAX_CLASSES_PER_IMAGE = 0.5
_USUAL_LABELS = ("label", "labels", "class", "classes", "class_name", "class_id", "target", "category", "y")
_SPLIT_COLUMNS = ("split", "partition", "subset", "set", "phase", "usage", "data_set", "dataset")
_INDEX_COLUMN = re.compile(r"__index_level_\d+__|Unnamed: \d+|index|level_\d+", re.IGNORECASE)
"""Names that pandas gives the index of a table when it writes one."""


def find_image_column(features: Mapping[str, Any], requested: str | None, *, title: str) -> str:
    """Return the name of the image column: `requested`, or the only column of a matching type.

    Image features take precedence over columns of encoded bytes. Raise UserError if no column matches, or several do.
    """
    if requested is not None:
        check_column(features, requested, key="data.image_column", title=title)
        if not (_is_image(features[requested]) or _is_encoded(features[requested])):
            raise UserError(
                f"data.image_column '{requested}' of {title} contains no images: its type is"
                f" {_type_name(features[requested])}. Set it to a column with the bytes of image files. For a list of paths,"
                " set data.source to the folder of the images and data.metadata_file to the list."
            )
        return requested
    candidates = _columns_of_first_type(features, (_is_image, _is_encoded))
    if not candidates:
        raise UserError(
            f"data.image_column: {title} has no image column, only {_describe_columns(features)}. Store the images as the"
            " bytes of image files (PNG, JPEG, ...). For a list of paths, set data.source to the folder of the images,"
            " data.metadata_file to the list and data.image_column to its column of paths."
        )
    if len(candidates) > 1:
        raise UserError(
            f"data.image_column: {title} has several image columns: {quoted(candidates)}. Set data.image_column to one of"
            " them."
        )
    return candidates[0]


def find_label_column(
    features: Mapping[str, Any],
    requested: str | None,
    *,
    labeled: bool,
    title: str,
    values: Callable[[str], Any],
) -> str | None:
    """Return the name of the label column: `requested`, or the only one that its name, its type and its values allow.

    A column called `label` wins over every other that is not declared as ClassLabel; a declared one over all others; then a usual
    name (`class`, `target`, ...); then the only column of whole numbers or text with several images per value. A table's index is
    never a label. `values(name)` returns a column. If no column matches, or several do, raise UserError if `labeled` and otherwise
    return None, with a warning where that changes the hold-outs.
    """
    if requested is not None:
        check_column(features, requested, key="data.label_column", title=title)
        if not _is_label(features[requested], lambda: values(requested)):
            raise UserError(
                f"data.label_column '{requested}' of {title} contains no class labels: its type is"
                f" {_type_name(features[requested])}. Convert the labels to integers or class names."
            )
        return requested
    splits = [name for name, feature in features.items() if _is_string(feature) and _tells_splits(name, values(name))]
    if splits:
        _log.warning(
            "data: the column %s of %s tells the split of each image and is not read: the parts are those of folders or files"
            " (train, val, test), or are held out",
            quoted(splits),
            title,
        )
    candidates = [
        name
        for name, feature in features.items()
        if not is_index(name) and name not in splits and _is_label(feature, lambda name=name: values(name))  # type: ignore[misc]
    ]
    chosen = _likely_labels(features, candidates, values)
    if _is_replaced_label(features, candidates, chosen, labeled=labeled, title=title):
        return None
    return _only_column(features, chosen, labeled=labeled, title=title)


def _is_replaced_label(
    features: Mapping[str, Any], candidates: list[str], chosen: list[str], *, labeled: bool, title: str
) -> bool:
    """Return, after a warning, whether a column with a usual name holds no labels, so that another would take its place.

    Raise UserError if `labeled`.
    """
    unusable = [name for name in features if is_usual_label(name) and name not in candidates]
    if unusable and chosen and not any(is_usual_label(name) or is_class_label(features[name]) for name in chosen):
        name, kind = unusable[0], _type_name(features[unusable[0]])
        message = f"data.label_column: the column '{name}' of {title} holds no class labels, its type is {kind}"
        if labeled:
            raise UserError(
                f"{message}. Convert it to integers or class names (one per image), or set data.label_column to another column:"
                f" {quoted(chosen)}."
            )
        _log.warning("%s. No labels are read; set data.label_column in both runs if another column has them", message)
        return True
    return False


def _only_column(features: Mapping[str, Any], chosen: list[str], *, labeled: bool, title: str) -> str | None:
    """Return the only column that may hold the labels.

    If there is none, or several, raise UserError if `labeled` and otherwise return None, with a warning if there are several.
    """
    if len(chosen) == 1:
        return chosen[0]
    if not labeled:
        if chosen:
            _log.warning(
                "data: %s has several label columns: %s. No labels are read, and the hold-outs differ from those of a run"
                " with labels; set data.label_column in both runs",
                title,
                quoted(chosen),
            )
        return None
    if not chosen:
        raise UserError(
            f"data.label_column: {title} has no label column, only {_describe_columns(features)}. Labels are required: add"
            " a column of class names or integers."
        )
    raise UserError(
        f"data.label_column: {title} has several label columns: {quoted(chosen)}. Set data.label_column to one of them."
    )


def _likely_labels(features: Mapping[str, Any], candidates: list[str], values: Callable[[str], Any]) -> list[str]:
    """Return the columns that may hold the labels; one if it is clear which."""
    declared = [name for name in candidates if is_class_label(features[name])]
    label = next((name for name in candidates if name.lower() == "label"), None)
    if label is not None and (label in declared or not declared):
        return [label]
    if declared:
        return [*declared] if label is None else [label, *declared]
    if usual := [name for name in candidates if is_usual_label(name)]:
        return usual
    if len(candidates) < 2:
        return candidates
    return [name for name in candidates if _repeats(values(name))] or candidates


def is_index(name: str) -> bool:
    """Return whether a column is the index that pandas wrote with a table."""
    return _INDEX_COLUMN.fullmatch(name) is not None


def is_usual_label(name: str) -> bool:
    """Return whether label columns are often called so."""
    return name.lower() in _USUAL_LABELS


def is_class_column(num_images: int, num_classes: int, column: str, *, labeled: bool, title: str) -> bool:
    """Return whether a column that was found by its type contains class labels, not ids or captions.

    If it does not, raise UserError if labels are required (`labeled`), otherwise log that none are read.
    """
    if num_classes <= 2 or num_classes <= _MAX_CLASSES_PER_IMAGE * num_images:
        return True
    if not labeled:
        _log.warning(
            "data: %s: the column '%s' has %d distinct values for %d images, too many for class labels. No labels are read, and the"
            " hold-outs are not by class; if there are labels, set data.label_column in the runs of both stages",
            title,
            column,
            num_classes,
            num_images,
        )
        return False
    raise UserError(
        f"data.label_column: the column '{column}' of {title} has {num_classes} distinct values for {num_images} images,"
        " too many for class labels. Set data.label_column to the label column, even if it is this one."
    )


def _dtype(feature: Any) -> str:
    """Return the Arrow type of a flat column; empty for nested ones."""
    return str(getattr(feature, "dtype", "")) if type(feature).__name__ == "Value" else ""


def _is_image(feature: Any) -> bool:
    """Return whether a column is declared as an Image feature."""
    return type(feature).__name__ == "Image"


def _is_encoded(feature: Any) -> bool:
    """Return whether a column contains bytes, alone or in a struct with a path: an image column without its declaration."""
    inner = feature.get("bytes") if isinstance(feature, Mapping) else feature
    return _dtype(inner) in ("binary", "large_binary", "binary_view")


def _is_integer(feature: Any) -> bool:
    """Return whether a column contains integers or booleans."""
    return _dtype(feature).startswith(("int", "uint", "bool"))


def _is_string(feature: Any) -> bool:
    """Return whether a column contains strings."""
    return _dtype(feature) in ("string", "large_string", "string_view")


def _is_label(feature: Any, values: Callable[[], Any]) -> bool:
    """Return whether a column can hold labels: declared classes, whole numbers, or text.

    Whole numbers may be stored as floats: pandas does so where one is missing.
    """
    if is_class_label(feature) or _is_integer(feature) or _is_string(feature):
        return True
    if not _dtype(feature).startswith(("float", "double")):
        return False
    distinct, _ = dictionary_encode(values())
    return any(not is_missing(value) for value in distinct) and all(
        value is None or math.isnan(value) or float(value).is_integer() for value in distinct
    )


def _tells_splits(name: str, column: Any) -> bool:
    """Return whether a column has the names of splits, train and others: `split`, `partition`, ..."""
    if name.lower() not in _SPLIT_COLUMNS:
        return False
    distinct, _ = dictionary_encode(column)
    roles = {split_role(str(value)) for value in distinct if value is not None}
    return len(roles) > 1 and None not in roles


def _repeats(column: Any) -> bool:
    """Return whether the values of a column repeat as classes do, unlike ids and captions."""
    distinct, codes = dictionary_encode(column)
    return 1 < len(distinct) <= max(2, _MAX_CLASSES_PER_IMAGE * len(codes))


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


def check_column(features: Mapping[str, Any], requested: str, *, key: str, title: str) -> None:
    """Raise UserError unless the table has the requested column."""
    if requested not in features:
        raise UserError(f"{key} is '{requested}', but {title} has the columns {_describe_columns(features)}.")
