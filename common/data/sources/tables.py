"""Tables of encoded images, read with Hugging Face datasets: parquet, arrow, `save_to_disk` and Hub datasets."""

import logging
import os
from bisect import bisect_right
from collections.abc import Collection, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.decode import ImageDecoder
from common.data.images.storage_failures import read_file
from common.data.sources.columns import (
    check_column,
    find_image_column,
    find_label_column,
    is_class_column,
)
from common.data.sources.groups import groups_of_column
from common.data.sources.label_values import read_labels
from common.data.sources.local_tables import open_in_place
from common.data.sources.missing_labels import are_labels_used
from common.data.sources.split import UNLABELED, Split
from common.data.sources.staging import stage_files
from common.errors import ProcessError, UserError

_log = logging.getLogger(__name__)


class Shard(NamedTuple):
    """Consecutive rows of a split that come from one file."""

    title: str
    """Name of the file in messages, by which a user finds it."""
    num_rows: int
    relative_name: str
    """Name of the file within the dataset, which does not depend on where the dataset is."""


class TableOptions(NamedTuple):
    """How tables are read: the names of the columns (None: detected by type), the decoder, and where the bytes are kept."""

    image_column: str | None
    label_column: str | None
    decoder: ImageDecoder
    memory_bytes: int
    """Size up to which parquet files are read into memory instead of being unpacked into a cache."""
    group_column: str | None = None
    keeps_unlabeled: bool = False
    """Whether images without a label keep their place beside labeled ones (data.unlabeled)."""
    stage_to: Path | None = None
    """Folder on a disk of the node to which shards are copied before they are read."""
    stage_bytes: int | None = None
    """Size that the copies of a server's shards do not exceed."""


class TableImages:
    """Encoded images of one column, read directly from the memory-mapped Arrow table. Nothing is decoded in advance."""

    def __init__(
        self, dataset: Any, column: str, shards: tuple[Shard, ...], base: Path, *, decoder: ImageDecoder
    ) -> None:
        self.decoder = decoder
        self._dataset = dataset
        self._column = column
        self._shards = shards
        self._shard_ends = list(accumulate(shard.num_rows for shard in shards))
        self._base = base
        self._open()

    def _open(self) -> None:
        """Find the chunks of the column, split into bytes and paths, and the end row of each."""
        chunks = [chunk for chunk in self._dataset.data.column(self._column).chunks if len(chunk)]
        self._chunks = [_bytes_and_paths(chunk) for chunk in chunks]
        self._chunk_ends = list(accumulate(len(chunk) for chunk in chunks))
        assert (self._chunk_ends or [0])[-1] == len(self._dataset), "the table must not be reordered"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the chunks: a worker process maps the files itself instead of receiving a copy."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_chunks", "_chunk_ends")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and map the files again."""
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._dataset)

    def decode(self, index: int) -> ImageArray:
        """Decode the image of row `index`."""
        return self.decoder.decode(self._read(index), self.name(index))

    def name(self, index: int) -> str:
        """Return the title of the shard and the row in it, counted from 0."""
        shard, row = self._shard_and_row(index)
        return f"{shard.title} row {row}"

    def _shard_and_row(self, index: int) -> tuple[Shard, int]:
        """Return the shard of row `index`, and the row in it, counted from 0."""
        number = bisect_right(self._shard_ends, index)
        return self._shards[number], index - (self._shard_ends[number - 1] if number else 0)

    def file_names(self) -> list[str | None]:
        """Return the path stored in each row, or None."""
        names: list[str | None] = []
        for data, paths in self._chunks:
            names += [None] * len(data) if paths is None else paths.to_pylist()
        return names

    def image_ids(self) -> list[str]:
        """Return the path stored in each row, relative if it is absolute; for a row without a path, the shard and the row.

        Absolute paths are those of the machine that wrote or opened the table: they are relative to the folder they have in common.
        """
        names = self.file_names()
        folders = {os.path.dirname(name) for name in names if name is not None and os.path.isabs(name)}
        root = os.path.commonpath(folders) if folders else ""
        return [
            self._row_id(index) if name is None else os.path.relpath(name, root) if os.path.isabs(name) else name
            for index, name in enumerate(names)
        ]

    def _row_id(self, index: int) -> str:
        """Return the name of a row without a path: the shard within the dataset and the row in it."""
        shard, row = self._shard_and_row(index)
        return f"{shard.relative_name} row {row}"

    def shard_numbers(self) -> npt.NDArray[np.int64]:
        """Return the number of each row's file."""
        return np.repeat(np.arange(len(self._shards)), [shard.num_rows for shard in self._shards])

    def content(self, index: int) -> bytes:
        """Return the encoded bytes of row `index`."""
        try:
            return self._read(index)
        except ProcessError:
            raise
        except UserError:
            return b""

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        """Return the bytes and the path stored in row `index`."""
        number = bisect_right(self._chunk_ends, index)
        data, paths = self._chunks[number]
        row = index - (self._chunk_ends[number - 1] if number else 0)
        return data[row].as_py(), None if paths is None else paths[row].as_py()

    def _read(self, index: int) -> bytes:
        """Return the encoded bytes of row `index`, read from the file at its path if the row stores no bytes."""
        data, path = self._row(index)
        if data is not None:
            return data
        if path is None:
            raise UserError(f"{self.name(index)}: the row contains no image. Remove it.")
        try:
            return read_file(self._base / path)
        except OSError as error:
            raise UserError(
                f"{self.name(index)}: the row contains no bytes, only the path {path}, which cannot be read"
                f" ({error.strerror or error}). Embed the images with datasets.table.embed_table_storage when writing."
            ) from error


def _bytes_and_paths(chunk: Any) -> tuple[Any, Any | None]:
    """Return the Arrow arrays of bytes and of paths (None if there are none) of a chunk of an image column."""
    import pyarrow

    if not pyarrow.types.is_struct(chunk.type):
        return chunk, None
    fields = dict(
        zip([chunk.type.field(number).name for number in range(chunk.type.num_fields)], chunk.flatten(), strict=True)
    )
    return fields["bytes"], fields.get("path")


class TableSource:
    """Splits of Hugging Face datasets. Paths stored in rows are relative to the folder `base`.

    `mapped` are the splits of arrow files that are read where they lie, and so from their copies on the node, if there are any.
    """

    def __init__(
        self,
        title: str,
        datasets: Mapping[str, Any],
        shards: Mapping[str, tuple[Shard, ...]],
        options: TableOptions,
        *,
        base: Path,
        mapped: Collection[str] = (),
    ) -> None:
        self.title = title
        self._datasets = datasets
        self._shards = shards
        self._options = options
        self._base = base
        self._mapped = frozenset(mapped)

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return tuple(self._datasets)

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return split `name` with its labels; raise UserError if its columns are ambiguous or labels are missing.

        If labels are not required, a split with missing labels is returned without labels, unless unlabeled images are kept.
        """
        title = f"the split '{name}' of {self.title}"
        dataset = self._open(name, title)
        column = find_image_column(dataset.features, self._options.image_column, title=title)
        images = TableImages(dataset, column, self._shards[name], self._base, decoder=self._options.decoder)
        group_column = self._options.group_column
        others = (column, group_column)
        other_features = {key: feature for key, feature in dataset.features.items() if key not in others}
        label_column = find_label_column(
            other_features, self._options.label_column, labeled=labeled, title=title, values=dataset.data.column
        )
        groups = None
        if group_column is not None:
            check_column(dataset.features, group_column, key="data.group_column", title=title)
            groups = groups_of_column(dataset.data.column(group_column), group_column, images.name, title)
        unlabeled = Split(images=images, labels=None, class_names=(), groups=groups)
        if label_column is None:
            return unlabeled
        labels, class_names = read_labels(
            dataset.data.column(label_column),
            other_features[label_column],
            title=f"data.label_column: the column '{label_column}' of {title}",
        )
        if not are_labels_used(
            labels,
            labeled=labeled,
            keeps_unlabeled=self._options.keeps_unlabeled,
            column=label_column,
            title=title,
            name_of=images.name,
        ):
            return unlabeled
        present = labels[labels != UNLABELED]
        if self._options.label_column is None and not is_class_column(
            len(present), int(np.count_nonzero(np.bincount(present))), label_column, labeled=labeled, title=title
        ):
            return unlabeled
        _log.info("data: %s: images from the column '%s', labels from '%s'", title, column, label_column)
        return Split(images=images, labels=labels, class_names=class_names, groups=groups)

    def _open(self, name: str, title: str) -> Any:
        """Return the table of a split: mapped files are read in their copies on the node, if there are to be any."""
        if self._options.stage_to is None or name not in self._mapped:
            return self._datasets[name]
        files = [Path(shard.title) for shard in self._shards[name]]
        copies = stage_files(files, self._base, self._options.stage_to, title=title)
        opened = open_in_place({name: copies}, limit_bytes=self._options.memory_bytes)
        assert opened is not None, "copies of files that can be mapped"
        return opened[name]
