"""Which gives the labels where class folders and a list of labels lie side by side: the folders, the list, or a question."""

import logging
import os
import re
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from common.data.sources.columns import (
    is_index,
    is_usual_label,
)
from common.data.sources.folders import FolderSource
from common.data.sources.listing import normalized
from common.data.sources.metadata_files import MetadataFile
from common.data.sources.split_names import split_role
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

_FRACTION = re.compile(r"[-+]?\d*\.\d*(e[-+]?\d+)?", re.IGNORECASE)


def labels_of_folders(source: FolderSource, files: Sequence[MetadataFile], label_column: str | None) -> bool:
    """Return whether the class folders give the labels, not the metadata files beside them; log what is not read.

    They do if the training split has several class folders and the configuration names no column of the metadata. Raise UserError
    if lists of all classes have a column that may be the labels (a usual name, or values that repeat) and contradicts the folders.
    """
    train = next((name for name in source.names() if name == "train" or split_role(name) == "train"), source.names()[0])
    classes = source.class_folders(train)
    if label_column is not None or len(classes) < 2:
        return False
    rows = [(file, text) for file in files for text in file.table.column(file.file_column).to_pylist()]
    class_folder = cache(partial(_class_folder, source.root))  # most images share their folder with others
    folders = [class_folder(os.path.dirname(os.path.join(file.path.parent, str(text)))) for file, text in rows]
    if set(classes) <= set(folders):
        for column in sorted({name for file in files for name in file.table.column_names if name != file.file_column}):
            values = [
                value
                for file in files
                for value in (
                    file.table.column(column).to_pylist()
                    if column in file.table.column_names
                    else [None] * len(file.table)
                )
            ]
            if _may_be_labels(column, values) and not _is_same_partition(folders, values):
                raise UserError(
                    f"data.label_column: the column '{column}' of {files[0].path} and the class folders contradict each other."
                    f" Set data.label_column={column} for the labels of the file, or data.kind=class_folders for the folders."
                )
    for file in files:
        columns = [name for name in file.table.column_names if name != file.file_column]
        _log.info("data: the classes are the folders; %s (columns %s) is not read", file.path, quoted(columns))
    return True


def _class_folder(root: Path, folder: str) -> str:
    """Return the class folder of the images in `folder`: the folder below that of its split."""
    inner = [part for part in Path(os.path.relpath(folder, root)).parts if not split_role(part)] or [""]
    return normalized(inner[0])


def _may_be_labels(column: str, values: Sequence[Any]) -> bool:
    """Return whether a column may hold labels: by its name, or because it holds words or whole numbers that repeat."""
    if is_usual_label(column):
        return True
    distinct = {
        int(value) if isinstance(value, float) and value.is_integer() else value
        for value in values
        if value is not None and value == value  # pandas writes whole numbers as floats, and a missing one as NaN
    }
    is_discrete = all(isinstance(value, str | int) and not _FRACTION.fullmatch(str(value)) for value in distinct)
    return is_discrete and not is_index(column) and 1 < len(distinct) <= max(2, len(values) // 2)


def _is_same_partition(folders: Sequence[str], values: Sequence[Any]) -> bool:
    """Return whether folders and values divide the images into the same classes."""
    pairs = set(zip(folders, map(str, values), strict=True))
    return len(pairs) == len({folder for folder, _ in pairs}) == len({value for _, value in pairs})
