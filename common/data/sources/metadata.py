"""Image folders whose labels are in a list beside the images: metadata.csv, .jsonl or .parquet, or a file of the user's."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.columns import (
    find_label_column,
    is_class_column,
)
from common.data.sources.folders import SplitFolders
from common.data.sources.groups import listed_groups, path_key, path_keys
from common.data.sources.label_values import read_labels
from common.data.sources.listing import Listing
from common.data.sources.metadata_files import MetadataFile
from common.data.sources.missing_labels import are_labels_used, is_unlabeled_name
from common.data.sources.split import UNLABELED, Split
from common.data.sources.split_names import split_role
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)


def split_groups(
    files: Sequence[MetadataFile], group_column: str | None
) -> tuple[list[MetadataFile], dict[str, str | None]]:
    """Return the files without the column of the groups, and the group of each listed image by its path."""
    rest, groups = list[MetadataFile](), dict[str, str | None]()
    for file in files:
        if group_column is not None:
            if group_column not in file.table.column_names or group_column == file.file_column:
                raise UserError(
                    f"data.group_column is '{group_column}', but {file.path} has the columns"
                    f" {quoted(file.table.column_names)}. Set it to the one of the groups."
                )
            paths = file.table.column(file.file_column).to_pylist()
            groups |= listed_groups(paths, file.table.column(group_column), file.path.parent)
            file = file._replace(table=file.table.drop_columns([group_column]))
        rest.append(file)
    return rest, groups


class MetadataSource:
    """A folder of images with metadata files, which give the labels. The splits are those of the folders (`SplitFolders`).

    Images that are not listed are skipped, unless they are in a folder called unlabeled, or `keeps_unlabeled` (data.unlabeled).
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[MetadataFile],
        *,
        decoder: ImageDecoder,
        label_column: str | None,
        declared: Sequence[str] = (),
        left_out: Sequence[str] = (),
        keeps_unlabeled: bool = False,
    ) -> None:
        self._files, self._decoder, self._label_column = files, decoder, label_column
        self._keys = [path_keys(file.table.column(file.file_column).to_pylist(), file.path.parent) for file in files]
        self._keeps_unlabeled = keeps_unlabeled
        self._listing = Listing(root, left_out, decoder.reads_arrays)
        self._splits = SplitFolders(root, self._listing, declared=declared)
        self.title = f"the folder {self._splits.root} with {quoted([file.path.name for file in files[:1]])}"

    def names(self) -> tuple[str, ...]:
        """Return the names of the split folders, or 'train' if there are none, and of folders called unlabeled beside them."""
        return (*self._splits.paths, *self._splits.unlabeled)

    def unused_names(self) -> list[str]:
        """Return the names to be left out that nothing had in the splits that were read."""
        return self._listing.unused()

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return the listed images of split `name` with their labels, sorted by path; raise UserError if labels are missing."""
        if name in self._splits.unlabeled:
            return self._splits.read_unlabeled(name, self._decoder)
        folder = self._splits.paths[name]
        title = f"the split '{name}' of {self.title}"
        listed, column, feature, label_column = self._rows(folder, title, labeled=labeled)
        paths = self._listing.images(folder)
        self._listing.inner.clear()
        if not listed:
            return self._unlisted(folder, paths)
        rows = [listed.pop(key, -1) for key in path_keys(paths, folder)]
        apart = _set_apart(paths, rows)
        kept = [row >= 0 or self._keeps_unlabeled or beside for row, beside in zip(rows, apart, strict=True)]
        if unlisted := kept.count(False):
            self._listing.skipped["images that are not in the metadata"] += unlisted
        for file in self._files:
            if file.path.parent.is_relative_to(folder):
                self._listing.skipped -= Counter({file.path.suffix.lower(): 1})
        self._listing.log_skipped(str(folder))
        if listed:
            missing = [os.path.relpath(path, folder) for path in listed]
            raise UserError(
                f"data.source: {len(missing)} of the images that the metadata of {folder} lists do not exist there:"
                f" {quoted(missing, limit=3)}. Restore them, or remove them from the list."
            )
        images = FileImages(folder, list(compress(paths, kept)), decoder=self._decoder)
        unlabeled = Split(images=images, labels=None, class_names=())
        if label_column is None:
            return unlabeled
        where = f"data.label_column: the column '{label_column}' of {title}"
        by_row, class_names = read_labels(column, feature, title=where)
        labels = np.array([by_row[row] if row >= 0 else UNLABELED for row in compress(rows, kept)], dtype=np.int64)
        expected = np.flatnonzero(~np.array(list(compress(apart, kept)), dtype=bool) | (labels != UNLABELED))
        if not are_labels_used(
            labels[expected],
            labeled=labeled,
            keeps_unlabeled=self._keeps_unlabeled,
            column=label_column,
            title=title,
            name_of=lambda index: images.name(int(expected[index])),
        ):
            return unlabeled
        present = labels[labels != UNLABELED].tolist()
        if self._label_column is None and not is_class_column(
            len(present), len(set(present)), label_column, labeled=labeled, title=title
        ):
            return unlabeled
        _log.info("data: %s: labels from the column '%s'", title, label_column)
        return Split(images=images, labels=labels, class_names=class_names)

    def _unlisted(self, folder: Path, paths: Sequence[str]) -> Split:
        """Return the images of a split that no list has, as of published test images; raise UserError for training images."""
        self._listing.log_skipped(str(folder))
        lists = quoted([str(file.path) for file in self._files], limit=3)
        if not paths or len(self._splits.paths) == 1 or split_role(folder.name) == "train":
            raise UserError(
                f"data.source: none of the {len(paths)} images in {folder} ({quoted(paths, limit=1)}) is listed in {lists}. Correct"
                " the names in the list, or set data.metadata_file and data.image_column to the file and its column of file names."
            )
        _log.warning(
            "data: none of the %d images in %s is listed in %s: they have no labels", len(paths), folder, lists
        )
        images = FileImages(folder, paths, decoder=self._decoder)
        return Split(images=images, labels=None, class_names=())

    def _rows(self, folder: Path, title: str, *, labeled: bool) -> tuple[dict[str, int], Any, Any, str | None]:
        """Return the row of each listed path in `folder`, and the label column of all rows, its feature and its name."""
        import pyarrow
        from datasets import Features

        parts, listed, count, above = [], dict[str, int](), 0, path_key(folder)
        for file, keys in zip(self._files, self._keys, strict=True):
            indices = []
            for index, (text, key) in enumerate(
                zip(file.table.column(file.file_column).to_pylist(), keys, strict=True)
            ):
                if not _is_below(key, above):
                    continue
                if key in listed:
                    raise UserError(f"data.source: {file.path} lists '{text}' a second time. Remove one of the rows.")
                listed[key] = count
                indices.append(index)
                count += 1
            parts.append(file.table.take(pyarrow.array(indices, pyarrow.int64())).drop_columns([file.file_column]))
        if not listed:
            return listed, None, None, None
        try:
            table = pyarrow.concat_tables(
                [part for part in parts if len(part)] or parts[:1], promote_options="permissive"
            )
        except pyarrow.ArrowException as error:
            raise UserError(
                f"data.source: the metadata files of {folder} have columns of different types ({error}). Make them the same."
            ) from error
        features = Features.from_arrow_schema(table.schema)
        name = find_label_column(features, self._label_column, labeled=labeled, title=title, values=table.column)
        return listed, table.column(name) if name else None, features[name] if name else None, name


def _set_apart(paths: Sequence[str], rows: Sequence[int]) -> list[bool]:
    """Return which images lie in a folder called unlabeled; none if all that are listed do."""
    named = [is_unlabeled_name(path.partition("/")[0]) and "/" in path for path in paths]
    has_others = any(row >= 0 and not is_named for row, is_named in zip(rows, named, strict=True))
    return [is_named and has_others for is_named in named]


def _is_below(key: str, folder: str) -> bool:
    """Return whether a path lies in a folder."""
    return key.startswith(folder.rstrip("/") + "/")
